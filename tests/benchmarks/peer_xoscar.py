"""xoscar's local actor answering our asks; runs in the peers' environment."""

import asyncio
import json
import time

import xoscar  # type: ignore[import-not-found]


class Counter(xoscar.Actor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.value = 0

    async def add(self, amount: int) -> int:
        self.value += amount
        return self.value


async def main() -> None:
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        counter = await xoscar.create_actor(Counter, address=pool.external_address)
        best = {"asks": 0.0, "tells": 0.0}
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(20_000):
                await counter.add(1)
            best["asks"] = max(best["asks"], 20_000 / (time.perf_counter() - start))
            start = time.perf_counter()
            for _ in range(20_000):
                await counter.add.tell(1)
            await counter.add(0)
            best["tells"] = max(best["tells"], 20_000 / (time.perf_counter() - start))
    print(json.dumps(best))


asyncio.run(main())
