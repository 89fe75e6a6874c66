"""The channel: how a node calls another one, for one link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lightactors.errors import AccessDenied, ConnectFailed, LinkError
from lightactors.remote.grpc import options
from lightactors.remote.grpc.carrier import StreamCarrier
from lightactors.remote.grpc.credentials import channel_credentials, metadata_of
from lightactors.remote.grpc.greeting import WELCOME, from_wire, greeting

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightactors.address import Address
    from lightactors.remote.grpc.io import Io
    from lightactors.remote.hello import Hello
    from lightactors.security import Tls

_ANSWERS_WITHIN = 5.0
"""Seconds until a node must have said its hello."""


class Channel:
    """A connection to another node, as far as the carrier of a link."""

    def __init__(self, io: Io, address: Address, tls: Tls | None, token: str | None) -> None:
        self._io = io
        self._address = address
        self._tls = tls
        self._token = token

    async def open(self, hello: Hello) -> tuple[StreamCarrier, Hello]:
        """Connect, say hello and hear one; at home. Raises `ConnectFailed` and `AccessDenied`."""
        return await self._io.call(lambda: self._open(hello), lambda opened: opened[0].discard())

    # Among gRPC's tasks

    async def _open(self, hello: Hello) -> tuple[StreamCarrier, Hello]:
        target = self._address.grpc_target()
        if self._address.is_tls:
            channel = grpc.aio.secure_channel(target, channel_credentials(self._tls), options=options.CLIENT)
        else:
            channel = grpc.aio.insecure_channel(target, options=options.CLIENT)
        try:
            call: Any = channel.stream_stream("/lightactors.v1.Link/Open")(metadata=metadata_of(self._token))
            answer = await self._greet(call, hello)
        except BaseException:
            await channel.close()
            raise
        carrier = StreamCarrier(self._io, call, call.done_writing)
        self._io.start(_carry(carrier, channel))
        return carrier, answer

    async def _greet(self, call: Any, hello: Hello) -> Hello:
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN):
                # Before anything is written: a write to a call that was refused makes an internal error of it.
                metadata: list[Any] = list(await call.initial_metadata() or ())
                if WELCOME not in metadata:
                    raise self._refusal(await call.code(), await call.details())
                await call.write(greeting(hello))
                data = await call.read()
            if data is grpc.aio.EOF:
                raise self._refusal(await call.code(), await call.details())
            answer = from_wire(data)
        except TimeoutError:
            raise ConnectFailed(f"{self._address} did not answer within {_ANSWERS_WITHIN:.0f} s") from None
        except grpc.aio.AioRpcError as error:
            raise self._refusal(error.code(), error.details()) from None
        except asyncio.InvalidStateError:  # what a write to a call that was refused raises
            raise self._refusal(await call.code(), await call.details()) from None
        except LinkError as error:
            raise ConnectFailed(f"{self._address} is no node of ours: {error}") from None
        if (objection := answer.objection()) is not None:
            raise ConnectFailed(f"{self._address}: {objection}")
        return answer

    def _refusal(self, code: grpc.StatusCode, details: str | None) -> Exception:
        explain = _REFUSALS.get(code)
        if explain is not None:
            return explain(str(self._address), details or "")
        return ConnectFailed(f"{self._address}: {code.name}: {details or 'no details'}")


async def _carry(carrier: StreamCarrier, channel: grpc.aio.Channel) -> None:
    try:
        await carrier.run()
    finally:
        await channel.close()


def _unavailable(address: str, details: str) -> ConnectFailed:
    why = details.rpartition("; last error: ")[2] or details
    tls = "SSL" in why or "handshake" in why.lower() or "certificate" in why.lower()
    cure = "do both ends mean TLS (grpcs://), and does this one trust who signed the other's certificate?"
    if "Socket closed" in why and address.startswith("grpc:"):
        return ConnectFailed(f"{address} can't be reached: it hung up; does it want TLS (grpcs://), or is it no node?")
    return ConnectFailed(f"{address} can't be reached: {why}" + (f"; {cure}" if tls else "; is it running?"))


_REFUSALS: dict[grpc.StatusCode, Callable[[str, str], Exception]] = {
    grpc.StatusCode.UNAVAILABLE: _unavailable,
    grpc.StatusCode.UNAUTHENTICATED: lambda address, details: AccessDenied(f"{address} refused: {details}"),
    grpc.StatusCode.PERMISSION_DENIED: lambda address, details: AccessDenied(f"{address} refused: {details}"),
    grpc.StatusCode.FAILED_PRECONDITION: lambda address, details: ConnectFailed(f"{address}: {details}"),
    grpc.StatusCode.UNIMPLEMENTED: lambda address, _: ConnectFailed(
        f"{address} speaks gRPC, but is no node of lightactors; is it another port that you mean?"
    ),
}
