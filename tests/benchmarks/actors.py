"""Messages within one process: ask, tell, threads, spawning; each beside its floor on the same loop."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.from_thread

import lightactors as la
from lightactors.actors import loops
from lightactors.actors.threads import LoopThread
from tests.benchmarks.measure import ROUNDS, Row, per_second


@la.actor
class Counter:
    def __init__(self) -> None:
        self.value = 0

    @la.handler
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    @la.handler
    async def add_async(self, amount: int) -> int:
        self.value += amount
        return self.value


Work = Callable[[int], Coroutine[Any, Any, None]]


def one_by_one(call: Callable[[int], Awaitable[object]]) -> Work:
    async def work(count: int) -> None:
        for _ in range(count):
            await call(1)

    return work


def from_64_tasks(call: Callable[[int], Awaitable[object]]) -> Work:
    async def work(count: int) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(64):
                tasks.start_soon(one_by_one(call), count // 64)

    return work


async def bare(amount: int) -> int:
    return amount


async def rows(backend: str) -> list[Row]:
    """Measure on the running loop."""
    async with la.open_system():
        near = await la.spawn(Counter)
        far = await la.options(place="thread").spawn(Counter)

        async def tell_near(count: int) -> None:
            await one_by_one(near.add.tell)(count)
            await near.add_async(0)

        async def tell_far(count: int) -> None:
            await one_by_one(far.add.tell)(count)
            await far.add_async(0)

        found = [
            Row(
                "ask, idle actor, plain handler",
                "asks/s",
                await per_second(one_by_one(near.add), 100_000),
                {"bare await": await per_second(one_by_one(bare), 100_000), **await _locked(backend)},
            ),
            Row("ask, async handler", "asks/s", await per_second(one_by_one(near.add_async), 20_000)),
            Row("ask, async handler, 64 callers", "asks/s", await per_second(from_64_tasks(near.add_async), 64_000)),
            Row("tell", "tells/s", await per_second(tell_near, 100_000)),
            Row("tell to a thread", "tells/s", await per_second(tell_far, 100_000)),
            Row(
                "ask to a thread",
                "asks/s",
                await per_second(one_by_one(far.add), 5_000),
                {"two bare wake-ups": await _ping_pong(), "blocking portal": await _portal(backend)},
            ),
        ]
        if backend == "asyncio":
            await _beside_a_queue(found)
    return [*found, *await _spawning()]


async def _locked(backend: str) -> dict[str, float]:
    if backend != "asyncio":
        return {}
    lock = asyncio.Lock()

    async def locked(amount: int) -> int:
        async with lock:
            return amount

    return {"locked coroutine": await per_second(one_by_one(locked), 100_000)}


async def _beside_a_queue(found: list[Row]) -> None:
    """Add the floors of asyncio: a queue, and a queue with a future for the reply."""
    by_what = {row.what: row for row in found}
    async with _server() as (queue, ask):
        by_what["ask, async handler"].beside["queue + future"] = await per_second(one_by_one(ask), 20_000)
        many = await per_second(from_64_tasks(ask), 64_000)
        by_what["ask, async handler, 64 callers"].beside["queue + future"] = many

        async def tell(count: int) -> None:
            for _ in range(count):
                await queue.put((1, None))
            await ask(0)

        by_what["tell"].beside["asyncio.Queue"] = await per_second(tell, 100_000)


@asynccontextmanager
async def _server() -> AsyncGenerator[tuple[asyncio.Queue[Any], Callable[[int], Awaitable[object]]]]:
    queue: asyncio.Queue[Any] = asyncio.Queue(1000)
    loop = asyncio.get_running_loop()

    async def serve() -> None:
        value = 0
        while True:
            amount, reply = await queue.get()
            value += amount
            if reply is not None:
                reply.set_result(value)

    async def ask(amount: int) -> object:
        reply: asyncio.Future[int] = loop.create_future()
        await queue.put((amount, reply))
        return await reply

    task = asyncio.create_task(serve())
    try:
        yield queue, ask
    finally:
        task.cancel()


async def _ping_pong() -> float:
    """Two loops that only wake each other: what no message between them can do without."""
    here = loops.current()
    thread = LoopThread("benchmark", here.backend)
    there = await thread.open()

    async def ping(_: int) -> None:
        slot = here.slot()
        there.post(here.post, slot.set, None)
        await slot

    try:
        return await per_second(one_by_one(ping), 5_000)
    finally:
        thread.release()


async def _portal(backend: str) -> float:
    """What anyio offers between threads."""

    def measure() -> float:
        with anyio.from_thread.start_blocking_portal(backend) as portal:
            start = time.perf_counter()
            for _ in range(1_000):
                portal.call(bare, 1)
            return 1_000 / (time.perf_counter() - start)

    return await anyio.to_thread.run_sync(measure)


async def _spawning(count: int = 10_000) -> list[Row]:
    tracemalloc.start()
    async with la.open_system():
        before = tracemalloc.get_traced_memory()[0]
        kept = [await la.spawn(Counter) for _ in range(count)]
        memory = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    tracemalloc.stop()
    lives = [await _life(count) for _ in range(ROUNDS)]
    return [
        Row("spawn 10,000 actors", "s", min(spawned for spawned, _ in lives), more_is_better=False),
        Row("stop 10,000 actors", "s", min(stopped for _, stopped in lives), more_is_better=False),
        Row("memory of an actor", "bytes", memory, more_is_better=False),
    ]


async def _life(count: int) -> tuple[float, float]:
    """Return the seconds until so many actors have started, and until they have ended."""
    start = time.perf_counter()
    async with la.open_system():
        kept = [await la.spawn(Counter) for _ in range(count)]
        spawned = time.perf_counter()
    assert len(kept) == count
    return spawned - start, time.perf_counter() - spawned
