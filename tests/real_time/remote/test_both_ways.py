"""Two nodes that want much of each other at once: neither waits for the other to take its replies first."""

from __future__ import annotations

import anyio
import pytest

import lightactors as la
from tests.real_time.remote.target import Desk

SIZE = 10 * 2**20


@la.actor
class Asker:
    @la.handler(interleaved=True)
    async def ask_back(self, desk: Desk, count: int) -> None:
        await ask(desk, count)


async def ask(desk: Desk, count: int) -> None:
    async def echo() -> None:
        assert len(await desk.echo(bytes(SIZE))) == SIZE

    async with anyio.create_task_group() as tg:
        for _ in range(count):
            tg.start_soon(echo)


@pytest.mark.timeout(60)
async def test_large_asks_and_replies_both_ways() -> None:
    async with la.open_system("server", listen="grpc://127.0.0.1:0") as server, la.open_system("client") as client:
        await server.options(name="desk").spawn(Desk)
        await server.options(name="asker").spawn(Asker)
        mine = await client.spawn(Desk)
        desk = await la.connect(Desk, f"{server.addresses[0]}/desk")
        asker = await la.connect(Asker, f"{server.addresses[0]}/asker")
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tg:
                tg.start_soon(asker.ask_back, mine, 4)
                tg.start_soon(ask, desk, 4)
