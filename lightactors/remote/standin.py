"""The stand-in: the cell of an actor that lives at the other end of a link.

What is sent to it is encoded in the caller, who so hears of what can't travel, and leaves at once while the
target has credit; else it waits in the mailbox, which is the outbox, and the stand-in's task sends it on. A
stand-in may be attached to another link when its own has ended: what was not sent yet goes over the new one.

An ask that waits for its own asker across a link (an `AskCycle`) is not detected.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from lightactors.actors.cell import Cell
from lightactors.actors.flag import Flag
from lightactors.actors.mailbox import Ask, Failure
from lightactors.actors.ref import ActorRef
from lightactors.actors.terminated import Reason
from lightactors.actors.tree import Tree, joined
from lightactors.codec import MethodCodec, Parcel
from lightactors.contract import Behaviour, Contract, Method, contract_of
from lightactors.errors import ActorNotRunning, LightActorsError
from lightactors.remote import farrefs, surveys
from lightactors.remote.calls import Call, FarProduction, Posted, Waiting
from lightactors.remote.link import ROOT, SMALL, UNIT, WINDOW, Window
from lightactors.supervision.ladder import Rung
from lightactors.supervision.spec import ChildOptions, ChildSpec

if TYPE_CHECKING:
    from lightactors.actors.loops import Loop, Slot
    from lightactors.actors.owner import Owner
    from lightactors.actors.survey import Words
    from lightactors.remote.link import Link
    from lightactors.remote.node import Node
    from lightactors.remote.serve import WireAsk

_SHUT = Window(0)
"""The window of a target that can't be reached."""


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
            self.ref = farrefs.FarRef(self)
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
        return farrefs.bind(self, self.refs.method(method))

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
        if link.error is None:
            self.go_on()
        else:
            self.link_lost(link.error)  # it has ended meanwhile, and tells nobody any more

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
            asked.give_up = partial(link.cancel, link.survey(self._target, within, Waiting(self, asked, decode)))

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
        number = link.ask(self._target, call.name, call.body, Waiting(self, ask, call.decode, call), call.trace)
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
        call: Any
        call, args, kwargs, ask = envelope
        if not self.refs.takes(call.body):
            try:
                call = self._anew(call)
            except LightActorsError as error:
                self._refuse((call, args, kwargs, ask), error)
                return
        if ask is None:
            self.send_tell(call.name, call.body, call.trace)
        elif ask.abandoned:
            return
        elif isinstance(ask, FarProduction):
            self._send_open(call, ask)
        else:
            self.send_ask(call, ask)

    def _anew(self, call: Call | Posted) -> Call | Posted:
        """Return a message encoded for this link: its bytes lie where only the other end of another one reads them."""
        body = self.refs.anew(call.body)
        self.refs.check_size(body, f"a message to {self.kind}")
        anew = copy.copy(call)
        anew.body = body
        return anew

    def _refuse(self, envelope: Any, error: LightActorsError) -> None:
        call, args, kwargs, ask = envelope
        if ask is None:
            self.system.dead_letter(self.path, call.call(args, kwargs))
        else:
            ask.answer(Failure(error))

    async def _wait_to_go_on(self) -> None:
        self._go = self.loop.slot()
        try:
            await self._go
        finally:
            self._go = None

    # For others

    def relay(
        self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any], ask: WireAsk | None, trace: str
    ) -> None:
        """Send on what has come over another link; raise `ActorNotRunning` and `CannotTravel`."""
        codec = self.refs.method(method)
        call = Call(codec, self.encoded(codec, args, kwargs), trace)
        _settle(call.body)
        self.mailbox.deliver((call, args, kwargs, ask))

    def relay_message(self, message: Any, ask: WireAsk | None) -> None:
        call = self.message(message)
        _settle(call.body)
        self.mailbox.deliver((call, (), {}, ask))

    def production(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> FarProduction:
        """Return a stream to be started."""
        codec = self.refs.method(method)
        call = Call(codec, self.encoded(codec, args, kwargs))
        _settle(call.body)
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


def _settle(body: bytes) -> None:
    if type(body) is Parcel:
        body.settle()


class ChildElsewhere(StandIn):
    """The stand-in of a child: an actor that lives elsewhere, in a process of its own, say, and has its owner here."""

    __slots__ = ("_gone", "_verdict")

    def __init__(self, name: str, owner: Owner, spec: ChildSpec, node: Node) -> None:
        super().__init__(name, owner, node.loop, spec.options, node)
        self.stands_for(spec.kind if isinstance(spec.kind, Behaviour) else contract_of(spec.kind))

    def _be_new(self) -> None:
        super()._be_new()
        self._gone = Flag()  # raised when it has ended there, with all that was its own, or can't be heard of any more
        self._verdict: tuple[Reason, Exception | None] | None = None  # how the actor ended, in its own words

    def origin(self) -> Any:
        kind = self.stood_for
        return kind.function if isinstance(kind, Behaviour) else kind.actor

    def begin(self, started: Ask) -> None:
        self._turn = started
        self._start_task()

    def suspend(self) -> None:
        super().suspend()
        self.go_on()

    def takes(self, rung: Rung) -> bool:
        return not self._gone.is_set()

    def leaves(self) -> bool:
        return False

    def _reason(self) -> Reason:
        if self.error is None and self._verdict is not None and not self._asked:
            return self._verdict[0]
        return super()._reason()
