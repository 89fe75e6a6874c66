"""Tasks from this process to another one: through our queue's mailbox, beside a ring with a lock in shared memory.

The ring (see there) and multiprocessing's queue hand over one task at a time, and know nothing of it afterwards.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread

import lightactors as la
from tests.benchmarks import ring
from tests.benchmarks.measure import ROUNDS, Row, per_second

COUNT = 20_000
AT_ONCE = {1: "one by one", 16: "16 at once", 64: "64 at once"}
TASK = ring.task_of(7)


@la.actor
class Drain:
    """Claims what there is, and does nothing with it."""

    @la.handler(interleaved=True)
    async def work(self, queue: la.TaskQueue[bytes], at_once: int) -> None:
        async with la.tasks_of(queue, at_once=at_once) as tasks:
            async for _ in tasks:
                pass

    @la.handler
    async def keep(self, queue: la.TaskQueue[bytes], count: int) -> int:
        """Claim tasks and hold them; return the pid."""
        await queue.join("keeper", la.ref_of(self))
        await queue.claim("keeper", count)
        return os.getpid()


async def rows(_: str) -> list[Row]:
    """Measure on the running loop."""
    async with la.open_system():
        drain = await la.options(place="process").spawn(Drain)
        found = [
            Row(f"tasks, claimed {how}", "tasks/s", await _ours(drain, at_once)) for at_once, how in AT_ONCE.items()
        ]
        with _silence():
            lives = await _deaths()
    peers = {
        "ring and lock": await anyio.to_thread.run_sync(ring.per_second, COUNT, ROUNDS),
        "multiprocessing.Queue": await anyio.to_thread.run_sync(_multiprocessing),
    }
    for row in found:
        row.beside.update(peers)
    return [*found, *lives]


async def _ours(drain: Drain, at_once: int) -> float:
    queue = await la.spawn(la.TaskQueue[bytes])

    async def work(count: int) -> None:
        await queue.add_many([TASK] * count)
        await queue.done()

    async with anyio.create_task_group() as tg:
        tg.start_soon(drain.work, queue, at_once)
        await anyio.sleep(0.1)  # it has joined, and waits
        figure = await per_second(work, COUNT)
        await queue.close()
    await la.stop(queue)
    return figure


@contextmanager
def _silence() -> Generator[None]:
    """Keep what is logged of the killed out of the table."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


async def _deaths() -> list[Row]:
    """What a death costs: here a worker's, at the ring that of whoever holds the lock."""
    deaths = [ring.after(death.__name__) for death in ring.DEATHS]
    wanted = sum(death.wanted for death in deaths)
    best = float("inf")
    whole = 0
    for _ in range(ROUNDS):
        async with la.supervise() as supervisor:
            queue = await la.spawn(la.TaskQueue[bytes])
            await queue.add_many([TASK] * wanted)
            victim = await supervisor.options(place="process", restart="temporary").spawn(Drain)
            pid = await victim.keep(queue, wanted)
            await queue.join("heir")
            start = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            claims = await queue.claim("heir", wanted)
            best = min(best, time.perf_counter() - start)
            whole = sum(claim.task == TASK for claim in claims)
            await la.watch(victim)
            await la.stop(queue)
    of_ring = {"ring and lock": min(death.seconds for death in deaths) * 1e3}
    left = {"ring and lock": float(sum(death.whole for death in deaths))}
    return [
        Row("until another has what a killed one held", "ms", best * 1e3, of_ring, more_is_better=False),
        Row(f"tasks left whole of {wanted}", "tasks", whole, left),
    ]


def _multiprocessing() -> float:
    context = multiprocessing.get_context("spawn")
    tasks: Any = context.Queue()
    ends: Any = context.SimpleQueue()
    other = context.Process(target=_drain, args=(tasks, ends), daemon=True)
    other.start()
    ends.get()
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(COUNT):
            tasks.put(TASK)
        tasks.put(None)
        ends.get()
        best = min(best, time.perf_counter() - start)
    other.terminate()
    other.join()
    return COUNT / best


def _drain(tasks: Any, ends: Any) -> None:
    ends.put("ready")
    while True:
        for _ in iter(tasks.get, None):
            pass
        ends.put("drained")
