"""Actors in processes of their own: how soon they are there and gone, what they take, and how fast messages go."""

from __future__ import annotations

import json
import sys
import time

import anyio
import psutil

import lightactors as la
from tests.benchmarks import floors
from tests.benchmarks.measure import ROUNDS, Row
from tests.benchmarks.messages import BODY, MEGABYTE, Echo, rows_of


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
        found += await rows_of(far, largest=100 * MEGABYTE)
    if backend == "asyncio":
        await floors.add_sockets({row.what: row for row in found})
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
    command = [sys.executable, "-m", __name__, backend]
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


if __name__ == "__main__":
    anyio.run(first, backend=sys.argv[1])
