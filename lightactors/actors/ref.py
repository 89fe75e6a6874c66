"""Refs: what is sent to. `ref.method(...)` asks, `ref.method.tell(...)` tells; a behaviour's ref takes messages.

The fast path lives here: a plain handler of an idle actor on the same loop runs right in its caller. Nothing
can come between, so one at a time and FIFO hold, and it costs no task switch, no slot and no scope.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from lightactors.actors import cycles
from lightactors.actors.mailbox import Ask
from lightactors.actors.streams import Stream
from lightactors.contract import Asked, Kind, Message, Method, is_actor_class, is_awaited
from lightactors.errors import ContractError, MailboxFull, WrongMessage

if TYPE_CHECKING:
    from lightactors.actors.behaviours import BehaviourCell
    from lightactors.actors.cell import Cell

M_contra = TypeVar("M_contra", contravariant=True)
R = TypeVar("R")

_IN_ACTOR = "_lightactors_cell"
"""The attribute of an actor's instance under which it finds its cell."""


class AnyRef:
    """What all refs share: they stand for one actor, wherever it is."""

    __slots__ = ("__dict__", "__weakref__", "_cell")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AnyRef) and cell_of(other, "==") is self._cell

    def __hash__(self) -> int:
        return hash(id(self._cell))

    def __repr__(self) -> str:
        return f"<ref {self._cell.kind} {self._cell.address} {self._cell.state.name.lower()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} can't be pickled or copied; send the ref itself in a message")


class ActorRef(AnyRef):
    """The ref of an actor class: it has the handlers as its methods, and nothing else."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        # Runs once per handler and ref: what it returns stays in the ref's own dict.
        method = self._cell.contract.methods.get(name)
        if method is None:
            raise self._cell.contract.unknown(name, self._cell.actor)
        bound = self.__dict__[name] = self._cell.bind(method)
        return bound

    def __setattr__(self, name: str, value: object) -> None:
        if name == "_cell":
            object.__setattr__(self, name, value)
        else:
            raise self._cell.contract.unknown(name, self._cell.actor)

    def __dir__(self) -> list[str]:
        return [*self._cell.contract.methods]


class _Bound:
    """A handler of one actor, as its ref shows it."""

    __slots__ = ("_cell", "_function", "_mailbox", "_method")

    def __init__(self, cell: Cell, method: Method) -> None:
        self._cell = cell
        self._mailbox = cell.mailbox
        self._method = method
        self._function = method.function

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await ask(self._cell, self._method, args, kwargs)

    async def tell(self, *args: Any, **kwargs: Any) -> None:
        method, mailbox = self._method, self._mailbox
        if kwargs or not method.least <= len(args) <= method.most:
            method.check(args, kwargs)
        envelope = method, args, kwargs, None
        if len(mailbox.queue) >= mailbox.capacity:
            return await mailbox.put(envelope)
        try:
            return mailbox.put_nowait(envelope)
        except MailboxFull:  # another thread took the room in between
            return await mailbox.put(envelope)

    def tell_nowait(self, *args: Any, **kwargs: Any) -> None:
        self._method.check(args, kwargs)
        self._mailbox.put_nowait((self._method, args, kwargs, None))

    def __repr__(self) -> str:
        return f"<handler {self._method} of {self._cell.ref!r}>"


class _BoundPlain(_Bound):
    __slots__ = ("_may_wait",)

    def __init__(self, cell: Cell, method: Method) -> None:
        super().__init__(cell, method)
        self._may_wait = method.interleaved

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        cell, mailbox = self._cell, self._mailbox
        if mailbox.idle and get_ident() == mailbox.loop.ident:
            loop = mailbox.loop
            if loop.share <= 0:
                await loop.breathe()
            if mailbox.idle:
                loop.share -= 1
                loop.inline = cell
                mailbox.idle = False
                cell.handled += 1
                try:
                    value = self._function(cell.actor, *args, **kwargs)
                except BaseException as raised:
                    error = loop.failure(raised)
                    raise self._explain(error, args, kwargs)  # noqa: B904 (the very error, or a clearer one)
                finally:
                    loop.inline = None
                    # What was queued meanwhile wakes the receiver; written out, for it is on every ask's way.
                    if mailbox.queue or mailbox.signals or mailbox.closed:
                        mailbox.wake()
                    else:
                        mailbox.idle = True
                return await self._wait_aside(value) if self._may_wait and is_awaited(value) else value
        return await ask(cell, self._method, args, kwargs)

    async def _wait_aside(self, value: Any) -> Any:
        """The handler has taken its turn; the rest is waited for beside the mailbox."""
        reply = Ask(self._cell.loop, self._cell.loop)
        self._cell.aside(value, reply, str(self._method), only_waits=True)
        return await reply_of(self._cell, reply)

    def _explain(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exception:
        cell = self._cell
        if isinstance(error, TypeError):
            self._method.check(args, kwargs)
        cell.note_failure(error)
        return error


class _BoundStream:
    __slots__ = ("_cell", "_method")

    def __init__(self, cell: Cell, method: Method) -> None:
        self._cell = cell
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Stream:
        return Stream(self._cell, self._method, args, kwargs)

    def __repr__(self) -> str:
        return f"<stream handler {self._method} of {self._cell.ref!r}>"


_BOUND = {Kind.PLAIN: _BoundPlain, Kind.ASYNC: _Bound, Kind.STREAM: _BoundStream}


def bind(cell: Cell, method: Method) -> Any:
    """Return a handler as the ref of an actor in this process shows it."""
    return _BOUND[method.kind](cell, method)


async def ask(cell: Cell, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Send through the mailbox and wait for the reply; who is cancelled here cancels the handler there."""
    method.check(args, kwargs)
    here = cell.loop if get_ident() == cell.loop.ident else None
    reply = Ask(here, cell.loop)
    envelope = method, args, kwargs, reply
    asker = cycles.holder.get()
    if asker is None:
        await cell.mailbox.put(envelope)
        return await reply_of(cell, reply)
    cycles.enter(asker, cell, reply)
    try:
        await cell.mailbox.put(envelope)
        return await reply_of(cell, reply)
    finally:
        cycles.leave(asker, cell, reply)


async def reply_of(cell: Cell, reply: Ask) -> Any:
    """Wait for the reply; who is cancelled here cancels the handler there."""
    try:
        return await reply.reply()
    except BaseException:
        if not reply.answered:
            cell.order(cell.abandon, reply)
        raise


class Ref(AnyRef, Generic[M_contra]):
    """The ref of a behaviour that takes messages `M`."""

    __slots__ = ()
    _cell: BehaviourCell

    async def tell(self, message: M_contra) -> None:
        """Send, waiting only for room in the mailbox. Raises `ActorNotRunning` and `WrongMessage`."""
        self._cell.behaviour.check(message)
        await self._cell.mailbox.put((message, None))

    def tell_nowait(self, message: M_contra) -> None:
        """Send at once, from any thread. Raises `MailboxFull`, `ActorNotRunning` and `WrongMessage`."""
        self._cell.behaviour.check(message)
        self._cell.mailbox.put_nowait((message, None))

    async def ask(self, message: Asked[R]) -> R:
        """Send and wait for the reply, whose type belongs to the message.

        Raises `ActorStopped` if the behaviour ends without a reply, besides what `tell` raises.
        """
        if not isinstance(message, Message):
            raise WrongMessage(f"{message!r} has no reply type; derive its class from lightactors.Message[Reply]")
        self._cell.behaviour.check(message)
        reply = Ask(None, self._cell.loop)
        await self._cell.mailbox.put((message, reply))
        value: R = await reply_of(self._cell, reply)
        return value


def cell_of(ref: object, wanted_by: str) -> Cell:
    """Return the cell behind a ref, or behind an actor's own `self`."""
    if isinstance(ref, AnyRef):
        return ref._cell  # noqa: SLF001 (a public name would hide a handler of that name)
    cell = cell_within(ref)
    if cell is None:
        slots = is_actor_class(type(ref)) and not hasattr(ref, "__dict__")
        hint = f" (its class has __slots__: add {_IN_ACTOR!r} to them)" if slots else ""
        raise ContractError(f"{wanted_by} takes a ref, got {ref!r}; spawn() returns one{hint}")
    return cell


def cell_within(actor: object) -> Cell | None:
    """Return the cell that an actor's instance was introduced to."""
    cell: Cell | None = getattr(actor, _IN_ACTOR, None)
    return cell


def introduce(actor: object, cell: Cell) -> None:
    """Let an actor find its own cell."""
    try:
        object.__setattr__(actor, _IN_ACTOR, cell)
    except (AttributeError, TypeError):
        return  # no dict: `ref_of` then says what to do


def ref_of(actor: R) -> R:
    """Return the ref of a running actor, given its `self`: what it may hand to others.

    A class with `__slots__` needs a slot `_lightactors_cell` for it.
    """
    return cell_of(actor, "ref_of()").ref  # type: ignore[return-value]


def is_running(ref: object) -> bool:
    """Tell whether messages to the actor are still accepted."""
    return not cell_of(ref, "is_running()").mailbox.closed
