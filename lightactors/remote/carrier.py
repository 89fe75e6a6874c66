"""The carrier: takes a link's bytes over a connected stream socket, on asyncio and on trio.

A carrier calls `link.receive`, `link.resume` and `link.lose`, sets `link.is_writable`, and gives the link `wake`
(something is to be written) and `shut` (close, after writing what there is).
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
from typing import TYPE_CHECKING, Any

from lightactors.actors import loops

if TYPE_CHECKING:
    from lightactors.actors.loops import Slot
    from lightactors.remote.link import Link

_READ = 256 * 1024


async def carry(link: Link, sock: socket.socket) -> None:
    """Have a socket carry the link from now on; the link owns the socket."""
    sock.setblocking(False)
    if loops.current().backend == "trio":
        _TrioCarrier(link, sock)
    else:
        await asyncio.get_running_loop().create_connection(lambda: _AsyncioCarrier(link), sock=sock)


class _AsyncioCarrier(asyncio.Protocol):
    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._is_awake = False
        link.wake = self._wake
        link.shut = self._shut

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._link.receive(data)

    def pause_writing(self) -> None:
        self._link.is_writable = False

    def resume_writing(self) -> None:
        self._link.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lose(_why(exc))

    def _wake(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_awake = False
        for batch in self._link.take():
            self._transport.write(batch)

    def _shut(self) -> None:
        self._flush()
        self._transport.close()


class _TrioCarrier:
    """A reader and a writer, in system tasks: they end with the link."""

    def __init__(self, link: Link, sock: socket.socket) -> None:
        import trio  # optional: only who runs trio has it

        self._link = link
        self._trio = trio
        self._socket = trio.socket.from_stdlib_socket(sock)
        self._stream = trio.SocketStream(self._socket)
        self._loop = loops.current()
        self._slot: Slot | None = None
        self._is_closing = False
        link.wake = self._wake
        link.shut = self._shut
        self._loop.start(self._read, f"reader of {link!r}", contextvars.Context())
        self._loop.start(self._write, f"writer of {link!r}", contextvars.Context())

    def _wake(self) -> None:
        if self._slot is not None:
            self._slot.set(None)

    def _shut(self) -> None:
        self._is_closing = True
        self._wake()

    async def _read(self) -> None:
        reason: Exception | None = None
        try:
            while data := await self._socket.recv(_READ):
                self._link.receive(bytes(data))
        except (OSError, self._trio.ClosedResourceError) as error:
            reason = error
        finally:
            self._link.lose(_why(reason))

    async def _write(self) -> None:
        try:
            while batches := await self._next_batches():
                for batch in batches:
                    await self._send(batch)
        except (self._trio.BrokenResourceError, self._trio.ClosedResourceError) as error:
            self._link.lose(_why(error))
        finally:
            self._socket.close()

    async def _next_batches(self) -> list[bytearray]:
        """Wait for something to write; nothing: the link is to be closed."""
        while not (batches := self._link.take()) and not self._is_closing:
            self._slot = self._loop.slot()
            await self._slot
        return batches

    async def _send(self, batch: bytearray) -> None:
        self._link.is_writable = False  # like asyncio's transport: while it writes, what is new waits in the mailboxes
        try:
            await self._stream.send_all(batch)
        finally:
            self._link.resume()


def _why(error: Exception | None) -> str:
    return "the other end closed it" if error is None else f"{error!r}"
