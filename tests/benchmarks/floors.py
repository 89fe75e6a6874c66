"""The floors: what two processes can do without actors, over bare sockets and over gRPC's own unary calls."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import grpc.aio
import msgspec

from tests.benchmarks.measure import Row
from tests.benchmarks.messages import Work, asking_while_sending, bodies_of, measured, messages_of

UNARY = "grpc.aio unary"
MEANWHILE = "ask while bodies of 8 MiB go out, p50"


async def add_sockets(rows_by_what: dict[str, Row]) -> None:
    """Measure bare sockets beside our rows."""
    async with _server("serve_bare") as ours:
        transport, bare = await asyncio.get_running_loop().create_connection(_Bare, sock=ours)
        _add(rows_by_what, "bare socket", await measured(messages_of(bare.ask, bare.tell)))
        transport.close()
    async with _server("serve_streams") as ours:
        reader, writer = await asyncio.open_connection(sock=ours)

        async def send(body: bytes) -> None:
            writer.write(len(body).to_bytes(8) + body)
            await reader.readexactly(8)

        _add(rows_by_what, "asyncio streams", await measured(_of_rows(bodies_of(send), rows_by_what)))
        writer.close()


def _of_rows(works: dict[str, Work], rows_by_what: dict[str, Row]) -> dict[str, Work]:
    return {what: work for what, work in works.items() if what in rows_by_what}


def _add(rows_by_what: dict[str, Row], peer: str, figures: dict[str, float]) -> None:
    for what, figure in figures.items():
        rows_by_what[what].beside[peer] = figure


@asynccontextmanager
async def _server(role: str) -> AsyncGenerator[socket.socket]:
    """Run a floor's process, which has one end of a socket pair."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", __name__, role, str(theirs.fileno())]
    child = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: ASYNC220 (nothing is measured yet)
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        await anyio.to_thread.run_sync(child.wait)  # it ends when our end of the socket is closed


# Bare sockets: batches of msgpack lists over an asyncio protocol, no actor, no codec by annotations, no credit.


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


# gRPC as it is used without us: a call for each message, with bytes that nobody looks into.


async def add_unary(rows_by_what: dict[str, Row]) -> None:
    """Measure unary calls beside our rows."""
    async with _server("serve_unary") as ours:
        port = (await asyncio.get_running_loop().sock_recv(ours, 5)).decode()
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            call: Any = channel.unary_unary("/floor/Echo")
            size: Any = channel.unary_unary("/floor/Size")
            await call(b"", wait_for_ready=True)

            async def ask(text: str) -> str:
                reply: bytes = await call(text.encode())
                return reply.decode()

            asks = messages_of(ask, ask)
            del asks["tell"]  # a call always has a reply
            _add(rows_by_what, UNARY, await measured(asks, share=0.05))
            _add(rows_by_what, UNARY, await measured(_of_rows(bodies_of(size), rows_by_what)))
            rows_by_what[MEANWHILE].beside[UNARY] = await asking_while_sending(ask, size)


async def serve_unary(sock: socket.socket) -> None:
    """Be its process."""

    async def echo(body: bytes, _: Any) -> bytes:
        return body

    async def size(body: bytes, _: Any) -> bytes:
        return len(body).to_bytes(8)

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    handlers = {"Echo": echo, "Size": size}
    by_name: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in handlers.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("floor", by_name),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, f"{port:5}".encode())
    await loop.sock_recv(sock, 1)
    await server.stop(None)


if __name__ == "__main__":
    role, descriptor = sys.argv[1:]
    roles: dict[str, Callable[[socket.socket], Awaitable[None]]] = {
        "serve_bare": serve_bare,
        "serve_streams": serve_streams,
        "serve_unary": serve_unary,
    }
    anyio.run(roles[role], socket.socket(fileno=int(descriptor)))
