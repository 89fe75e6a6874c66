"""Messages on their way to another process or node, and who waits for what they bring back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from lightactors.actors.mailbox import Ask, Envelope, Failure
from lightactors.actors.streams import END
from lightactors.codec import MessageCodec, MethodCodec
from lightactors.errors import LightActorsError, LinkError
from lightactors.remote import failures, frames

if TYPE_CHECKING:
    from lightactors.actors.loops import Loop
    from lightactors.remote.serve import WireAsk
    from lightactors.remote.standin import StandIn


class Waiting:
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

    __slots__ = ("body", "codec", "name", "trace")

    def __init__(self, codec: MethodCodec, body: bytes, trace: str = "") -> None:
        self.name = codec.method.name
        self.codec = codec
        self.body = body
        self.trace = trace

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
