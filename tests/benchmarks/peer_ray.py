"""Ray's actor in a process of its own answering our asks; runs in an environment of its own."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")

import ray  # type: ignore[import-not-found]

BODY = "x" * 100
MEGABYTE = 2**20


class Echo:
    async def echo(self, text: str) -> str:
        return text

    async def note(self, text: str) -> None:
        """Take it."""

    async def size(self, body: bytes) -> int:
        return len(body)


async def best(work: Callable[[int], Awaitable[object]], count: int) -> float:
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        await work(count)
        rates.append(count / (time.perf_counter() - start))
    return max(rates)


async def figures(far: Any, other: Any) -> dict[str, float]:
    async def one(count: int) -> None:
        for _ in range(count):
            await far.echo.remote(BODY)

    def many(callers: int) -> Callable[[int], Awaitable[object]]:
        return lambda count: asyncio.gather(*[one(count // callers) for _ in range(callers)])

    async def tell(count: int) -> None:
        for _ in range(count):
            far.note.remote(BODY)
        await far.echo.remote(BODY)

    async def send(megabytes: int, size: int) -> None:
        body = bytes(size)
        for _ in range(megabytes * MEGABYTE // size):
            await far.size.remote(body)

    async def meanwhile() -> float:
        took: list[float] = []

        async def send_on() -> None:
            body = bytes(8 * MEGABYTE)
            while len(took) < 100:
                await far.size.remote(body)

        sending = asyncio.create_task(send_on())
        await asyncio.sleep(0.1)
        while len(took) < 100:
            start = time.perf_counter()
            await other.echo.remote(BODY)
            took.append(time.perf_counter() - start)
        await sending
        return statistics.median(took) * 1e3

    await far.echo.remote(BODY)
    await other.echo.remote(BODY)
    return {
        "ask, one at a time": await best(one, 500),
        "ask, 64 callers": await best(many(64), 3_200),
        "ask, 512 callers": await best(many(512), 5_120),
        "tell": await best(tell, 5_000),
        "bodies of 64 KiB": await best(lambda count: send(count, 2**16), 10),
        "bodies of 1 MiB": await best(lambda count: send(count, 2**20), 20),
        "ask while bodies of 8 MiB go out, p50": await meanwhile(),
    }


ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
Actor = ray.remote(Echo).options(max_concurrency=1000, num_cpus=0)
found = asyncio.run(figures(Actor.remote(), Actor.remote()))
ray.shutdown()
print(json.dumps(found))
