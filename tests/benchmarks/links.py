"""Messages between two processes over a socket pair, each beside a bare echo on the same loop and socket."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import msgspec

import lightactors as la
from lightactors.actors.mailbox import Ask
from lightactors.contract import contract_of
from lightactors.remote import Link, Listener, Node, StandIn
from lightactors.supervision.spec import ChildOptions
from tests.benchmarks.measure import Row, per_second

BODY = "x" * 100


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


def from_tasks(tasks: int, call: Callable[[str], Awaitable[object]]) -> Callable[[int], Coroutine[Any, Any, None]]:
    """Return the work of so many callers, each with one ask under way."""

    async def one(count: int) -> None:
        for _ in range(count):
            await call(BODY)

    async def work(count: int) -> None:
        async with anyio.create_task_group() as tg:
            for _ in range(tasks):
                tg.start_soon(one, count // tasks)

    return work


async def rows(backend: str) -> list[Row]:
    """Measure on the running loop."""
    async with _far(backend) as far:

        async def tell(count: int) -> None:
            for _ in range(count):
                await far.note.tell(BODY)
            await far.echo(BODY)

        found = [
            Row("ask a process, one at a time", "asks/s", await per_second(from_tasks(1, far.echo), 3_000)),
            Row("ask a process, 64 callers", "asks/s", await per_second(from_tasks(64, far.echo), 64_000)),
            Row("ask a process, 512 callers", "asks/s", await per_second(from_tasks(512, far.echo), 102_400)),
            Row(
                "ask a process, async handler, 64", "asks/s", await per_second(from_tasks(64, far.echo_slowly), 64_000)
            ),
            Row("tell a process", "tells/s", await per_second(tell, 200_000)),
        ]
    if backend == "asyncio":
        await _beside_a_bare_socket(found)
    return found


@asynccontextmanager
async def _far(backend: str) -> AsyncGenerator[Any]:
    async with la.open_system() as system, _process("serve", backend) as ours:
        node = Node(system)
        started = _Started()
        link = await node.open(ours, started, label="benchmark")
        await started.is_ready.wait()
        cell = StandIn("echo", system, system.loop, ChildOptions(), node)
        cell.stands_for(contract_of(Echo))
        system.enter(cell)
        cell.begin(Ask())
        cell.attach(link)
        yield cell.ref
        link.goodbye()


@asynccontextmanager
async def _process(role: str, backend: str) -> AsyncGenerator[socket.socket]:
    """Run a process of this module's that has one end of a socket pair."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "tests.benchmarks.links", role, backend, str(theirs.fileno())]
    child = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: ASYNC220 (nothing is measured yet)
    theirs.close()
    try:
        yield ours
    finally:
        await anyio.to_thread.run_sync(child.wait)  # it ends when our end of the socket is closed


class _Started(Listener):
    def __init__(self) -> None:
        self.is_ready = anyio.Event()

    def ready(self, link: Link) -> None:
        self.is_ready.set()


class _Served(Listener):
    def __init__(self) -> None:
        self.over = anyio.Event()

    def lost(self, link: Link, error: Exception) -> None:
        self.over.set()


async def serve(sock: socket.socket) -> None:
    """Be the actor's process."""
    async with la.open_system() as system:
        served = _Served()
        node = Node(system)
        link = await node.open(sock, served, label="benchmark")
        node.export_root(link, await la.spawn(Echo))
        link.ready()
        await served.over.wait()


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


async def _beside_a_bare_socket(found: list[Row]) -> None:
    async with _process("serve_bare", "asyncio") as ours:
        transport, bare = await asyncio.get_running_loop().create_connection(_Bare, sock=ours)

        async def tell(count: int) -> None:
            for _ in range(count):
                await bare.tell(BODY)
            await bare.ask(BODY)

        works = [*((from_tasks(tasks, bare.ask), count) for tasks, count in ((1, 3_000), (64, 64_000), (512, 102_400)))]
        for row, (work, count) in zip([*found[:3], found[4]], [*works, (tell, 200_000)], strict=True):
            row.beside["bare socket"] = await per_second(work, count)
        transport.close()


if __name__ == "__main__":
    role, backend, descriptor = sys.argv[1:]
    roles = {"serve": serve, "serve_bare": serve_bare}
    anyio.run(roles[role], socket.socket(fileno=int(descriptor)), backend=backend)
