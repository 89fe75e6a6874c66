"""The carrier of a link between two nodes: a gRPC stream of batches (see `remote.carrier` for what a carrier does)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
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

_OWED = 2**20
"""Bytes of answers, of those that no window bounds, that may be untaken before nothing more is read that wants one."""

_LAST_WORDS = 1.0
"""Seconds that the other end has to close its side too."""

_UNHANDLED = 2 * 2**20
"""Bytes that may wait before no more are read: for the actors' loop, or for the other end to take what it is sent."""


class Stream(Protocol):
    """One end of a gRPC stream: a call, or a servicer's context."""

    async def read(self) -> Any: ...
    async def write(self, message: bytes) -> None: ...


class Pace:
    """How far one loop may run ahead of another one; only who waits costs a crossing between the two."""

    def __init__(self, most: int, wake: Callable[[], object]) -> None:
        self._most = most
        self._wake = wake  # has who gives look again
        self._given = 0  # written by the one loop only
        self._taken = 0  # and this by the other
        self._waits = False

    def has_room(self) -> bool:
        """Tell whether more may be given; False: `wake` will be called when it may."""
        if self.ahead < self._most:
            return True
        # Said first and looked at again then, for the taker does it the other way round.
        self._waits = True
        return self.ahead < self._most

    @property
    def ahead(self) -> int:
        """How much was given and not dealt with yet."""
        return self._given - self._taken

    def give(self, amount: int = 1) -> None:
        self._given += amount

    def take(self, amount: int = 1) -> None:
        """Note that so much was dealt with."""
        self._taken += amount
        if self._waits:
            self._waits = False
            self._wake()


class StreamCarrier:
    """Takes a link's batches over a gRPC stream, from `attach` to the end of `run`; or `discard` it instead."""

    piece = 256 * 1024
    """Bytes of a message that go at once; larger ones go in pieces."""

    def __init__(self, io: Io, stream: Stream, half_close: Callable[[], Awaitable[None]] | None = None) -> None:
        self._io = io
        self._stream = stream
        self._half_close = half_close  # tells the servicer that nothing more will come; its own end is its return
        # At home, where the link is:
        self._link: Link
        self._is_attached = False
        self._is_armed = False
        self._is_shut = False
        self._writes = Pace(_AHEAD, lambda: io.to_home(self._flush))
        # Among gRPC's tasks:
        self._is_decided = asyncio.Event()  # whether there is a link to carry
        self._outbox: deque[bytes | None] = deque()  # None: the end
        self._more = asyncio.Event()
        self._fewer = asyncio.Event()
        self._lost_link = asyncio.Event()
        self._reads = Pace(_UNHANDLED, lambda: io.to_io(self._fewer.set))

    # At home

    def attach(self, link: Link) -> None:
        """Carry this link."""
        self._link = link
        self._is_attached = True
        link.wake = self._wake
        link.shut = self._shut
        self._io.to_io(self._is_decided.set)
        self._wake()

    def discard(self) -> None:
        """Carry nothing: nobody waits for the stream any more; among gRPC's tasks."""
        self._is_decided.set()

    def _wake(self) -> None:
        if not self._is_armed:
            self._is_armed = True
            self._io.home.soon(self._flush)

    def _flush(self) -> None:
        self._is_armed = False
        while self._writes.has_room():
            batches = self._link.take()
            for batch in batches:
                data = wrapped(frames.encode(batch))
                self._writes.give()
                self._io.to_io(self._put, data)
            if not batches:
                self._all_is_given()
                return

    def _all_is_given(self) -> None:
        if self._is_shut:
            self._io.to_io(self._put, None)
        elif self._link.is_waited_for:
            self._link.resume()

    def _shut(self) -> None:
        self._is_shut = True
        if self._link.error is not None:
            self._io.to_io(self._lost_link.set)
        self._wake()

    def _came(self, data: bytes | memoryview, size: int) -> None:
        owed = self._link.owed
        if self._link.error is None:
            try:
                batch = frames.decode(data)
            except LinkError as error:
                self._link.lose(f"the other end broke the protocol: {error}")
            else:
                self._link.receive([batch])
        if self._link.owed > max(owed, _OWED):
            # Who takes no answers is not asked what else it wants to know. All else is always read, replies above all:
            # two ends that both waited for the other to take theirs would wait for ever.
            self._link.when_clear(partial(self._reads.take, size))
        else:
            self._reads.take(size)

    def _lost(self, reason: str) -> None:
        if self._is_attached:
            self._link.lose(reason)

    # Among gRPC's tasks

    async def run(self) -> BaseException | None:
        """Write and read until the link is shut or the stream ends; return what ended it, if that was an error."""
        try:
            await self._is_decided.wait()
        except asyncio.CancelledError:
            self._io.to_home(self._lost, "it was given up at once")  # behind what attaches it, if anything does
            raise
        if not self._is_attached:
            return None
        writer = self._io.start(self._write())
        reader = self._io.start(self._read())
        lost = self._io.start(self._lost_link.wait())
        try:
            await asyncio.wait([writer, reader, lost], return_when=asyncio.FIRST_COMPLETED)
            if lost.done():
                await asyncio.wait([writer], timeout=_LAST_WORDS)
            if self._half_close is not None and not reader.done() and writer.done() and writer.exception() is None:
                await self._half_close()
                await asyncio.wait([reader], timeout=_LAST_WORDS)
        finally:
            lost.cancel()
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
                await self._stream.write(data)
                self._writes.take()
            self._more.clear()
            await self._more.wait()

    async def _read(self) -> None:
        while (data := await self._stream.read()) is not grpc.aio.EOF:
            self._reads.give(len(data))
            self._io.to_home(self._came, frames_in(data), len(data))
            await self._until_there_is_room()

    async def _until_there_is_room(self) -> None:
        self._fewer.clear()
        while not self._reads.has_room():
            await self._fewer.wait()
            self._fewer.clear()


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None


def reason_of(error: BaseException) -> str:
    """Return what gRPC's error says, without its frame."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name.lower().replace('_', ' ')}: {error.details() or 'no details'}"
    return str(error) if isinstance(error, LinkError) else repr(error)
