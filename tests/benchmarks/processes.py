"""Actors in processes of their own: how soon they are there and gone, what they take, and how fast messages go."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import psutil

import lightactors as la
from tests.benchmarks.measure import ROUNDS, Row, per_second

BODY = "x" * 100
MEGABYTE = 2**20


@la.actor
class Echo:
    @la.handler
    def echo(self, text: str) -> str:
        return text

    @la.handler
    async def echo_slowly(self, text: str) -> str:
        return text

    @la.handler
    def note(self, text: str) -> None:
        """Take it."""

    @la.handler
    def size(self, body: bytes) -> int:
        return len(body)


Work = Callable[[int], Coroutine[Any, Any, None]]


async def rows(backend: str) -> list[Row]:
    """Measure on the running loop."""
    cold = await _cold(backend)
    async with la.open_system() as system:
        await la.stop(await _spawn())  # from now on the forkserver is warm
        lives = [await _lives(1), await _lives(4)]
        found = [
            Row("spawn 1 process, the first of a program", "s", cold, more_is_better=False),
            Row("spawn 1 process", "s", lives[0][0], more_is_better=False),
            Row("spawn 4 processes", "s", lives[1][0], more_is_better=False),
            Row("stop 1 process", "s", lives[0][1], more_is_better=False),
            Row("stop 4 processes", "s", lives[1][1], more_is_better=False),
            Row("64 processes ready", "s", (await _life(64))[0], more_is_better=False),
        ]
        far = await _spawn()
        found.append(Row("own memory of an idle process", "MB", _own_memory(system), more_is_better=False))
        found += await _messages(far)
    if backend == "asyncio":
        await _beside_a_bare_socket({row.what: row for row in found})
    return found


# Lives


async def _spawn() -> Echo:
    echo = await la.options(place="process").spawn(Echo)
    await echo.echo(BODY)
    return echo


async def _life(count: int) -> tuple[float, float]:
    """Return the seconds until so many processes have given their first reply, and until they are stopped."""
    start = time.perf_counter()
    async with la.supervise() as supervisor:
        async with anyio.create_task_group() as tg:
            for _ in range(count):
                tg.start_soon(_spawn_under, supervisor)
        spawned = time.perf_counter()
    return spawned - start, time.perf_counter() - spawned


async def _spawn_under(supervisor: la.Supervision) -> None:
    echo = await supervisor.options(place="process").spawn(Echo)
    await echo.echo(BODY)


async def _lives(count: int) -> tuple[float, float]:
    lives = [await _life(count) for _ in range(ROUNDS)]
    return min(spawned for spawned, _ in lives), min(stopped for _, stopped in lives)


async def _cold(backend: str) -> float:
    """Return the seconds of a program's first process: its guardian and forkserver are started for it."""
    command = [sys.executable, "-m", __name__, "first", backend]
    done = [await anyio.run_process(command) for _ in range(ROUNDS)]
    return min(float(json.loads(one.stdout)) for one in done)


async def first() -> None:
    """Be the program."""
    async with la.open_system():
        start = time.perf_counter()
        await _spawn()
        print(time.perf_counter() - start)


def _own_memory(system: la.System) -> float:
    """Return what the system's one process shares with nobody, in MB."""
    (actor,) = system.tree().children
    assert actor.statistics is not None
    assert actor.statistics.process is not None
    own: int = psutil.Process(actor.statistics.process.pid).memory_full_info().uss
    return own / MEGABYTE


# Messages


def from_tasks(tasks: int, call: Callable[[str], Awaitable[object]]) -> Work:
    """Return the work of so many callers, each with one ask under way."""

    async def one(count: int) -> None:
        for _ in range(count):
            await call(BODY)

    async def work(count: int) -> None:
        async with anyio.create_task_group() as tg:
            for _ in range(tasks):
                tg.start_soon(one, count // tasks)

    return work


def telling(tell: Callable[[str], Awaitable[object]], ask: Callable[[str], Awaitable[object]]) -> Work:
    """Return the work of one who tells, and waits until all has arrived."""

    async def work(count: int) -> None:
        for _ in range(count):
            await tell(BODY)
        await ask(BODY)

    return work


def sending(send: Callable[[bytes], Awaitable[object]], size: int) -> Work:
    """Return the work of one who sends so many megabytes in bodies of that size, each acknowledged."""
    body = bytes(size)

    async def work(megabytes: int) -> None:
        for _ in range(megabytes * MEGABYTE // size):
            await send(body)

    return work


COUNTS = {
    "ask a process, one at a time": 3_000,
    "ask a process, 64 callers": 64_000,
    "ask a process, 512 callers": 102_400,
    "tell a process": 200_000,
    "bodies of 64 KiB to a process": 20,
    "bodies of 1 MiB to a process": 40,
    "bodies of 100 MiB to a process": 100,
}
"""How many of each are done in a round, by us and by the floor."""


def _messages_of(ask: Callable[[str], Awaitable[object]], tell: Callable[[str], Awaitable[object]]) -> dict[str, Work]:
    works = [*(from_tasks(callers, ask) for callers in (1, 64, 512)), telling(tell, ask)]
    return dict(zip(COUNTS, works, strict=False))


def _bodies_of(send: Callable[[bytes], Awaitable[object]]) -> dict[str, Work]:
    works = [sending(send, size) for size in (MEGABYTE // 16, MEGABYTE, 100 * MEGABYTE)]
    return dict(zip(list(COUNTS)[4:], works, strict=True))


async def _messages(far: Any) -> list[Row]:
    works = {**_messages_of(far.echo, far.note.tell), **_bodies_of(far.size)}
    found = [Row(what, _unit(what), await per_second(work, COUNTS[what])) for what, work in works.items()]
    slowly = await per_second(from_tasks(64, far.echo_slowly), 64_000)
    return [*found, Row("ask a process, async handler, 64 callers", "asks/s", slowly)]


def _unit(what: str) -> str:
    return {"ask": "asks/s", "tell": "tells/s", "bodies": "MiB/s"}[what.split()[0]]


# The floor: batches of msgpack lists over an asyncio protocol, no actor, no codec by annotations, no credit.


class _Bare(asyncio.Protocol):
    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.out: list[Any] = []
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.serial = 0
        self._rest = b""
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def send(self, message: Any) -> None:
        if not self.out:
            self.loop.call_soon(self._flush)
        self.out.append(message)

    def _flush(self) -> None:
        data = msgspec.msgpack.encode(self.out)
        self.out = []
        self.transport.write(len(data).to_bytes(4) + data)

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        while len(data) >= 4 and len(data) >= (end := 4 + int.from_bytes(data[:4])):
            for number, body in msgspec.msgpack.decode(data[4:end]):
                self.received(number, body)
            data = data[end:]
        self._rest = data

    def received(self, number: int, body: str) -> None:
        self.waiting.pop(number).set_result(body)

    async def ask(self, body: str) -> object:
        self.serial += 1
        self.waiting[self.serial] = reply = self.loop.create_future()
        self.send((self.serial, body))
        return await reply

    async def tell(self, body: str) -> None:
        self.send((0, body))
        if len(self.out) >= 512:
            await asyncio.sleep(0)
            await self._may_write.wait()


class _BareEcho(_Bare):
    def received(self, number: int, body: str) -> None:
        if number:
            self.send((number, body))


async def serve_bare(sock: socket.socket) -> None:
    """Be the floor's process."""
    _, protocol = await asyncio.get_running_loop().create_connection(_BareEcho, sock=sock)
    await protocol.over.wait()


async def serve_streams(sock: socket.socket) -> None:
    """Be the floor's process for bodies: asyncio's streams, which a body goes through whole."""
    reader, writer = await asyncio.open_connection(sock=sock)
    with suppress(asyncio.IncompleteReadError):
        while True:
            body = await reader.readexactly(int.from_bytes(await reader.readexactly(8)))
            writer.write(len(body).to_bytes(8))


async def _beside_a_bare_socket(rows_by_what: dict[str, Row]) -> None:
    async with _floor("serve_bare") as ours:
        transport, bare = await asyncio.get_running_loop().create_connection(_Bare, sock=ours)
        for what, work in _messages_of(bare.ask, bare.tell).items():
            rows_by_what[what].beside["bare socket"] = await per_second(work, COUNTS[what])
        transport.close()
    async with _floor("serve_streams") as ours:
        reader, writer = await asyncio.open_connection(sock=ours)

        async def send(body: bytes) -> None:
            writer.write(len(body).to_bytes(8) + body)
            await reader.readexactly(8)

        for what, work in _bodies_of(send).items():
            rows_by_what[what].beside["asyncio streams"] = await per_second(work, COUNTS[what])
        writer.close()


@asynccontextmanager
async def _floor(role: str) -> AsyncGenerator[socket.socket]:
    """Run a floor's process, which has one end of a socket pair."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", __name__, role, "asyncio", str(theirs.fileno())]
    child = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: ASYNC220 (nothing is measured yet)
    theirs.close()
    try:
        yield ours
    finally:
        await anyio.to_thread.run_sync(child.wait)  # it ends when our end of the socket is closed


if __name__ == "__main__":
    role, backend, *descriptors = sys.argv[1:]
    roles: dict[str, Callable[..., Awaitable[None]]] = {
        "first": first,
        "serve_bare": serve_bare,
        "serve_streams": serve_streams,
    }
    sockets = [socket.socket(fileno=int(descriptor)) for descriptor in descriptors]
    anyio.run(roles[role], *sockets, backend=backend)
