"""Agents: what runs one rollout. A function or a class of the user's, brought into one form."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeGuard, TypeVar, overload

import msgspec

from lightactors.errors import ContractError
from lightactors.training.blocking import run_blocking
from lightactors.training.records import (
    LLM,
    AttemptedRollout,
    Mode,
    PromptTemplate,
    ProxyLLM,
    Resource,
    Resources,
    Rollout,
    Span,
)

C = TypeVar("C")
T = TypeVar("T")

AgentResult: TypeAlias = float | Sequence[Span] | None
"""What an agent returns: its reward (an int or a bool too), spans of its own making, or nothing."""

F = TypeVar("F", bound=Callable[..., AgentResult | Awaitable[AgentResult]])


class Agent(Generic[T]):
    """Base of agents that are classes, for those who like one: any class with these methods will do.

    `rollout(self, task, ...)` runs a rollout; `training_rollout` those of mode "train" and
    `validation_rollout` those of mode "val" and "test", where they exist. Each may instead be async under
    its name with `_async` at the end. What their other parameters are filled with is said at `agent`.
    """


@overload
def agent(target: type[C]) -> type[C]: ...  # type: ignore[overload-overlap]
@overload
def agent(target: F) -> F: ...
def agent(target: Any) -> Any:
    """Make a function or a class an agent; it stays what it is, and may be called and tested as that.

    The first parameter gets the rollout's task. Tasks come back from a file, and reach other processes, as plain data:
    annotated as a dataclass or msgspec struct, it is one again. The others are filled by name or annotation:

    - `resources`, or annotated `Resources`: all of them, by name;
    - `rollout`, or annotated `Rollout` or `AttemptedRollout`: the rollout with its attempt;
    - `llm`, or annotated `LLM`: the LLM of the parameter's name, or else the first one. A `ProxyLLM` comes as
      a plain LLM whose URL carries the ids, unless the annotation is `ProxyLLM`;
    - `prompt_template`, or annotated `PromptTemplate`: likewise;
    - any other: the resource of its name.

    A parameter with a default, or that may be None, need not have its resource. A plain `def` runs in a worker
    thread. It returns a reward, spans or None; what it raises makes the attempt `failed`. Of a class, each
    runner makes an instance of its own. Raises `ContractError` for what can't be an agent.
    """
    as_agent(target)
    return target


def is_agent(thing: object) -> bool:
    """Tell whether something is an agent: a function, or has an agent's methods."""
    return isinstance(thing, PreparedAgent) or _is_function(thing) or _has_methods(thing)


def as_agent(thing: object) -> PreparedAgent:
    """Bring an agent into the form that runners use; raise `ContractError` for what is none."""
    if isinstance(thing, PreparedAgent):
        return thing
    if isinstance(thing, type) and _has_methods(thing):
        return _AgentClass(thing)
    if _has_methods(thing):
        return PreparedAgent(thing, type(thing).__name__, _entries(thing))
    if _is_function(thing):
        entry = Entry.of(thing)
        return PreparedAgent(thing, entry.name, {"rollout": entry})
    raise ContractError(
        f"{thing!r} is no agent; give a function `answer(task, ...)`, or a class with `rollout` or `rollout_async`"
    )


def _is_function(thing: object) -> TypeGuard[Callable[..., Any]]:
    return inspect.isroutine(thing) or isinstance(thing, functools.partial)


_METHODS = ("rollout", "training_rollout", "validation_rollout")

_METHODS_BY_MODE: Mapping[Mode | None, Sequence[str]] = {
    "train": ("training_rollout", "rollout"),
    "val": ("validation_rollout", "rollout"),
    "test": ("validation_rollout", "rollout"),
    None: ("rollout", "validation_rollout", "training_rollout"),
}


def _has_methods(thing: object) -> bool:
    return any(_method(thing, name) is not None for name in _METHODS)


def _method(thing: object, name: str) -> Callable[..., Any] | None:
    for spelling in (f"{name}_async", name):
        method: Any = getattr(thing, spelling, None)
        if callable(method):
            return typing.cast("Callable[..., Any]", method)
    return None


def _entries(thing: object) -> dict[str, Entry]:
    methods = {name: _method(thing, name) for name in _METHODS}
    return {name: Entry.of(method) for name, method in methods.items() if method is not None}


class PreparedAgent:
    """An agent in the form that runners use. `given` is what the user made, `name` what logs call it."""

    def __init__(self, given: object, name: str, entries: Mapping[str, Entry]) -> None:
        self.given = given
        self.name = name
        self._entries = entries

    def own(self) -> PreparedAgent:
        """Return the agent for one runner: of a class, an instance that no other runner has."""
        return self

    async def run(self, task: object, resources: Resources, rollout: AttemptedRollout) -> object:
        """Run one rollout and return what the agent returned."""
        entry = self._entry(rollout.mode)
        arguments = entry.arguments(self.name, resources, rollout)
        task = entry.task_of(task)
        if entry.is_async:
            return await entry.function(task, **arguments)
        call = functools.partial(entry.function, task, **arguments)
        # In a tuple, because trio refuses to hand an awaitable out of a thread.
        (result,) = await run_blocking(lambda: (call(),), who=f"agent {self.name} on rollout {rollout.rollout_id}")
        return await result if inspect.isawaitable(result) else result

    def _entry(self, mode: Mode | None) -> Entry:
        for name in _METHODS_BY_MODE[mode]:
            if name in self._entries:
                return self._entries[name]
        raise ContractError(
            f"agent {self.name} has only {', '.join(self._entries)}, nothing for mode {mode!r}; add a `rollout`"
        )

    def __reduce__(self) -> tuple[Callable[..., PreparedAgent], tuple[object]]:
        return as_agent, (self.given,)  # to another process it goes as what the user made

    def __repr__(self) -> str:
        return f"<agent {self.name}>"


class _AgentClass(PreparedAgent):
    """A class that each runner makes an instance of."""

    def __init__(self, cls: type[Any]) -> None:
        # Read from the class already, so that a wrong signature is refused before anything runs.
        super().__init__(cls, cls.__name__, _entries(_Unbound(cls)))
        self._cls = cls

    def own(self) -> PreparedAgent:
        try:
            inspect.signature(self._cls).bind()
        except TypeError as error:
            raise ContractError(f"agent {self.name} can't be made: {error}; give an instance instead") from None
        return as_agent(self._cls())

    async def run(self, task: object, resources: Resources, rollout: AttemptedRollout) -> object:
        return await self.own().run(task, resources, rollout)


class _Unbound:
    """Shows the methods of a class without their self."""

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(self._cls, name)
        is_plain = inspect.isfunction(inspect.getattr_static(self._cls, name))
        return types.MethodType(method, self) if is_plain else method


Filler: TypeAlias = Callable[[Resources, AttemptedRollout], object]
"""Finds a parameter's value; raises KeyError where there is none."""


@dataclass(frozen=True)
class Entry:
    """A function of an agent, and how its parameters after the task are filled."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    task_of: Callable[[Any], object]  # what the function gets for what the store gave
    fillers: Mapping[str, Filler]
    optional: Mapping[str, object]  # parameters that need not be found, and what they are then

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Entry:
        name = _name_of(function)
        task, *others = _parameters(name, function)
        hints = _hints(function)
        return cls(
            name=name,
            function=function,
            is_async=inspect.iscoroutinefunction(function),
            task_of=_task_of(hints.get(task.name)),
            fillers={other.name: _filler(other.name, hints.get(other.name)) for other in others},
            optional={
                other.name: None if other.default is other.empty else other.default
                for other in others
                if other.default is not other.empty or type(None) in typing.get_args(hints.get(other.name))
            },
        )

    def arguments(self, agent: str, resources: Resources, rollout: AttemptedRollout) -> dict[str, object]:
        """Return the arguments after the task; raise `ContractError` for a resource that is missing."""
        arguments: dict[str, object] = {}
        for name, fill in self.fillers.items():
            try:
                arguments[name] = fill(resources, rollout)
            except KeyError as error:
                if name not in self.optional:
                    raise ContractError(
                        f"agent {agent} asks for {name!r}, but there is no {error.args[0]} among the resources of "
                        f"rollout {rollout.rollout_id!r}, which are {', '.join(map(repr, resources)) or 'none'}; "
                        "add it to the resources, or give the parameter a default"
                    ) from None
                arguments[name] = self.optional[name]
        return arguments


def _name_of(function: Callable[..., Any]) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    return str(getattr(inner, "__name__", inner))


def _parameters(name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the task's parameter and those to be filled; raise `ContractError` if that can't work."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ContractError(f"agent {name} is a generator; return the reward, and emit what comes before it")
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise ContractError(f"agent {name} takes no task; declare it as `{name}(task, ...)`")
    for parameter in parameters[1:]:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ContractError(
                f"parameter {parameter.name!r} of agent {name} is filled by name; move the '/' before it"
            )
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    bound = function.keywords if isinstance(function, functools.partial) else {}
    return [parameter for parameter in parameters if parameter.kind not in variable and parameter.name not in bound]


def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    inner = function.func if isinstance(function, functools.partial) else function
    try:
        return typing.get_type_hints(inner)
    except Exception:
        # A name that exists only for type checkers. The annotations that count here are known by their names.
        texts: Mapping[str, Any] = getattr(inner, "__annotations__", {})
        return {name: _HINT_BY_TEXT.get(str(text).rpartition(".")[2]) for name, text in texts.items()}


def _task_of(hint: Any) -> Callable[[Any], object]:
    """Return what makes a task a dataclass or struct again, where it was one before it went to disk or travelled."""
    if not isinstance(hint, type) or not (dataclasses.is_dataclass(hint) or issubclass(hint, msgspec.Struct)):
        return lambda task: task
    return lambda task: msgspec.convert(task, hint) if type(task) is dict else task


def _filler(name: str, hint: Any) -> Filler:
    hint = _without_none(hint)
    if name in _FILLER_BY_NAME:
        return _FILLER_BY_NAME[name]
    for known, filler in _FILLER_BY_HINT:
        if hint == known:
            return filler
    kind = hint if hint in _KINDS else _KIND_BY_NAME.get(name)
    return _named(name) if kind is None else _of_kind(name, kind)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        return members[0] if len(members) == 1 else hint
    return hint


def _all(resources: Resources, rollout: AttemptedRollout) -> Resources:
    return resources


def _rollout(resources: Resources, rollout: AttemptedRollout) -> AttemptedRollout:
    return rollout


def _named(name: str) -> Filler:
    def find(resources: Resources, rollout: AttemptedRollout) -> object:
        if name not in resources:
            raise KeyError(f"{name!r}")
        return _ready(resources[name], rollout)

    return find


def _of_kind(name: str, kind: type[LLM] | type[PromptTemplate]) -> Filler:
    def find(resources: Resources, rollout: AttemptedRollout) -> object:
        candidates = [resource for resource in (resources.get(name), *resources.values()) if isinstance(resource, kind)]
        if not candidates:
            raise KeyError(kind.__name__)
        return candidates[0] if kind is ProxyLLM else _ready(candidates[0], rollout)

    return find


def _ready(resource: Resource, rollout: AttemptedRollout) -> Resource:
    return resource.with_attempted_rollout(rollout) if isinstance(resource, ProxyLLM) else resource


_FILLER_BY_NAME: Mapping[str, Filler] = {"resources": _all, "rollout": _rollout}
_FILLER_BY_HINT: Sequence[tuple[Any, Filler]] = ((Resources, _all), (Rollout, _rollout), (AttemptedRollout, _rollout))
_KINDS = (LLM, ProxyLLM, PromptTemplate)
_KIND_BY_NAME: Mapping[str, type[LLM] | type[PromptTemplate]] = {"llm": LLM, "prompt_template": PromptTemplate}
_HINT_BY_TEXT: Mapping[str, Any] = {
    "Resources": Resources,
    **{kind.__name__: kind for kind in (LLM, ProxyLLM, PromptTemplate, Rollout, AttemptedRollout)},
}
