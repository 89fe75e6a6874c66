"""The refs of actors elsewhere: what a caller of theirs calls. It is encoded right there (see `remote.standin`)."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from lightactors.actors.mailbox import Ask
from lightactors.actors.ref import Ref
from lightactors.actors.ref import reply_of as wait_for
from lightactors.actors.streams import Stream
from lightactors.codec import MethodCodec, Parcel
from lightactors.contract import Kind, Message
from lightactors.errors import MailboxFull, WrongMessage
from lightactors.remote import tracing
from lightactors.remote.calls import Call

if TYPE_CHECKING:
    from lightactors.remote.standin import StandIn


def bind(cell: StandIn, codec: MethodCodec) -> Any:
    """Return a handler as the ref of an actor elsewhere shows it."""
    return _FarStream(cell, codec) if codec.method.kind is Kind.STREAM else _Far(cell, codec)


async def _settle(body: Parcel) -> None:
    """See to it that what a message carries is as it is now, whatever its sender does with it next."""
    if body.is_heavy:
        await anyio.to_thread.run_sync(body.settle)
    else:
        body.settle()


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
        if type(body) is Parcel:
            await _settle(body)
        loop = cell.loop
        if get_ident() == loop.ident and cell.is_free() and cell.refs.takes(body):
            ask = Ask(loop, loop)
            cell.send_ask(Call(codec, body, tracing.current()), ask)
        else:
            ask = Ask(None, loop)
            await cell.mailbox.put(self._envelope(body, args, kwargs, ask))
        return await wait_for(cell, ask)

    async def tell(self, *args: Any, **kwargs: Any) -> None:
        cell = self._cell
        body = cell.encoded(self._codec, args, kwargs)
        if type(body) is Parcel:
            await _settle(body)
        if get_ident() == cell.loop.ident and cell.is_free() and cell.refs.takes(body):
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
        if type(body) is Parcel:
            body.settle()
        if get_ident() == cell.loop.ident and cell.is_free() and cell.refs.takes(body):
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
        if type(call.body) is Parcel:
            await _settle(call.body)
        if get_ident() == cell.loop.ident and cell.is_free() and cell.refs.takes(call.body):
            cell.send_tell("", call.body)
        else:
            await cell.mailbox.put((call, (), {}, None))

    def tell_nowait(self, message: Any) -> None:
        cell = self._cell
        cell.behaviour.check(message)
        call = cell.message(message)
        if type(call.body) is Parcel:
            call.body.settle()
        cell.mailbox.put_nowait((call, (), {}, None))

    async def ask(self, message: Any) -> Any:
        if not isinstance(message, Message):
            raise WrongMessage(f"{message!r} has no reply type; derive its class from lightactors.Message[Reply]")
        cell = self._cell
        cell.behaviour.check(message)
        call = cell.message(message)
        if type(call.body) is Parcel:
            await _settle(call.body)
        ask = Ask(None, cell.loop)
        await cell.mailbox.put((call, (), {}, ask))
        return await wait_for(cell, ask)
