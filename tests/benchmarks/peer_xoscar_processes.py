"""xoscar's actors in processes of their own, and ten thousand in one process; runs in the peers' environment."""

import asyncio
import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable

import xoscar  # type: ignore[import-not-found]

BODY = "x" * 100


class Echo(xoscar.Actor):  # type: ignore[misc]
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


async def messages(far: Echo) -> dict[str, float]:
    async def one(count: int) -> None:
        for _ in range(count):
            await far.echo(BODY)

    def many(callers: int) -> Callable[[int], Awaitable[object]]:
        return lambda count: asyncio.gather(*[one(count // callers) for _ in range(callers)])

    async def tell(count: int) -> None:
        for _ in range(count):
            await far.note.tell(BODY)  # type: ignore[attr-defined]
        await far.echo(BODY)

    async def send(megabytes: int, size: int) -> None:
        body = bytes(size)
        for _ in range(megabytes * 2**20 // size):
            await far.size(body)

    return {
        "ask, one at a time": await best(one, 2_000),
        "ask, 64 callers": await best(many(64), 6_400),
        "ask, 512 callers": await best(many(512), 5_120),
        "tell": await best(tell, 5_000),
        "bodies of 64 KiB": await best(lambda count: send(count, 2**16), 10),
        "bodies of 1 MiB": await best(lambda count: send(count, 2**20), 20),
        "bodies of 100 MiB": await best(lambda count: send(count, 100 * 2**20), 100),
    }


async def life(count: int, *, then_ask: bool = False) -> tuple[float, float, dict[str, float]]:
    start = time.perf_counter()
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=count)
    async with pool:
        far = [
            await xoscar.create_actor(
                Echo, address=pool.external_address, allocate_strategy=xoscar.allocate_strategy.ProcessIndex(number + 1)
            )
            for number in range(count)
        ]
        for one in far:
            await one.echo(BODY)
        spawned = time.perf_counter()
        figures = await messages(far[0]) if then_ask else {}
        stopping = time.perf_counter()
    return spawned - start, time.perf_counter() - stopping, figures


async def in_process(count: int = 10_000) -> dict[str, float]:
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        kept = [await xoscar.create_actor(Echo, address=pool.external_address) for _ in range(count // 10)]
        memory = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
        tracemalloc.stop()
        start = time.perf_counter()
        kept = [await xoscar.create_actor(Echo, address=pool.external_address) for _ in range(count)]
        spawned = time.perf_counter()
        for one in kept:
            await xoscar.destroy_actor(one)
    return {"spawn": spawned - start, "stop": time.perf_counter() - spawned, "memory": memory}


async def main() -> None:
    figures = await in_process()
    for count in (1, 4):
        lives = [await life(count) for _ in range(3)]
        figures[f"spawn {count}"] = min(spawned for spawned, _, _ in lives)
        figures[f"stop {count}"] = min(stopped for _, stopped, _ in lives)
    figures.update((await life(1, then_ask=True))[2])
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())
