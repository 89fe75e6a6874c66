"""What an actor class or behaviour promises: the table of its methods, read from its signatures once.

A handler is one descriptor with two faces. On a plain instance it calls the function directly; on a
ref (`actors.ref`) it sends a message. Both return an awaitable, so code that takes an actor runs
against the object itself, a local ref or a remote one.
"""

from __future__ import annotations

import difflib
import inspect
import math
import reprlib
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import (
    Annotated,
    Any,
    Concatenate,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    get_args,
    overload,
)

from lightactors.errors import ContractError, UnknownHandler, WrongCall, WrongMessage

A = TypeVar("A")
C = TypeVar("C")
M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

Role: TypeAlias = Literal["runner", "algorithm", "viewer", "admin"]
"""What a caller from another node may do, as its token says: see `handler`."""

ROLES: tuple[Role, ...] = get_args(Role)

PYTHON_ONLY = "lightactors: for Python only"

PythonOnly: TypeAlias = Annotated[T, PYTHON_ONLY]
"""A parameter that other languages don't see: it has its default there, and a method that needs it is left out."""


@dataclass(frozen=True, slots=True)
class FieldNumber:
    """The number that a parameter or a record's field has in proto files: `x: Annotated[int, FieldNumber(3)]`.

    Without, it is the place among the others; so this is for what is declared before others that came earlier.
    """

    number: int


Eventually: TypeAlias = R | Awaitable[R]
"""A value now, or an awaitable that brings it: what a plain `interleaved` handler may return."""


def is_awaited(value: object) -> bool:
    """Tell an awaitable, which brings the value, from the value itself."""
    return hasattr(type(value), "__await__")


class Kind(Enum):
    """How a handler's function runs."""

    PLAIN = auto()  # def: never waits
    ASYNC = auto()  # async def
    STREAM = auto()  # async def with a yield


@dataclass(frozen=True, slots=True)
class Method:
    """One row of a contract: a handler's name, function and rules."""

    actor: str
    name: str
    function: Callable[..., Any]
    kind: Kind
    idempotent: bool
    interleaved: bool
    roles: frozenset[str] | None  # who may call it from another node; None: everybody but a viewer
    waits: bool  # the function may return an awaitable
    signature: inspect.Signature
    least: float  # positional arguments that a call without keywords needs; inf: it needs keywords
    most: float
    positional: tuple[str, ...] = ()
    required: frozenset[str] | None = None  # what a call must name or place; None where names alone can't tell

    def admits(self, role: str) -> bool:
        """Tell whether a role may call it."""
        return role == "admin" or (role != "viewer" if self.roles is None else role in self.roles)

    def fits(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Tell from the number of arguments alone whether the call is fine; False means: look closer."""
        return not kwargs and self.least <= len(args) <= self.most

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise `WrongCall`, at the caller, where the arguments don't fit the signature."""
        if self.fits(args, kwargs) or self.fits_by_name(args, kwargs):
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise WrongCall(f"{self}: {error}; its signature is {self.name}{_readable(self.signature)}") from None

    def fits_by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Tell from the names whether the call is fine; False means: look closer. `bind` takes fifty times as long."""
        if self.required is None or len(args) > self.most:
            return False
        given = {*self.positional[: len(args)], *kwargs}
        return len(given) == len(args) + len(kwargs) and self.required <= given <= self.signature.parameters.keys()

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return a call as it is written."""
        # Short, and never raising: the user's own repr may be huge, or broken.
        arguments = [*map(reprlib.repr, args), *(f"{name}={reprlib.repr(value)}" for name, value in kwargs.items())]
        return f"{self.actor}.{self.name}({', '.join(arguments)})"

    def __str__(self) -> str:
        return f"{self.actor}.{self.name}()"


@dataclass(frozen=True, slots=True)
class Contract:
    """An actor class and the table of its methods."""

    actor: type[Any]
    methods: dict[str, Method]

    @property
    def name(self) -> str:
        return self.actor.__name__

    def unknown(self, name: str, actor: object) -> UnknownHandler:
        """Return the error for an attribute that is no handler, with the nearest cure."""
        if inspect.getattr_static(actor, name, None) is not None:  # without running a property of the actor's
            cure = f"{name!r} belongs to the actor alone; add a @handler that returns or changes it"
        elif near := difflib.get_close_matches(name, self.methods, 1):
            cure = f"did you mean {near[0]!r}?"
        else:
            cure = f"it has {', '.join(self.methods) or 'none'}"
        return UnknownHandler(f"actor {self.name} has no handler {name!r}: {cure}")


class Bound(Protocol[P, R_co]):
    """A handler bound to somebody who can serve it: an instance or a ref."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Ask: send the message and return the reply, or raise what the handler raised."""
        ...

    def tell(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, None]:
        """Send the message and wait only for room in the mailbox; a failure is the actor's own."""
        ...

    def tell_nowait(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Send the message at once, or raise `MailboxFull`; may be called from any thread."""
        ...


class Items(Protocol[R_co]):
    """A stream, as its consumer sees it: `async for`, or `async with aclosing(...)` to be sure of its end."""

    def __aiter__(self) -> Items[R_co]: ...
    async def __anext__(self) -> R_co: ...
    async def aclose(self) -> None:
        """End the stream now; the handler's clean-up runs."""
        ...


class BoundStream(Protocol[P, R_co]):
    """A stream handler bound to somebody who can serve it."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Items[R_co]:
        """Return the stream; it starts with the first item asked for."""
        ...


class _Direct:
    """A handler bound to a plain instance: no mailbox in between."""

    __slots__ = ("_instance", "_method")

    def __init__(self, instance: object, method: Method) -> None:
        self._instance = instance
        self._method = method

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = self._method
        value = method.function(self._instance, *args, **kwargs)
        if method.kind is Kind.ASYNC or (method.interleaved and is_awaited(value)):
            return await value
        return value

    async def tell(self, *args: Any, **kwargs: Any) -> None:
        await self(*args, **kwargs)

    def tell_nowait(self, *args: Any, **kwargs: Any) -> None:
        if self._method.kind is not Kind.PLAIN or self._method.interleaved:
            raise WrongCall(f"{self._method} may wait, so a plain object can't be told without waiting; use tell()")
        self._method.function(self._instance, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<handler {self._method} of {self._instance!r}>"


class _AnyHandler(Generic[P, R_co]):
    """What both handler descriptors share: the function, its rules and its row."""

    def __init__(
        self, function: Callable[..., Any], *, idempotent: bool, interleaved: bool, roles: frozenset[str] | None
    ) -> None:
        self.function = function
        self.idempotent = idempotent
        self.interleaved = interleaved
        self.roles = roles
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__wrapped__ = function
        self.__isabstractmethod__ = getattr(function, "__isabstractmethod__", False)

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._row = _row(owner.__name__, name, self)

    def __repr__(self) -> str:
        return f"<handler {self._row}>"


class Handler(_AnyHandler[P, R_co]):
    """A method that serves a message (see `handler`)."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Handler[P, R_co]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> Bound[P, R_co]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Any:
        return self if instance is None else _Direct(instance, self._row)


class StreamHandler(_AnyHandler[P, R_co]):
    """A method that serves a message with a stream of items (see `handler`)."""

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> StreamHandler[P, R_co]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any]) -> BoundStream[P, R_co]: ...
    def __get__(self, instance: object | None, owner: type[Any]) -> Any:
        return self if instance is None else types.MethodType(self.function, instance)


# Below, mypy fears a function that fits two overloads; the order decides, and the first one is the right one.


class _Decorator(Protocol):
    """`handler` with its options given, waiting for the function."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[A, P], AsyncIterator[T]]
    ) -> StreamHandler[P, T]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[A, P], Coroutine[Any, Any, R]]) -> Handler[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[A, P], R | Awaitable[R]]) -> Handler[P, R]: ...


@overload
def handler(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[A, P], AsyncIterator[T]],
) -> StreamHandler[P, T]: ...
@overload
def handler(function: Callable[Concatenate[A, P], Coroutine[Any, Any, R]]) -> Handler[P, R]: ...
@overload
def handler(function: Callable[Concatenate[A, P], R | Awaitable[R]]) -> Handler[P, R]: ...
@overload
def handler(
    *, idempotent: bool = False, interleaved: bool = False, roles: Iterable[Role] | None = None
) -> _Decorator: ...
def handler(
    function: Callable[..., Any] | None = None,
    *,
    idempotent: bool = False,
    interleaved: bool = False,
    roles: Iterable[Role] | None = None,
) -> Any:
    """Make a method a handler: callers reach it by message, one at a time.

    A plain `def` never waits and is the fast path. An `async def` may wait and holds the mailbox while it
    does. An `async def` with a `yield` is a stream: each step from one `yield` to the next is a turn of its
    own, so a slow consumer slows its stream and holds nobody else up.

    - `interleaved`: it may wait without holding the mailbox. An `async def` then runs beside the other
      messages; a plain `def` takes its turn and may return an awaitable (`Eventually`), which is waited for
      outside the mailbox.
    - `idempotent`: running it twice does no harm, so it may be sent again after a lost link.
    - `roles`: whose token lets them call it from another node, besides an admin's, which lets them call
      everything: some of `"runner"`, `"algorithm"` and `"viewer"`. Default: runner and algorithm.
    """
    allowed = _roles(roles)

    def decorate(function: Callable[..., Any]) -> Any:
        _refuse_what_is_no_method(function)
        descriptor: type[_AnyHandler[Any, Any]] = StreamHandler if inspect.isasyncgenfunction(function) else Handler
        return descriptor(function, idempotent=idempotent, interleaved=interleaved, roles=allowed)

    return decorate if function is None else decorate(function)


def _roles(roles: Iterable[str] | None) -> frozenset[str] | None:
    if roles is None:
        return None
    given = [roles] if isinstance(roles, str) else roles
    for role in given:
        if role not in ROLES:
            raise ContractError(f"roles={roles!r}: {role!r} is no role; choose from {', '.join(map(repr, ROLES))}")
    return frozenset(given)


def _refuse_what_is_no_method(function: object) -> None:
    if not inspect.isfunction(function):
        raise ContractError(f"@handler decorates methods, got {function!r}; put @handler on top of other decorators")
    if inspect.isgeneratorfunction(function):
        raise ContractError(f"{function.__qualname__} is a plain generator; a stream is an `async def` with a yield")
    if not inspect.signature(function).parameters:
        raise ContractError(f"{function.__qualname__} takes no self; a handler is a method of an actor class")


def _row(actor: str, name: str, declared: _AnyHandler[Any, Any]) -> Method:
    function = declared.function
    parameters = list(inspect.signature(function).parameters.values())[1:]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needs_keywords = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    is_simple = all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)
    return Method(
        actor=actor,
        name=name,
        function=function,
        kind=_kind(function),
        idempotent=declared.idempotent,
        interleaved=declared.interleaved,
        roles=declared.roles,
        waits=declared.interleaved or inspect.iscoroutinefunction(function),
        signature=inspect.signature(function).replace(parameters=parameters),
        least=math.inf if needs_keywords else sum(p.default is p.empty for p in positional),
        most=math.inf if takes_any else len(positional),
        positional=tuple(p.name for p in positional),
        required=frozenset(p.name for p in parameters if p.default is p.empty) if is_simple else None,
    )


def maker(kind: Any) -> Method:
    """Return how an actor of a class or behaviour is made, as a row: for arguments that come from elsewhere."""
    is_behaviour = isinstance(kind, Behaviour)
    function = kind.function if is_behaviour else kind.__init__
    signature = inspect.signature(function)
    # Without its self, or its mailbox; `object.__init__` takes anything by its signature, and nothing in truth.
    own = [] if function is object.__init__ else list(signature.parameters.values())[1:]
    return Method(
        actor=kind.name if is_behaviour else kind.__name__,
        name="__init__",
        function=function,
        kind=Kind.PLAIN,
        idempotent=False,
        interleaved=False,
        roles=None,
        waits=False,
        signature=signature.replace(parameters=own, return_annotation=inspect.Signature.empty),
        least=math.inf,  # each call is checked
        most=0,
    )


class _Annotation(str):
    """An annotation that was never evaluated, shown without its quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _readable(signature: inspect.Signature) -> inspect.Signature:
    parameters = [_unquoted(p) for p in signature.parameters.values()]
    returned = signature.return_annotation
    return signature.replace(
        parameters=parameters,
        return_annotation=_Annotation(returned) if isinstance(returned, str) else returned,
    )


def _unquoted(parameter: inspect.Parameter) -> inspect.Parameter:
    hint = parameter.annotation
    return parameter.replace(annotation=_Annotation(hint)) if isinstance(hint, str) else parameter


def _kind(function: Callable[..., Any]) -> Kind:
    if inspect.isasyncgenfunction(function):
        return Kind.STREAM
    return Kind.ASYNC if inspect.iscoroutinefunction(function) else Kind.PLAIN


class Asked(Generic[R_co]):
    """What `ask` sees of a message: covariant, so that its reply may be used wherever a wider type will do."""

    __slots__ = ()


class Message(Asked[R], Generic[R]):
    """Base of a behaviour's messages that are asked: `class Hello(la.Message[str])` is answered with a `str`."""

    # Invariant, so that a type checker holds `reply` to the very type.
    __slots__ = ()


class Mailbox(Protocol[M_co]):
    """What a behaviour reads: `async for message in mailbox` ends when the actor is asked to stop."""

    def __aiter__(self) -> Mailbox[M_co]: ...
    async def __anext__(self) -> M_co: ...
    async def receive(self) -> M_co:
        """Wait for the next message; raise `anyio.EndOfStream` when the actor is asked to stop."""
        ...

    def reply(self, message: Message[R], value: R) -> None:
        """Answer the ask that brought `message`; does nothing if it was told."""
        ...


class Behaviour(Generic[M, P]):
    """A function actor (see `actor`): spawn it to run it."""

    def __init__(self, function: Callable[..., Coroutine[Any, Any, None]]) -> None:
        if not inspect.iscoroutinefunction(function) or not inspect.signature(function).parameters:
            raise ContractError(f"{function.__qualname__} must be `async def {function.__name__}(mailbox, ...)`")
        self.function = function
        self.name = function.__name__
        self.__doc__ = function.__doc__
        self.__wrapped__ = function
        self._messages: tuple[type[Any], ...] | None = None

    @property
    def messages(self) -> tuple[type[Any], ...]:
        """The classes that the mailbox's annotation names; empty where anything may come."""
        # Read on first use: when the decorator runs, the annotation may name classes still to be defined.
        if self._messages is None:
            hint = typing.get_args(self._mailbox_hint())
            self._messages = message_classes(hint[0]) if hint else ()
        return self._messages

    def _mailbox_hint(self) -> Any:
        mailbox = next(iter(inspect.signature(self.function).parameters))
        try:
            return typing.get_type_hints(self.function).get(mailbox)
        except NameError:  # the annotations name what only a type checker sees, or what a function hides
            return None

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise `WrongCall` where the arguments after the mailbox don't fit."""
        signature = inspect.signature(self.function)
        try:
            signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise WrongCall(f"{self.name}: {error}; its signature is {self.name}{_readable(signature)}") from None

    def check(self, message: object) -> None:
        """Raise `WrongMessage`, at the caller, for a value that the mailbox's type excludes."""
        if self.messages and not isinstance(message, self.messages):
            names = " | ".join(cls.__name__ for cls in self.messages)
            raise WrongMessage(f"{self.name} takes {names}, got {message!r}", message)

    def __repr__(self) -> str:
        return f"<behaviour {self.name}>"


def message_classes(hint: Any) -> tuple[type[Any], ...]:
    """Flatten a union of classes; a member that can't be checked at run time lets everything through."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    classes = tuple(typing.get_origin(member) or member for member in members)
    return classes if all(_is_checkable(cls) for cls in classes) else ()


def _is_checkable(cls: Any) -> bool:
    try:
        isinstance(None, cls)
    except TypeError:  # Any, a Protocol, a type variable: no class to a running program
        return False
    return True


@overload
def actor(target: type[C]) -> type[C]: ...  # type: ignore[overload-overlap]
@overload
def actor(target: Callable[Concatenate[Mailbox[M], P], Coroutine[Any, Any, None]]) -> Behaviour[M, P]: ...
def actor(target: Any) -> Any:
    """Make a class or an async function an actor, to be started with `spawn`.

    A class has handlers (see `handler`) and may have `on_start(self)`, which runs before the first message,
    `on_stop(self)`, which runs after the last one, even if `on_start` did not get to its end, and
    `on_terminated(self, terminated)`, which is told of the actors it watches; each plain or async. A plain
    `on_drain(self)` is called as soon as the actor is to stop, so that what it has interleaved can come to an end.
    A function is a behaviour: it reads its own `Mailbox`.
    """
    if inspect.isclass(target):
        if inspect.iscoroutinefunction(getattr(target, "on_drain", None)):
            raise ContractError(f"{target.__name__}.on_drain must be a plain def; what has to wait goes into on_stop")
        contract_of(target, declare=True)
        return target
    if inspect.isfunction(target):
        return Behaviour[Any, ...](target)
    raise ContractError(f"@actor decorates a class or an async function, got {target!r}")


_CONTRACT = "__lightactors_contract__"


def is_actor_class(target: type[Any]) -> bool:
    """Tell whether the class, or one that it derives from, was made an actor."""
    return hasattr(target, _CONTRACT)


def contract_of(target: object, *, declare: bool = False) -> Contract:
    """Return the contract of an actor class; a subclass of an actor is an actor.

    Raises `ContractError` for anything else, with the cure.
    """
    if not isinstance(target, type):
        _refuse_what_is_no_class(target)
    if not (declare or hasattr(target, _CONTRACT)):
        raise ContractError(f"{target.__name__} is not an actor; decorate the class with @lightactors.actor")
    if _CONTRACT not in target.__dict__:
        setattr(target, _CONTRACT, Contract(target, dict(_rows(target))))
    return typing.cast("Contract", getattr(target, _CONTRACT))


def _refuse_what_is_no_class(target: object) -> NoReturn:
    name = type(target).__name__
    if hasattr(type(target), _CONTRACT):
        raise ContractError(f"{target!r} is an instance; spawn the class with its arguments: spawn({name}, ...)")
    if inspect.isfunction(target):
        raise ContractError(f"{target.__name__} is not an actor; decorate it with @lightactors.actor")
    raise ContractError(f"{target!r} is not an actor class or behaviour; decorate one with @lightactors.actor")


def _rows(cls: type[Any]) -> typing.Iterator[tuple[str, Method]]:
    for name in dir(cls):
        declared = inspect.getattr_static(cls, name)
        if isinstance(declared, _AnyHandler):
            yield name, _row(cls.__name__, name, declared)
