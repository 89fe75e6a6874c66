"""Fast producers, slow consumers and deaf ones: memory stays within its bounds, and others are served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

import lightactors as la
from lightactors.actors.ref import cell_of
from lightactors.actors.streams import AHEAD
from lightactors.remote.link import UNIT, WINDOW
from lightactors.remote.standin import StandIn
from tests.real_time.marks import chiefly_on
from tests.real_time.remote.deaf import WISHES
from tests.real_time.remote.target import TAKES, Desk
from tests.real_time.remote.victim import ROOT, Target, open_target

SLACK = 40 * 2**20
"""Bytes that a process may have more without any message in it: buffers of gRPC's, and what malloc keeps."""

QUEUE = 1000
"""Messages that wait at their sender: the mailbox of a ref from elsewhere."""

LONG = pytest.param(60.0, marks=[pytest.mark.stress, pytest.mark.timeout(180)])


def own_memory() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


async def connect(target: Target, name: str) -> Desk:
    return await la.connect(Desk, f"{target.address}/{name}", token=target.tokens.of("runner"))


async def is_well(target: Target) -> None:
    """See that others are served meanwhile, by another actor."""
    other = await connect(target, "other")
    with anyio.fail_after(2):
        assert await other.note("well") > 0


@chiefly_on("asyncio")
@pytest.mark.parametrize("seconds", [2.0, LONG])
async def test_teller_who_is_faster_than_its_actor(anyio_backend_name: str, tmp_path: Path, seconds: float) -> None:
    body = bytes(UNIT)
    room = WINDOW // 2  # such a message costs two
    with open_target(anyio_backend_name, tmp_path) as target:
        async with la.open_system():
            desk = await connect(target, "desk")
            ours, theirs = own_memory(), target.memory
            sent = 0
            with anyio.move_on_after(seconds):
                while True:
                    await desk.take.tell(body)
                    sent += 1
            await is_well(target)
            assert target.memory - theirs <= WINDOW * UNIT + SLACK
            assert own_memory() - ours <= QUEUE * UNIT + SLACK
            assert room + QUEUE <= sent <= room + QUEUE + 1.2 * seconds / TAKES


@chiefly_on("trio")
@pytest.mark.parametrize("seconds", [2.0, LONG])
async def test_stream_that_is_faster_than_its_consumer(anyio_backend_name: str, tmp_path: Path, seconds: float) -> None:
    with open_target(anyio_backend_name, tmp_path) as target:
        async with la.open_system():
            desk = await connect(target, "desk")
            ours, theirs = own_memory(), target.memory
            taken = 0
            with anyio.move_on_after(seconds):
                async for _ in desk.count(UNIT):
                    taken += 1
                    await anyio.sleep(0.01)
            produced, _ = await desk.counts()
            assert 10 < taken <= produced <= taken + AHEAD
            assert target.memory - theirs <= SLACK
            assert own_memory() - ours <= SLACK
        await anyio.to_thread.run_sync(target.end)


@chiefly_on("asyncio")
@pytest.mark.parametrize("count", [1000])
async def test_consumers_that_stop_reading(anyio_backend_name: str, tmp_path: Path, count: int) -> None:
    size = 4096
    with open_target(anyio_backend_name, tmp_path) as target:
        async with la.open_system():
            desk = await connect(target, "desk")
            ours, theirs = own_memory(), target.memory
            streams = [desk.count(size) for _ in range(count)]
            for stream in streams:
                assert len(await anext(aiter(stream))) == size
            await anyio.sleep(1)
            produced, _ = await desk.counts()
            assert produced <= count * (AHEAD + 1)
            assert own_memory() - ours <= count * AHEAD * size + SLACK
            assert target.memory - theirs <= SLACK
            await is_well(target)
        await anyio.to_thread.run_sync(target.end)


@contextmanager
def deaf_clients(target: Target, number: int, wish: str, count: int) -> Generator[None]:
    """Have clients, in a process of their own, that ask an actor for much and read nothing of it."""
    place = f"127.0.0.1:{target.port}"
    wanted = {"place": place, "token": target.tokens.of("runner"), "target": number, "wish": wish, "count": count}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.real_time.remote.deaf"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(wanted) + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == "deaf\n"
            yield
        finally:
            process.kill()


MIB = 2**20

# What a node may hold for each client that takes nothing. Of streams: what is on its way to gRPC and what waits behind
# it. Of asks and tells: as much as the client has credit for.
DEAF = {"streams": 5 * MIB, "asks": WINDOW * UNIT // 2, "tells": WINDOW * UNIT}


@chiefly_on("trio")
@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=[pytest.mark.stress, pytest.mark.timeout(300)])])
async def test_clients_that_never_read(anyio_backend_name: str, tmp_path: Path, wish: str, count: int) -> None:
    count = min(count, 4 * 2**30 // DEAF[wish])
    with open_target(anyio_backend_name, tmp_path) as target:
        async with la.open_system():
            desk = cell_of(await connect(target, "desk"), "a test")
            assert isinstance(desk, StandIn)
            before = target.memory
            with ExitStack() as stack:
                clients = deaf_clients(target, desk.target, wish, count)
                await anyio.to_thread.run_sync(stack.enter_context, clients)
                await is_well(target)
                assert target.memory - before <= count * DEAF[wish] + SLACK
                await anyio.sleep(1)
                await is_well(target)
                assert target.memory - before <= count * DEAF[wish] + SLACK
        await anyio.to_thread.run_sync(target.end)
