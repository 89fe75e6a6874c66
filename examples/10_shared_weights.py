"""Weights that four processes read in place: put once, they are in memory once, however many there are."""

import time

import anyio
import numpy as np

import lightactors as la

SIZE = 256 * 2**20
WORKERS = 4


@la.actor
class Worker:
    """Has the model's weights before it, without a copy."""

    @la.handler
    async def load(self, ref: la.ObjectRef[np.ndarray]) -> float:
        begin = time.perf_counter()
        self.weights = await la.get(ref)  # read-only, and where they were put
        return time.perf_counter() - begin

    @la.handler
    def evaluate(self, row: int) -> float:
        return float(self.weights[row].sum())


async def main() -> None:
    weights = np.full((SIZE // 2**20, 2**18), 0.5, dtype=np.float32)
    async with la.open_system(objects=la.ObjectLimits(capacity=2 * SIZE)) as system:
        begin = time.perf_counter()
        ref = await la.put(weights)
        print(f"put {weights.nbytes // 2**20} MiB in {time.perf_counter() - begin:.2f} s: {ref}")
        del weights  # the store has them

        pool = await system.options(name="worker", place="process").spawn_many(WORKERS, Worker)
        for worker in pool:
            seconds = await worker.load(ref)
            print(f"a process had them after {1000 * seconds:.1f} ms: row 7 sums to {await worker.evaluate(7):,.0f}")

        figures = await la.objects.statistics()
        (shared,) = figures.objects
        print(f"{len(shared.viewers)} processes read {figures.used / SIZE:.1f} copies")

        la.release(ref)  # views of them stay
        await la.stop(pool)
        figures = await la.objects.statistics()
        print(f"when the last of them has ended, {figures.total_objects} objects are left")


if __name__ == "__main__":
    anyio.run(main)
