"""The carrier of a link between two nodes: a gRPC stream of batches (see `remote.carrier` for what a carrier does)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import grpc.aio

from lightactors.errors import LinkError
from lightactors.remote import frames
from lightactors.remote.grpc.wire import frames_in, wrapped

if TYPE_CHECKING:
    from lightactors.remote.grpc.io import Io
    from lightactors.remote.link import Link

_AHEAD = 2
"""Batches that are given to gRPC before it has taken the one before: what is sent meanwhile makes the next one."""

_LAST_WORDS = 1.0
"""Seconds that the other end has to close its side too."""

_UNREAD = 16
"""Batches that may wait for the actors' loop before no more are read."""


class Stream(Protocol):
    """One end of a gRPC stream: a call, or a servicer's context."""

    async def read(self) -> Any: ...
    async def write(self, message: bytes) -> None: ...


class StreamCarrier:
    """Takes a link's batches over a gRPC stream, from `attach` to the end of `run`."""

    piece = 256 * 1024
    """Bytes of a message that go at once; larger ones go in pieces."""

    def __init__(self, io: Io, stream: Stream, half_close: Callable[[], Awaitable[None]] | None = None) -> None:
        self._io = io
        self._stream = stream
        self._half_close = half_close  # tells the servicer that nothing more will come; its own end is its return
        # At home, where the link is:
        self._link: Link
        self._is_armed = False
        self._is_shut = False
        self._ahead = 0
        # Among gRPC's tasks:
        self._outbox: deque[bytes | None] = deque()  # None: the end
        self._more = asyncio.Event()
        self._fewer = asyncio.Event()
        self._unread = 0

    # At home

    def attach(self, link: Link) -> None:
        """Carry this link."""
        self._link = link
        link.wake = self._wake
        link.shut = self._shut
        self._wake()

    def _wake(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._io.home.soon(self._flush)

    def _flush(self) -> None:
        self._is_armed = False
        link = self._link
        while self._ahead < _AHEAD and (batches := link.take()):
            for batch in batches:
                self._ahead += 1
                self._io.to_io(self._put, frames.encode(batch))
        if self._ahead < _AHEAD:
            if self._is_shut:
                self._io.to_io(self._put, None)
            elif not link.is_writable:
                link.resume()

    def _written(self) -> None:
        self._ahead -= 1
        self._flush()

    def _shut(self) -> None:
        self._is_shut = True
        self._wake()

    def _came(self, data: bytes | memoryview) -> None:
        if self._link.error is None:
            try:
                batch = frames.decode(data)
            except LinkError as error:
                self._link.lose(f"the other end broke the protocol: {error}")
            else:
                self._link.receive([batch])
        self._io.to_io(self._was_handled)

    def _lost(self, reason: str) -> None:
        self._link.lose(reason)

    # Among gRPC's tasks

    async def run(self) -> BaseException | None:
        """Write and read until the link is shut or the stream ends; return what ended it, if that was an error."""
        writer = self._io.start(self._write())
        reader = self._io.start(self._read())
        try:
            await asyncio.wait([writer, reader], return_when=asyncio.FIRST_COMPLETED)
            if self._half_close is not None and not reader.done() and writer.exception() is None:
                await self._half_close()
                await asyncio.wait([reader], timeout=_LAST_WORDS)
        finally:
            writer.cancel()
            reader.cancel()  # which ends the call, if nothing else has
            error = _error_of(writer) or _error_of(reader)
            self._io.to_home(self._lost, "the other end closed it" if error is None else reason_of(error))
        return error

    def _put(self, data: bytes | None) -> None:
        self._outbox.append(data)
        self._more.set()

    async def _write(self) -> None:
        while True:
            while self._outbox:
                data = self._outbox.popleft()
                if data is None:
                    return
                await self._stream.write(wrapped(data))
                self._io.to_home(self._written)
            self._more.clear()
            await self._more.wait()

    async def _read(self) -> None:
        while (data := await self._stream.read()) is not grpc.aio.EOF:
            self._unread += 1
            self._io.to_home(self._came, frames_in(data))
            while self._unread >= _UNREAD:
                self._fewer.clear()
                await self._fewer.wait()

    def _was_handled(self) -> None:
        self._unread -= 1
        self._fewer.set()


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def reason_of(error: BaseException) -> str:
    """Return what gRPC's error says, without its frame."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name.lower().replace('_', ' ')}: {error.details() or 'no details'}"
    return str(error) if isinstance(error, LinkError) else repr(error)
