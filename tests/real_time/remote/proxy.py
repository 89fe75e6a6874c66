"""A TCP proxy that does to connections what networks do: cuts them, one way or both, delays, resets, stands still.

It runs in a thread with a loop of its own, so that the loop under test can't slow it down, nor the other way round.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Way: TypeAlias = Literal["up", "down"]
"""Up: from who connected to the one behind the proxy. Down: back."""

_CHUNK = 64 * 1024
_HELD = 16
"""Chunks on their way; when there are more, the sender is no longer read, as when a network's buffers are full."""


class Proxy:
    """Stands between whoever connects to `port` and the one behind it; see `open_proxy`."""

    def __init__(self, behind: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        self._thaw = threading.Event()
        self._traffic = _Traffic(behind)
        self.port = self._do(self._traffic.open())

    def close(self) -> None:
        """End all connections and the thread."""
        self._thaw.set()
        self._do(self._traffic.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return self._traffic.accepted

    def cut(self, *ways: Way) -> None:
        """Let nothing through, both ways unless told; what was sent arrives after `heal`, as TCP sends it again."""
        self._do(self._traffic.cut(ways or ("up", "down")))

    def heal(self) -> None:
        """Let everything through again, at once."""
        self._do(self._traffic.heal())

    def delay(self, seconds: float) -> None:
        """Have every byte take so long, each way."""
        self._do(self._traffic.slow_down(seconds))

    def reset(self) -> None:
        """End every connection with a reset, as a router does that has forgotten them."""
        self._do(self._traffic.reset())

    def freeze(self) -> None:
        """Stand still, neither accepting nor reading, until `thaw`."""
        self._thaw.clear()
        self._loop.call_soon_threadsafe(self._thaw.wait)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._thaw.set()

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=10)


@contextmanager
def open_proxy(behind: int) -> Generator[Proxy]:
    """Give a proxy to a port of this machine."""
    proxy = Proxy(behind)
    try:
        yield proxy
    finally:
        proxy.close()


@dataclass
class _Road:
    """One way through the proxy, for all connections together."""

    is_open: asyncio.Event = field(default_factory=asyncio.Event)
    delay: float = 0.0

    def mend(self) -> None:
        self.delay = 0.0
        self.is_open.set()


class _Traffic:
    """What runs in the proxy's thread."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._roads: dict[Way, _Road] = {"up": _Road(), "down": _Road()}
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server
        self.accepted = 0

    async def open(self) -> int:
        await self.heal()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def cut(self, ways: tuple[Way, ...]) -> None:
        for way in ways:
            self._roads[way].is_open.clear()

    async def heal(self) -> None:
        for road in self._roads.values():
            road.mend()

    async def slow_down(self, seconds: float) -> None:
        for road in self._roads.values():
            road.delay = seconds

    async def reset(self) -> None:
        for writer in self._writers:
            # To close it without lingering is to reset it.
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with suppress(OSError, asyncio.CancelledError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._behind)
                await self._both_ways((reader, writer), (far_reader, far_writer))
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def _both_ways(self, near: _End, far: _End) -> None:
        writers = {near[1], far[1]}
        self._writers |= writers
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_carry(near[0], far[1], self._roads["up"]))
                ways.create_task(_carry(far[0], near[1], self._roads["down"]))
        except* OSError:
            pass  # one end is gone, and now the other one
        finally:
            self._writers -= writers
            for writer in writers:
                writer.transport.abort()


_End: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, road: _Road) -> None:
    on_their_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_HELD)
    async with asyncio.TaskGroup() as ends:
        ends.create_task(_take(reader, on_their_way, road))
        ends.create_task(_bring(on_their_way, writer, road))


async def _take(reader: asyncio.StreamReader, on_their_way: asyncio.Queue[tuple[float, bytes]], road: _Road) -> None:
    now = asyncio.get_running_loop().time
    while data := await reader.read(_CHUNK):
        await on_their_way.put((now() + road.delay, data))
    await on_their_way.put((now() + road.delay, b""))


async def _bring(on_their_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, road: _Road) -> None:
    now = asyncio.get_running_loop().time
    while True:
        due, data = await on_their_way.get()
        await asyncio.sleep(due - now())
        await road.is_open.wait()
        if not data:
            writer.write_eof()
            return
        writer.write(data)
        await writer.drain()
