"""The same actors in threads: a pool of workers counts primes while the main loop stays free."""

import anyio

import lightactors as la


@la.actor
class Primes:
    @la.handler
    def count(self, start: int, stop: int) -> int:
        return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(max(start, 2), stop))


async def main() -> None:
    async with la.open_system():
        workers = [await la.options(place="thread").spawn(Primes) for _ in range(2)]
        counts: list[int] = []

        async def share(worker: Primes, start: int) -> None:
            counts.append(await worker.count(start, start + 10_000))

        async with anyio.create_task_group() as tasks:
            for worker, start in zip(workers, (0, 10_000), strict=True):
                tasks.start_soon(share, worker, start)
        print(f"{sum(counts)} primes below 20,000")


anyio.run(main)
