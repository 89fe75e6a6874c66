"""The stand-in: the cell of an actor that lives at the other end of a link.

What is sent to it is encoded in the caller, who so hears of what can't travel, and leaves at once while the
target has credit; else it waits in the mailbox, which is the outbox, and the stand-in's task sends it on. A
stand-in may be attached to another link when its own has ended: what was not sent yet goes over the new one.

An ask that waits for its own asker across a link (an `AskCycle`) is not detected.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from lightactors.actors.cell import Cell
from lightactors.actors.mailbox import Ask, Envelope, Failure
from lightactors.actors.owner import State
from lightactors.actors.ref import ActorRef, Ref
from lightactors.actors.ref import reply_of as wait_for
from lightactors.actors.streams import END, Stream
from lightactors.actors.terminated import Reason, Terminated
from lightactors.actors.tree import Tree, joined
from lightactors.codec import MessageCodec, MethodCodec
from lightactors.contract import Behaviour, Contract, Kind, Message, Method
from lightactors.errors import (
    AccessDenied,
    ActorNotRunning,
    ActorStopped,
    LightActorsError,
    LinkError,
    MailboxFull,
    WrongMessage,
)
from lightactors.remote import failures, frames, surveys, tracing
from lightactors.remote.link import Window
from lightactors.supervision.spec import ChildOptions

if TYPE_CHECKING:
    from lightactors.actors.loops import Loop, Slot
    from lightactors.actors.owner import Owner
    from lightactors.actors.survey import Words
    from lightactors.remote.link import Link
    from lightactors.remote.node import Node
    from lightactors.remote.serve import WireAsk

ROOT = 0
"""The target that a link was opened for: the actor in a process of its own."""

WINDOW = 1024
"""Messages that may be under way to one target, or wait in its mailbox, before their sender waits."""

SMALL = 4096
"""Bytes that every link takes."""

UNIT = 64 * 1024
"""Bytes of a body that cost as much of the window as a message."""


_SHUT = Window(0)
"""The window of a target that can't be reached."""


class _Waiting:
    """An ask, or a survey, that is under way."""

    __slots__ = ("ask", "call", "decode", "standin")

    def __init__(
        self, standin: StandIn, ask: Ask | WireAsk, decode: Callable[[Any], Any], call: Call | Posted | None = None
    ) -> None:
        self.standin = standin
        self.ask = ask
        self.decode = decode
        self.call = call  # None: it can't be sent again

    def replied(self, body: Raw) -> None:
        try:
            value = self.decode(body)
        except LightActorsError as error:
            value = Failure(error)
        self.ask.answer(value)

    def failed(self, error: Raw) -> None:
        self.ask.answer(Failure(failures.decode(error, self.standin.known)))

    def brought(self, body: Raw) -> None:
        raise LinkError("an item came for an ask")

    def ended(self) -> None:
        raise LinkError("the end of a stream came for an ask")

    def lost(self, error: Exception) -> None:
        if self.call is None or not self.call.is_idempotent or not self.standin.sends_again(self.call, self.ask):
            self.ask.answer(Failure(_one_of(error)))


def _one_of(error: Exception) -> Exception:
    """Return the error as one asker's own: raised by many, its traceback would tell of all of them."""
    own = copy.copy(error)
    own.__cause__ = error.__cause__
    return own


class FarProduction:
    """The producer's end of a stream, as far as it is on this side: to a `Stream` the same as a local production."""

    def __init__(self, standin: StandIn, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.standin = standin
        self._call = call
        self._args = args
        self._kwargs = kwargs
        self._id: int | None = None  # None: not sent yet, or over
        self._early = 0  # granted before it was sent
        self.outlet: Any
        self.abandoned = False
        self.answered = False
        self.give_up: Callable[[], object] | None = None

    # What the consumer does

    def turn(self) -> Envelope:
        """Return the message that starts the stream."""
        return self._call, (), {}, self  # type: ignore[return-value]

    def sent(self, number: int) -> None:
        self._id = number

    def grant(self, items: int) -> None:
        link = self.standin.link
        if self._id is not None and link is not None:
            link.send(frames.Grant(self._id, items))

    def end(self) -> None:
        self.abandoned = True
        number, self._id = self._id, None
        link = self.standin.link
        if number is not None and link is not None:
            link.cancel(number)

    def answer(self, value: object) -> None:
        """Hear that it could not be sent."""
        self._push(value)

    def answer_from_afar(self, value: object, _: Loop) -> None:
        self._push(value)

    # What the link does

    def replied(self, body: Raw) -> None:
        raise LinkError("a reply came for a stream")

    def brought(self, body: Raw) -> None:
        try:
            item = self._call.codec.decode_reply(body)
        except LightActorsError as error:
            self.end()
            item = Failure(error)
        self._push(item)

    def ended(self) -> None:
        self._id = None
        self._push(END)

    def failed(self, error: Raw) -> None:
        self._id = None
        self._push(Failure(failures.decode(error, self.standin.known)))

    def lost(self, error: Exception) -> None:
        self._id = None
        self._push(Failure(_one_of(error)))

    def _push(self, item: object) -> None:
        self.outlet.loop.order(self.outlet.push, item)

    def __str__(self) -> str:
        return str(self._call.call(self._args, self._kwargs))


class Call:
    """A call on its way to another process; in an envelope it stands in the method's place."""

    __slots__ = ("body", "codec", "trace")

    def __init__(self, codec: MethodCodec, body: bytes, trace: str = "") -> None:
        self.codec = codec
        self.body = body
        self.trace = trace

    @property
    def name(self) -> str:
        return self.codec.method.name

    @property
    def is_idempotent(self) -> bool:
        return self.codec.method.idempotent

    @property
    def decode(self) -> Callable[[Any], Any]:
        return self.codec.decode_reply

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Return what the sender knows of it: the call as it is written."""
        return self.codec.method.call(args, kwargs)


class Posted:
    """A behaviour's message on its way, as a `Call` is."""

    __slots__ = ("body", "codec", "message")

    name = ""
    trace = ""
    is_idempotent = False

    def __init__(self, codec: MessageCodec, body: bytes, message: Any) -> None:
        self.codec = codec
        self.body = body
        self.message = message

    @property
    def decode(self) -> Callable[[Any], Any]:
        return partial(self.codec.decode_reply, type(self.message))

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Return what the sender knows of it."""
        return self.message


class StandIn(Cell):
    """The cell of an actor elsewhere. It is attached to a link and its target there, and may be again to another.

    When the link ends, `link_lost` is called: it detaches, which fails what was asked and not answered. A
    subclass may do so later, with an error that says more.
    """

    __slots__ = ("_codecs", "_go", "_kind", "_target", "_window", "behaviour", "link", "node", "refs")

    def __init__(self, name: str, owner: Owner, loop: Loop, options: ChildOptions, node: Node) -> None:
        super().__init__(name, owner, loop, options)
        self.node = node
        self.refs = node.refs(None)
        self.link: Link | None = None
        self._target = ROOT
        self._window = _SHUT
        self._go: Slot | None = None  # where the pump waits for a link, or for credit
        self._on_start = self._on_drain = self._on_stop = None

    def stands_for(self, kind: Contract | Behaviour[Any, ...]) -> None:
        """Say what lives at the other end, and make the ref."""
        if isinstance(kind, Behaviour):
            self._kind = kind.name
            self.behaviour = kind
            self.actor = None
            self.ref = FarRef(self)
        else:
            self._kind = kind.name
            self.contract = kind
            self.actor = kind.actor
            self.ref = ActorRef(self)

    @property
    def kind(self) -> str:
        return self._kind

    @property
    def stood_for(self) -> Contract | Behaviour[Any, ...]:
        """What lives at the other end."""
        return self.behaviour if hasattr(self, "behaviour") else self.contract

    @property
    def known(self) -> type[Any] | None:
        """The class whose module names the exceptions that may come as themselves."""
        return None if hasattr(self, "behaviour") else self.contract.actor

    @property
    def target(self) -> int:
        return self._target

    def hears_signals(self) -> bool:
        return False

    def bind(self, method: Method) -> Any:
        codec = self.refs.method(method)
        return _FarStream(self, codec) if method.kind is Kind.STREAM else _Far(self, codec)

    def serves(self, kind: Contract | Behaviour[Any, ...]) -> bool:
        """Tell whether its ref will do where this is wanted."""
        if isinstance(kind, Behaviour):
            return hasattr(self, "behaviour") and self.behaviour.messages == kind.messages
        return not hasattr(self, "behaviour") and issubclass(self.contract.actor, kind.actor)

    # The link

    def attach(self, link: Link, target: int = ROOT) -> None:
        """Send over this link from now on, what is queued first."""
        self.link = link
        self.refs.link = link
        self._target = target
        self._window = link.join(self, target, self.window_size())
        self.go_on()

    def window_size(self) -> int:
        """Return how many messages may be under way; less than the target's own window, and its credit never comes."""
        return WINDOW

    def detach(self, error: Exception) -> None:
        """Send no more; what was asked and not answered fails with `error`. What was not sent stays queued."""
        link, self.link = self.link, None
        if link is not None:
            link.leave(self, self._target, error)

    def hold_back(self) -> None:
        """Send no more over this link; what was asked over it is still unanswered, until `detach`."""
        self._window = _SHUT

    def link_lost(self, error: Exception) -> None:
        """Hear that the link has ended."""
        self.detach(error)

    def has_ended(self, reason: str, error: Raw) -> None:
        """Hear that the target has ended; a stand-in that answers for the end itself need not care."""

    def go_on(self) -> None:
        """Have the pump look again."""
        if self._go is not None:
            self._go.set(None)

    def load(self) -> int:
        return len(self.mailbox.queue) + (0 if self.link is None else self.link.unanswered)

    # Looking

    def can_look(self) -> bool:
        return self.link is not None and self.link.error is None

    def look(self, asked: Ask, within: float) -> None:
        link = self.link
        if link is None or link.error is not None:
            asked.fail(ActorNotRunning(f"actor {self.path} has lost its link"))
        else:
            decode = partial(surveys.decode, known=self.known)
            asked.give_up = partial(link.cancel, link.survey(self._target, within, _Waiting(self, asked, decode)))

    def snapshot(self, words: Words) -> Tree:
        outside = replace(super().snapshot(words), seen="outside")
        return joined(outside, words[self]) if self in words else outside

    # Sending

    def can_send(self) -> bool:
        """Tell whether a message may leave now."""
        link = self.link
        return link is not None and link.is_writable and self._window.credit > 0

    def is_free(self) -> bool:
        """Tell whether a message may leave now, overtaking nobody."""
        mailbox = self.mailbox
        return not mailbox.queue and not mailbox.closed and self.can_send()

    def send_ask(self, call: Call | Posted, ask: Ask | WireAsk) -> None:
        link = self.link
        assert link is not None
        self._charge(call.body)
        number = link.ask(self._target, call.name, call.body, _Waiting(self, ask, call.decode, call), call.trace)
        ask.give_up = partial(link.cancel, number)

    def sends_again(self, call: Call | Posted, ask: Ask | WireAsk) -> bool:
        """Tell whether the ask, which lost its link, will be sent again over another one."""
        return False

    def send_tell(self, name: str, body: bytes, trace: str = "") -> None:
        assert self.link is not None
        self._charge(body)
        self.link.tell(self._target, name, body, trace)

    def _send_open(self, call: Call, production: FarProduction) -> None:
        assert self.link is not None
        self._charge(call.body)
        production.sent(self.link.open(self._target, call.name, call.body, production))

    def _charge(self, body: bytes) -> None:
        self._window.credit -= 1 + len(body) // UNIT
        self.handled += 1

    async def _work(self) -> None:
        """Pump: send what is queued, as far as there is a link and credit."""
        mailbox = self.mailbox
        queue = mailbox.open_queue()
        while not self._must_leave():
            while queue and self.can_send():
                self._send(queue.popleft())
            mailbox.make_room()
            if queue:
                await self._wait_to_go_on()
            elif mailbox.closed:
                return
            else:
                await mailbox.wait()

    def _send(self, envelope: Any) -> None:
        call, _, _, ask = envelope
        if ask is None:
            self.send_tell(call.name, call.body, call.trace)
        elif ask.abandoned:
            return
        elif isinstance(ask, FarProduction):
            self._send_open(call, ask)
        else:
            self.send_ask(call, ask)

    async def _wait_to_go_on(self) -> None:
        self._go = self.loop.slot()
        try:
            await self._go
        finally:
            self._go = None

    # For others

    def relay(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any], ask: WireAsk | None) -> None:
        """Send on what has come over another link; raise `ActorNotRunning` and `CannotTravel`."""
        codec = self.refs.method(method)
        self.mailbox.deliver((Call(codec, self.encoded(codec, args, kwargs)), args, kwargs, ask))

    def relay_message(self, message: Any, ask: WireAsk | None) -> None:
        self.mailbox.deliver((self.message(message), (), {}, ask))

    def production(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FarProduction:
        """Return a stream to be started."""
        codec = self.refs.method(method)
        call = Call(codec, self.encoded(codec, args, kwargs))
        return FarProduction(self, call, args, kwargs)

    def encoded(self, codec: MethodCodec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return a call as bytes, if it may travel."""
        body = codec.encode_call(args, kwargs)
        if len(body) > SMALL:
            self.refs.check_size(body, str(codec.method))
        return body

    def message(self, message: Any) -> Posted:
        """Return a behaviour's message on its way."""
        codec = self.refs.messages(self.behaviour)
        body = codec.encode(message)
        self.refs.check_size(body, f"a message to {self.kind}")
        return Posted(codec, body, message)


class _Far:
    """A handler of an actor elsewhere, as its ref shows it."""

    __slots__ = ("_cell", "_codec", "_name")

    def __init__(self, cell: StandIn, codec: MethodCodec) -> None:
        self._cell = cell
        self._codec = codec
        self._name = codec.method.name

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        cell, codec = self._cell, self._codec
        body = cell.encoded(codec, args, kwargs)
        loop = cell.loop
        if get_ident() == loop.ident and cell.is_free():
            ask = Ask(loop, loop)
            cell.send_ask(Call(codec, body, tracing.current()), ask)
        else:
            ask = Ask(None, loop)
            await cell.mailbox.put(self._envelope(body, args, kwargs, ask))
        return await wait_for(cell, ask)

    async def tell(self, *args: Any, **kwargs: Any) -> None:
        cell = self._cell
        body = cell.encoded(self._codec, args, kwargs)
        if get_ident() == cell.loop.ident and cell.is_free():
            cell.send_tell(self._name, body, tracing.current())
            return
        envelope = self._envelope(body, args, kwargs, None)
        try:
            cell.mailbox.put_nowait(envelope)
        except MailboxFull:
            await cell.mailbox.put(envelope)

    def tell_nowait(self, *args: Any, **kwargs: Any) -> None:
        cell = self._cell
        body = cell.encoded(self._codec, args, kwargs)
        if get_ident() == cell.loop.ident and cell.is_free():
            cell.send_tell(self._name, body, tracing.current())
        else:
            cell.mailbox.put_nowait(self._envelope(body, args, kwargs, None))

    def _envelope(self, body: bytes, args: tuple[Any, ...], kwargs: dict[str, Any], ask: Ask | None) -> Any:
        return Call(self._codec, body, tracing.current()), args, kwargs, ask

    def __repr__(self) -> str:
        return f"<handler {self._codec.method} of {self._cell.ref!r}>"


class _FarStream:
    __slots__ = ("_cell", "_codec")

    def __init__(self, cell: StandIn, codec: MethodCodec) -> None:
        self._cell = cell
        self._codec = codec

    def __call__(self, *args: Any, **kwargs: Any) -> Stream:
        method = self._codec.method
        return Stream(self._cell, method, args, kwargs, self._cell.production(method, args, kwargs))

    def __repr__(self) -> str:
        return f"<stream handler {self._codec.method} of {self._cell.ref!r}>"


class FarRef(Ref[Any]):
    """The ref of a behaviour elsewhere."""

    __slots__ = ()
    _cell: StandIn  # type: ignore[assignment]

    async def tell(self, message: Any) -> None:
        cell = self._cell
        cell.behaviour.check(message)
        call = cell.message(message)
        if get_ident() == cell.loop.ident and cell.is_free():
            cell.send_tell("", call.body)
        else:
            await cell.mailbox.put((call, (), {}, None))

    def tell_nowait(self, message: Any) -> None:
        cell = self._cell
        cell.behaviour.check(message)
        cell.mailbox.put_nowait((cell.message(message), (), {}, None))

    async def ask(self, message: Any) -> Any:
        if not isinstance(message, Message):
            raise WrongMessage(f"{message!r} has no reply type; derive its class from lightactors.Message[Reply]")
        cell = self._cell
        cell.behaviour.check(message)
        ask = Ask(None, cell.loop)
        await cell.mailbox.put((cell.message(message), (), {}, ask))
        return await wait_for(cell, ask)


class Messages(Behaviour[Any, ...]):
    """A behaviour elsewhere, as much as is known of it: its name, and the classes that it takes."""

    def __init__(self, name: str, messages: tuple[type[Any], ...]) -> None:
        self.name = name
        self._messages = messages


_ELSEWHERE = ChildOptions()


class Foreign(StandIn):
    """The stand-in of a ref that came over a link: it lives and ends with its actor, or with the link.

    A link that somebody makes again is waited for: what nobody has handled yet is sent then, and with it once more
    what was asked of idempotent handlers and not answered; other asks fail. Who watches hears of the loss at once.
    """

    __slots__ = ("_again", "_is_watching", "_path", "sought")

    def __init__(self, path: str, owner: Owner, node: Node) -> None:
        super().__init__(path.rpartition("/")[2], owner, node.loop, _ELSEWHERE, node)
        self._path = path
        self._is_watching = False
        self._again: list[Any] | None = None  # while the link's loss is dealt with: what is to be sent again
        self.sought: str | None = None  # the path that it was asked for by: it may be looked for there again
        self.state = State.RUNNING
        self._opened = True
        self.mailbox.idle = True

    @property
    def place(self) -> str:
        return "elsewhere"

    @property
    def path(self) -> str:
        return self._path

    @property
    def address(self) -> str:
        return self._path

    # Ends

    def when_ended(self, tell: Callable[[Terminated], object]) -> None:
        super().when_ended(tell)
        self.order(self._watch)

    def _watch(self) -> None:
        if not self._is_watching and self.link is not None:
            self._is_watching = True
            self.link.send(frames.Watch(self._target))

    def close(self) -> None:
        self._stop(self.system.ladder.drain)

    def interrupt(self) -> None:
        self._stop(0)

    def see_it_may_be_stopped(self) -> None:
        if self.link is not None and self.link.role_there != "admin":
            raise AccessDenied(
                f"a {self.link.role_there} can't stop {self.path} at {self.link.label}; use an admin's token"
            )

    def _stop(self, grace: float) -> None:
        self.mailbox.lock_up()
        self._watch()
        if self.link is not None:
            self.link.stop(self._target, grace)

    def has_ended(self, reason: str, error: Raw) -> None:
        self.end_with(Reason.__members__.get(reason, Reason.FAILED), failures.decode_cause(error, self.known))

    def end_with(self, reason: Reason, error: Exception | None) -> None:
        """End here: its actor has, or can't be reached any more."""
        if self.state is State.STOPPED:
            return
        self.state = State.STOPPED
        self.mailbox.lock_up()
        self.error = error
        self._refuse_what_is_queued()
        self.detach(error or ActorStopped(f"actor {self.path} ended before it replied"))
        self.go_on()
        self.mailbox.nudge()
        self.announce(reason)

    # The loss of the link

    def link_lost(self, error: Exception) -> None:
        redials = None if self.link is None else self.link.redials
        if redials is None or self.mailbox.closed:
            self.end_with(Reason.FAILED, error)
        else:
            self._hold_on(error)
            redials.strand(self)

    def _hold_on(self, error: Exception) -> None:
        self.hold_back()
        again = self._again = []
        self.detach(error)
        self._again = None
        if again:
            self.mailbox.open_queue().extendleft(reversed(again))
            self.mailbox.nudge()
        self._is_watching = False
        self._tell_of_loss(error)

    def sends_again(self, call: Call | Posted, ask: Ask | WireAsk) -> bool:
        if self._again is None or ask.abandoned:
            return False
        ask.give_up = None
        self._again.append((call, (), {}, ask))
        return True

    def _tell_of_loss(self, error: Exception) -> None:
        """Tell who watches, as of an end: whether the actor lives, nobody can say."""
        with self.mailbox.lock:
            watchers, self._watchers = self._watchers or [], []
        for tell in watchers:
            tell(Terminated(self.ref, Reason.FAILED, error))
