"""The carrier: takes a link's bytes over a connected stream socket, on asyncio and on trio.

A carrier writes what `link.take` gives it, calls `link.receive`, `link.resume` and `link.lose`, sets
`link.is_writable`, and gives the link `wake` (something is to be written) and `shut` (close, after writing what
there is).
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from lightactors.actors import loops
from lightactors.errors import LinkError
from lightactors.remote.frames import Buffer, Parser, pack

if TYPE_CHECKING:
    from lightactors.actors.loops import Slot
    from lightactors.remote.link import Link

_SLICE = 256 * 1024
"""Bytes that asyncio is given at once: what the socket does not take, it copies."""


async def carry(link: Link, sock: socket.socket) -> None:
    """Have a socket carry the link from now on; the link owns the socket."""
    sock.setblocking(False)
    if loops.current().backend == "trio":
        _TrioCarrier(link, sock)
    else:
        await asyncio.get_running_loop().create_connection(lambda: _AsyncioCarrier(link), sock=sock)


class _Bytes:
    """A link's batches, as a socket takes and brings them."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._parser = Parser(link.limit)
        self.room = self._parser.room

    def came(self, count: int) -> None:
        """Give the link what was put into the room."""
        try:
            batches = self._parser.filled(count)
        except LinkError as error:
            self._link.lose(f"the other end broke the protocol: {error}")
        else:
            if batches:
                self._link.receive(batches)

    def to_write(self) -> list[Buffer]:
        return [part for batch in self._link.take() for part in pack(batch)]


class _AsyncioCarrier(asyncio.BufferedProtocol):
    def __init__(self, link: Link) -> None:
        self._link = link
        self._bytes = _Bytes(link)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._is_awake = False
        self._is_paused = False
        self._unwritten: deque[Buffer] = deque()
        link.wake = self._wake
        link.shut = self._shut

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._bytes.room()

    def buffer_updated(self, nbytes: int) -> None:
        self._bytes.came(nbytes)

    def pause_writing(self) -> None:
        self._is_paused = True
        self._link.is_writable = False

    def resume_writing(self) -> None:
        self._is_paused = False
        self._write()
        if not self._is_paused:
            self._link.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lose(_why(exc))

    def _wake(self) -> None:
        if not self._is_awake:
            self._is_awake = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_awake = False
        self._take()
        self._write()
        if not self._is_paused and self._link.is_waited_for:
            self._link.resume()

    def _take(self) -> None:
        for part in self._bytes.to_write():
            self._unwritten.extend(part[at : at + _SLICE] for at in range(0, len(part), _SLICE))

    def _write(self) -> None:
        while self._unwritten and not self._is_paused:
            self._transport.write(self._unwritten.popleft())

    def _shut(self) -> None:
        self._take()
        for part in self._unwritten:
            self._transport.write(part)
        self._transport.close()


class _TrioCarrier:
    """A reader and a writer, in system tasks: they end with the link.

    And not with the loop, which cancels all its tasks at once: the last words of those that are stopped then are
    still to come, as they do on asyncio.
    """

    def __init__(self, link: Link, sock: socket.socket) -> None:
        import trio  # optional: only who runs trio has it

        self._link = link
        self._bytes = _Bytes(link)
        self._trio = trio
        self._socket = trio.socket.from_stdlib_socket(sock)
        self._stream = trio.SocketStream(self._socket)
        self._loop = loops.current()
        self._slot: Slot | None = None
        self._is_closing = False
        link.wake = self._wake
        link.shut = self._shut
        self._start(self._read, f"reader of {link!r}")
        self._start(self._write, f"writer of {link!r}")

    def _start(self, function: Callable[[], Awaitable[None]], name: str) -> None:
        async def run() -> None:
            with self._trio.CancelScope(shield=True):
                await function()

        self._loop.start(run, name, contextvars.Context())

    def _wake(self) -> None:
        if self._slot is not None:
            self._slot.set(None)

    def _shut(self) -> None:
        self._is_closing = True
        self._wake()

    async def _read(self) -> None:
        reason: Exception | None = None
        try:
            while count := await self._socket.recv_into(self._bytes.room()):
                self._bytes.came(count)
        except (OSError, self._trio.ClosedResourceError) as error:
            reason = error
        finally:
            self._link.lose(_why(reason))

    async def _write(self) -> None:
        try:
            while parts := await self._next_parts():
                for part in parts:
                    await self._send(part)
        except (self._trio.BrokenResourceError, self._trio.ClosedResourceError) as error:
            self._link.lose(_why(error))
        finally:
            self._socket.close()

    async def _next_parts(self) -> list[Buffer]:
        """Wait for something to write; nothing: the link is to be closed."""
        while not (parts := self._bytes.to_write()) and not self._is_closing:
            self._slot = self._loop.slot()
            await self._slot
        return parts

    async def _send(self, part: Buffer) -> None:
        self._link.is_writable = False  # like asyncio's transport: while it writes, what is new waits in the mailboxes
        try:
            await self._stream.send_all(part)
        finally:
            self._link.resume()


def _why(error: Exception | None) -> str:
    return "the other end closed it" if error is None else f"{error!r}"
