"""What one link's other end may reach here: its asks, tells and streams go into mailboxes, in the order they came.

No task for a message. A plain handler of an idle actor on the link's loop runs at once, as it would in a local
caller; everything else is queued past the mailbox's bound, for the sender has a window: credit for so many
messages, given back when the mailbox has room.
"""

from __future__ import annotations

import logging
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
from msgspec import Raw

from lightactors.actors.behaviours import BehaviourCell
from lightactors.actors.mailbox import Failure
from lightactors.actors.owner import State
from lightactors.actors.stopping import stop_all
from lightactors.actors.streams import AHEAD, END, Production
from lightactors.codec import MessageCodec, MethodCodec
from lightactors.contract import Kind
from lightactors.errors import AccessDenied, ActorNotRunning, LightActorsError, LinkError
from lightactors.remote import failures, frames, surveys, tracing
from lightactors.remote.calls import FarProduction
from lightactors.remote.link import ANSWER, ROOT, SHELF, UNIT, WINDOW
from lightactors.remote.standin import StandIn
from lightactors.supervision.ladder import ladder_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightactors.actors.cell import Cell
    from lightactors.actors.loops import Loop
    from lightactors.actors.terminated import Terminated
    from lightactors.actors.tree import Tree
    from lightactors.contract import Method
    from lightactors.remote.link import Link
    from lightactors.remote.node import Node

logger = logging.getLogger("lightactors")

IN_FLIGHT = 65_536
"""Asks and streams that one link may have under way."""

_SHARE = 256
"""Handlers that may run at once, of what one read has brought, before everybody else gets a turn."""


class Encodes(Protocol):
    """What knows how a reply leaves as bytes."""

    def encode_reply(self, value: Any, /) -> bytes: ...


class WireAsk:
    """Somebody at the other end waits for a reply: to a cell the same as a local `Ask`."""

    __slots__ = ("_codec", "_service", "abandoned", "answered", "cell", "give_up", "id")

    def __init__(self, service: ServiceOfNode, cell: Cell, number: int, codec: MethodCodec | MessageCodec) -> None:
        self._service = service
        self._codec = codec
        self.cell = cell
        self.id = number
        self.abandoned = False
        self.answered = False
        self.give_up: Callable[[], object] | None = None

    def answer(self, value: object) -> None:
        """Reply; from any thread."""
        self.answered = True
        service = self._service
        if get_ident() == service.loop.ident:
            service.answer(self, self._codec, value)
        else:
            service.loop.post(service.answer, self, self._codec, value)

    def answer_from_afar(self, value: object, _: Loop) -> None:
        self.answer(value)

    def fail(self, error: BaseException) -> None:
        self.answer(Failure(error))

    def end(self) -> None:
        """The asker gave up, or is gone."""
        self.cell.order(self.cell.abandon, self)


class WireStream:
    """The consumer's end of a stream, at the other end of the link: to a production the same as a local outlet."""

    def __init__(self, service: ServiceOfNode, number: int, codec: MethodCodec, cell: Cell) -> None:
        self._service = service
        self._codec = codec
        self._cell = cell
        self._granted = 0  # by the consumer, and not passed on yet
        self._credit = AHEAD
        self.id = number
        self.loop = service.loop
        self.production: Production | FarProduction

    def push(self, item: object) -> None:
        """Send an item, or the end; on the link's loop."""
        link = self._service.link
        if self._service.served.get(self.id) is not self:
            return  # cancelled: what was produced ahead is dropped
        if item is END:
            del self._service.served[self.id]
            link.send(frames.End(self.id))
        elif type(item) is Failure:
            self._fail(item.error)
        else:
            try:
                body = self._codec.encode_reply(item)
            except LightActorsError as error:
                self._fail(error)
                self.end()
            else:
                self._credit -= 1
                link.post(frames.Item(self.id, Raw(body)), body)

    def _fail(self, error: BaseException) -> None:
        del self._service.served[self.id]
        self._service.fail(self.id, error)

    def grant(self, items: int) -> None:
        """Have more produced: never more ahead than a consumer here could ask for, nor for who takes nothing of it."""
        if items > 0:
            is_waiting, self._granted = self._granted > 0, min(self._granted + items, AHEAD)
            if not is_waiting:
                self._service.link.when_clear(self._pass_on)

    def _pass_on(self) -> None:
        granted = min(self._granted, AHEAD - self._credit)
        self._granted = 0
        self._credit += granted
        self._cell.order(self.production.grant, granted)

    def end(self) -> None:
        """The consumer is gone."""
        self._cell.loop.post(self.production.end)


class WireSurvey:
    """Somebody at the other end waits for a branch of the tree."""

    def __init__(self, service: ServiceOfNode, number: int, cell: Cell, within: float) -> None:
        self._service = service
        self._cell = cell
        self._within = within
        self._scope = anyio.CancelScope()
        self.id = number

    async def run(self) -> None:
        """Look, and reply."""
        outcome: Tree | Failure
        with self._scope:
            try:
                outcome = await self._cell.survey(within=self._within)
            except Exception as error:  # a tree deeper than the stack, say: whoever looked hears of it
                outcome = Failure(error)
            self._service.answer(self, self, outcome)

    def encode_reply(self, tree: Tree) -> bytes:
        body = surveys.encode(tree)
        self._service.link.owed += len(body)
        return body

    def end(self) -> None:
        """Nobody waits any more."""
        self._scope.cancel()


class Port:
    """One actor as the other end reaches it."""

    def __init__(self, service: ServiceOfNode, number: int, cell: Cell) -> None:
        self.cell = cell
        self.mailbox = cell.mailbox
        self._service = service
        self._number = number
        self._owed = 0
        self._window = min(WINDOW, cell.mailbox.capacity)
        self._waits_for_room = False
        self._codecs: dict[str, MethodCodec] = {}
        # A stand-in's replies come over another link; all others may run right here.
        self._may_run_here = cell.loop is service.loop and not isinstance(cell, (StandIn, BehaviourCell))
        self.is_behaviour = hasattr(cell, "behaviour")
        self._is_relay = isinstance(cell, StandIn)

    def codec(self, name: str) -> MethodCodec:
        codec = self._codecs.get(name)
        if codec is None:
            method = self.cell.contract.methods.get(name)
            if method is None:
                raise self.cell.contract.unknown(name, self.cell.actor)
            if not method.admits(self._service.link.role):
                raise AccessDenied(f"{method} can't be called by a {self._service.link.role}; use another token")
            codec = self._codecs[name] = self._service.refs.method(method)
        return codec

    def message(self) -> MessageCodec:
        if self._service.link.role == "viewer":
            raise AccessDenied(f"{self.cell.kind} takes no messages of a viewer; use another token")
        return self._service.refs.messages(self.cell.behaviour)  # type: ignore[attr-defined]

    def runs_here(self, codec: MethodCodec) -> bool:
        """Tell whether the handler may run right now, in place of being queued."""
        method = codec.method
        return (
            self._may_run_here
            and self.mailbox.idle
            and method.kind is Kind.PLAIN
            and not method.interleaved
            and self._service.share > 0
        )

    def run(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take a turn, as `actors.ref` does for a local caller."""
        cell, mailbox, loop = self.cell, self.mailbox, self._service.loop
        self._service.share -= 1
        loop.inline = cell
        mailbox.idle = False
        cell.handled += 1
        try:
            return method.function(cell.actor, *args, **kwargs)
        except BaseException as raised:
            error = loop.failure(raised)
            cell.note_failure(error)
            return Failure(error)
        finally:
            loop.inline = None
            if mailbox.queue or mailbox.signals or mailbox.closed:
                mailbox.wake()
            else:
                mailbox.idle = True

    def deliver(
        self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any], ask: WireAsk | None, trace: str
    ) -> None:
        """Queue a call; raise `ActorNotRunning`."""
        if self._is_relay:
            cast("StandIn", self.cell).relay(method, args, kwargs, ask, trace)
        else:
            self.mailbox.deliver((_traced(method, trace), args, kwargs, ask))

    def deliver_message(self, message: Any, ask: WireAsk | None) -> None:
        """Queue a behaviour's message; raise `ActorNotRunning`."""
        if isinstance(self.cell, StandIn):
            self.cell.relay_message(message, ask)
        else:
            self.mailbox.deliver((message, ask))

    def production(
        self, codec: MethodCodec, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Production | FarProduction:
        if isinstance(self.cell, StandIn):
            return self.cell.production(codec.method, args, kwargs)
        return Production(self.cell, codec.method, (args, kwargs))

    def charge(self, body: Raw) -> None:
        """Note what a message has cost its sender, who gets it back when there is room.

        Raises `LinkError` when it has cost more than the sender could have had.
        """
        if self._owed >= WINDOW:
            raise LinkError(f"more came for {self.cell.path} than its sender had credit for")
        self._owed += _cost(body)
        if self._owed * 2 >= self._window and not self._waits_for_room:
            self._waits_for_room = True
            self.mailbox.when_room(partial(self._service.loop.order, self.give_back))

    def give_back(self) -> None:
        """Let the sender have its credit again."""
        # Who does not take its replies is given no room for more asks.
        self._service.link.when_clear(self._do_give_back)

    def _do_give_back(self) -> None:
        self._waits_for_room = False
        owed, self._owed = self._owed, 0
        if owed:
            self._service.link.send(frames.Credit(self._number, owed))


class ServiceOfNode:
    """The side of a link that serves: see `link.Service`."""

    def __init__(self, link: Link, node: Node) -> None:
        self.link = link
        self.node = node
        self.loop = node.loop
        self.refs = node.refs(link)
        self.root: Cell | None = None
        self.share = _SHARE
        self.served: dict[int, WireAsk | WireStream | WireSurvey] = {}
        self._ports: dict[int, Port] = {}
        self._watched: dict[int, tuple[Cell, Callable[[Terminated], object]]] = {}

    # Messages

    def asked(self, frame: frames.Ask) -> None:
        self._see_it_may_be_served(frame.id)
        try:
            port = self._charged(frame)
            if port.is_behaviour:
                self._ask_behaviour(port, frame)
            else:
                self._ask_method(port, frame)
        except LinkError:
            raise
        except LightActorsError as error:
            self.served.pop(frame.id, None)
            self.fail(frame.id, error)

    def _ask_method(self, port: Port, frame: frames.Ask) -> None:
        codec = port.codec(frame.method)
        args, kwargs = codec.decode_call(frame.body)
        if port.runs_here(codec):
            self.reply(frame.id, codec, port.run(_traced(codec.method, frame.trace), args, kwargs))
        else:
            ask = self._serve(WireAsk(self, port.cell, frame.id, codec))
            port.deliver(codec.method, args, kwargs, ask, frame.trace)

    def _ask_behaviour(self, port: Port, frame: frames.Ask) -> None:
        codec = port.message()
        message = codec.decode(frame.body)
        port.deliver_message(message, self._serve(WireAsk(self, port.cell, frame.id, codec)))

    def _serve(self, ask: WireAsk) -> WireAsk:
        self.served[ask.id] = ask
        return ask

    def _see_it_may_be_served(self, number: int) -> None:
        if number in self.served:
            raise LinkError(f"ask {number} came twice")
        if len(self.served) >= IN_FLIGHT:
            raise LinkError(f"{IN_FLIGHT} asks and streams are under way over this link, and more came")

    def told(self, frame: frames.Tell) -> None:
        try:
            port = self._charged(frame)
            if port.is_behaviour:
                port.deliver_message(port.message().decode(frame.body), None)
            else:
                codec = port.codec(frame.method)
                args, kwargs = codec.decode_call(frame.body)
                port.deliver(codec.method, args, kwargs, None, frame.trace)
        except LinkError:
            raise
        except LightActorsError as error:
            logger.warning("a message from %s, %s, reached nobody: %s", self.link.label, frame.method, error)
            self.node.system.order(self.node.system.dead_letter, f"{self.link.label}: {frame.target}", frame.method)

    def answer(self, ask: WireAsk | WireSurvey, codec: Encodes, value: object) -> None:
        """Reply to an ask that is served, unless it was cancelled: its id may be another one's by now."""
        if self.served.get(ask.id) is ask:
            del self.served[ask.id]
            self.reply(ask.id, codec, value)

    def reply(self, number: int, codec: Encodes, value: object) -> None:
        """Send a reply, or the error that is to be raised; on the link's loop."""
        if type(value) is Failure:
            self.fail(number, value.error)
            return
        try:
            body = codec.encode_reply(value)
            self.refs.check_size(body, "the reply")
        except LightActorsError as error:
            self.fail(number, error)
        else:
            self.link.post(frames.Reply(number, Raw(body)), body)

    def fail(self, number: int, error: BaseException) -> None:
        """Send the error that an ask or a stream has ended with."""
        body = failures.encode(error)
        self.link.send(frames.Error(number, Raw(body)), len(body))

    def cancelled(self, frame: frames.Cancel) -> None:
        served = self.served.pop(frame.id, None)
        if served is not None:  # else it has just been answered
            served.end()

    def settle(self) -> None:
        self.share = _SHARE

    # Streams

    def opened(self, frame: frames.Open) -> None:
        self._see_it_may_be_served(frame.id)
        try:
            port = self._charged(frame)
            codec = port.codec(frame.method)
            if codec.method.kind is not Kind.STREAM:
                raise port.cell.contract.unknown(frame.method, port.cell.actor)
            stream = WireStream(self, frame.id, codec, port.cell)
            stream.production = port.production(codec, *codec.decode_call(frame.body))
            stream.production.outlet = stream
            port.mailbox.deliver(stream.production.turn())
        except LinkError:
            raise
        except LightActorsError as error:
            self.fail(frame.id, error)
        else:
            self.served[frame.id] = stream

    def granted(self, frame: frames.Grant) -> None:
        stream = self.served.get(frame.id)
        if isinstance(stream, WireStream):
            stream.grant(frame.items)

    # Ends

    def watched(self, frame: frames.Watch) -> None:
        cell = self._cell(frame.target)
        if cell is None:
            self.link.answer(frames.Terminated(frame.target, self.node.epitaph(frame.target), frames.NONE))
        elif frame.target not in self._watched:
            tell = partial(self.loop.order, self._has_ended, frame.target)
            self._watched[frame.target] = cell, tell
            cell.when_ended_for_good(tell)

    def _has_ended(self, target: int, terminated: Terminated) -> None:
        watched = self._watched.pop(target, None)
        if watched is not None and watched[0].state is not State.STOPPED:
            # A stand-in has only lost its link, which will be made again.
            self._watched[target] = watched
            watched[0].when_ended_for_good(watched[1])
            return
        self.link.send(frames.Terminated(target, terminated.reason.name, failures.encode_cause(terminated.error)))

    def stopped(self, frame: frames.Stop) -> None:
        grace = _seconds(frame.grace)
        if frame.target == ROOT:
            self.link.listener.stop(self.link, grace)
        elif (cell := self._cell(frame.target)) is not None and self._may_stop(cell):
            self.node.start(partial(_stop, cell, grace), f"stop of {cell.path}")

    def _may_stop(self, cell: Cell) -> bool:
        if self.link.role == "admin" or self.node.outside.has_started(self.link, cell):
            return True
        logger.warning("%s, a %s, may not stop %s", self.link.label, self.link.role, cell.path)
        return False

    # Looking

    def surveyed(self, frame: frames.Survey) -> None:
        self._see_it_may_be_served(frame.id)
        self.link.owed += ANSWER
        cell = self._cell(frame.target)
        if cell is None:
            self.fail(frame.id, _is_gone(frame.target))
        else:
            survey = WireSurvey(self, frame.id, cell, _seconds(frame.within))
            self.served[frame.id] = survey
            self.node.start(survey.run, f"survey of {cell.path}")

    # The end

    def lost(self) -> None:
        served, self.served = self.served, {}
        for one in served.values():
            one.end()
        for cell, tell in self._watched.values():
            cell.forget(tell)
        self._watched.clear()
        self._ports.clear()
        self.node.forget(self.link)

    # Targets

    def _charged(self, frame: frames.Ask | frames.Tell | frames.Open) -> Port:
        """Return what is to have the message, and note what that has cost; raise `ActorNotRunning`."""
        port = self._ports.get(frame.target)
        if port is None:
            cell = self._cell(frame.target)
            if cell is None:
                self.link.answer(frames.Credit(frame.target, _cost(frame.body)))  # there will be no mailbox with room
                raise _is_gone(frame.target)
            port = self._ports[frame.target] = Port(self, frame.target, cell)
        port.charge(frame.body)
        return port

    def _cell(self, target: int) -> Cell | None:
        if target == SHELF:
            return self.node.sharing.shelf(self.link)
        return self.root if target == ROOT else self.node.exported(target, self.link)

    def forget(self, target: int) -> None:
        """The actor has ended."""
        port = self._ports.pop(target, None)
        if port is not None:
            port.give_back()


def _cost(body: Raw) -> int:
    """Return how much of a window a message costs."""
    return 1 + memoryview(body).nbytes // UNIT


def _traced(method: Method, trace: str) -> Method:
    return tracing.within(trace, method) if trace else method


def _seconds(value: float) -> float:
    return value if value >= 0 else 0.0  # nor is what is no number at least 0


def _is_gone(target: int) -> ActorNotRunning:
    return ActorNotRunning(f"there is no actor {target} here any more")


async def _stop(cell: Cell, grace: float) -> None:
    await stop_all([cell], ladder_of(grace))
