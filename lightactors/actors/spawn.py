"""Spawning: from a class or behaviour, its arguments and options to a running actor and its ref."""

from __future__ import annotations

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar, cast, get_args, overload

import anyio

from lightactors.actors import cycles, loops
from lightactors.actors.behaviours import BehaviourCell
from lightactors.actors.cell import Cell
from lightactors.actors.mailbox import Ask
from lightactors.actors.owner import Owner, State
from lightactors.actors.ref import ActorRef, AnyRef, Ref, cell_within, introduce
from lightactors.actors.stopping import stop_all
from lightactors.actors.threads import LoopThread
from lightactors.contract import Behaviour, contract_of
from lightactors.errors import ConfigurationError, SpawnError, WrongCall

C = TypeVar("C")
M = TypeVar("M")
P = ParamSpec("P")

Place = Literal["task", "thread"]
"""Where an actor lives: in the spawner's loop, or in a thread with a loop of its own."""

_serial = itertools.count(1)


class Spawner(ABC):
    """Who can spawn: options, a system, or the module itself."""

    __slots__ = ()

    @abstractmethod
    def owner(self) -> Owner:
        """Return whose child the new actor will be."""

    def options(
        self, *, name: str | None = None, place: Place = "task", mailbox: float = 1000, replace: bool = False
    ) -> Options:
        """Return a spawner with other options.

        - `name`: unique among the owner's children; default: the class's name and a number. If the same kind
          of actor runs under it already, `spawn` returns that one, so that a notebook cell may be run again.
        - `replace`: stop the actor of that name first, instead of returning it.
        - `place`: `"task"`, in the spawner's loop; `"thread"`, in a thread with a loop of its own.
        - `mailbox`: how many messages may wait; senders then wait too.
        """
        return Options(self.owner, name, place, mailbox, replace)

    @overload
    async def spawn(self, actor: Behaviour[M, P], /, *args: P.args, **kwargs: P.kwargs) -> Ref[M]: ...
    @overload
    async def spawn(self, actor: Callable[P, C], /, *args: P.args, **kwargs: P.kwargs) -> C: ...
    async def spawn(self, actor: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Start an actor and return its ref, once it is ready for messages.

        To a type checker the ref of a class is an instance of it. The arguments are those of the class, or of
        the behaviour after its mailbox. Raises `SpawnError` from what `__init__` or `on_start` raised.
        """
        options = self if isinstance(self, Options) else self.options()
        return await _spawn(options, _recipe(actor, args, kwargs))

    async def adopt(self, instance: C, /) -> C:
        """Give an existing instance of an actor class a mailbox, and return its ref.

        From now on only the ref may be used: the instance belongs to its actor. Raises `SpawnError` for one that
        an actor has already.
        """
        _refuse_what_is_adopted(instance)
        options = self if isinstance(self, Options) else self.options()
        ref = await _spawn(options, _Recipe(type(instance), lambda: instance))
        return cast("C", ref)


def _refuse_what_is_adopted(instance: object) -> None:
    cell = cell_within(instance)
    if cell is not None and cell.state < State.STOPPED:
        raise SpawnError(f"{instance!r} is an actor already, {cell.ref!r}; use that ref, or stop it first")


@dataclasses.dataclass(frozen=True, slots=True)
class Options(Spawner):
    """How and where to spawn (see `options`)."""

    _owner: Callable[[], Owner]
    name: str | None
    place: Place
    mailbox: float
    replace: bool

    def __post_init__(self) -> None:
        if self.place not in get_args(Place):
            raise ConfigurationError(f"place={self.place!r} is unknown; choose from {', '.join(get_args(Place))}")
        if not _is_room(self.mailbox):
            raise ConfigurationError(f"mailbox={self.mailbox!r}; give the number of messages that may wait, at least 1")
        if self.name is not None and not _is_name(self.name):
            raise ConfigurationError(
                f"name={self.name!r} can't be part of an address; leave out '/', and don't be empty"
            )

    def owner(self) -> Owner:
        return self._owner()


def _is_room(value: object) -> bool:
    return isinstance(value, (int, float)) and value >= 1


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and "/" not in value


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """What to make: a kind of actor and how to make one."""

    kind: Any
    make: Callable[[], Any] | None
    arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})

    @property
    def name(self) -> str:
        name: str = self.kind.name if self.make is None else self.kind.__name__
        return name

    def cell(self, name: str, owner: Owner, loop: loops.Loop, options: Options) -> Cell:
        """Make the cell and its actor; on the actor's loop."""
        if self.make is None:
            behaviour = BehaviourCell(name, owner, loop, options.place, options.mailbox)
            behaviour.run(self.kind, *self.arguments)
            behaviour.ref = Ref[Any](behaviour)
            return behaviour
        cell = Cell(name, owner, loop, options.place, options.mailbox)
        actor = self.make()
        cell.embody(contract_of(self.kind), actor)
        cell.ref = ActorRef(cell)
        introduce(actor, cell)
        return cell


def _recipe(actor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Recipe:
    if isinstance(actor, Behaviour):
        actor.check_arguments(args, kwargs)
        return _Recipe(actor, None, (args, kwargs))
    contract_of(actor)

    def make() -> Any:
        try:
            return actor(*args, **kwargs)
        except Exception as error:
            if isinstance(error, TypeError) and error.__traceback__ and error.__traceback__.tb_next is None:
                raise WrongCall(f"{actor.__name__} can't be made of these arguments: {error}") from None
            raise SpawnError(f"{actor.__name__} failed in __init__: {error!r}") from error

    return _Recipe(actor, make)


async def _spawn(options: Options, recipe: _Recipe) -> AnyRef:
    owner = options.owner()
    name = options.name or f"{recipe.name.lower()}-{next(_serial)}"
    if (holder := owner.children.get(name)) is not None:
        if options.replace or holder.mailbox.closed:  # closed: on its way out, which is let be first
            await stop_all([holder], owner.system.grace)
        elif _is_same_kind(holder, recipe):
            return holder.ref
    if options.place == "thread":
        return await _spawn_in_thread(owner, name, options, recipe)
    started = Ask()
    cell = recipe.cell(name, owner, loops.current(), options)
    owner.enter(cell)
    cell.begin(started)
    return await _ready(cell, started)


def _is_same_kind(cell: Cell, recipe: _Recipe) -> bool:
    kind = cell.behaviour.function if isinstance(cell, BehaviourCell) else cell.contract.actor
    wanted = recipe.kind.function if recipe.make is None else recipe.kind
    # By name, not identity: a notebook cell that is run again defines the class anew.
    return (kind.__module__, kind.__qualname__) == (wanted.__module__, wanted.__qualname__)


async def _spawn_in_thread(owner: Owner, name: str, options: Options, recipe: _Recipe) -> AnyRef:
    thread = LoopThread(f"actor {owner.path}/{name}", loops.current().backend)
    loop = await thread.open()
    made = Ask()
    started = Ask()

    def make() -> None:
        try:
            cell = recipe.cell(name, owner, loop, options)
            cell.lives_in(thread)
            owner.enter(cell)
        except BaseException as error:
            thread.release()
            made.fail(error)
        else:
            made.answer(cell)
            cell.begin(started)

    loop.post(make)
    cell: Cell = await _uninterrupted(made)
    return await _ready(cell, started)


async def _uninterrupted(made: Ask) -> Any:
    # A few milliseconds, unless __init__ itself takes long; given up in between, the cell would be nobody's.
    with anyio.CancelScope(shield=True):
        return await made.reply()
    return None


async def _ready(cell: Cell, started: Ask) -> AnyRef:
    asker = cycles.holder.get()
    if asker is not None:
        cycles.enter(asker, cell, started)
    try:
        await started.reply()
    except Exception as error:
        await stop_all([cell], cell.system.grace)
        raise SpawnError(f"{cell.kind} {cell.path} failed in on_start: {error!r}") from error
    except BaseException:
        await stop_all([cell], cell.system.grace)
        raise
    finally:
        if asker is not None:
            cycles.leave(asker, cell, started)
    return cell.ref
