"""The store: rollouts per second, and what an operation costs when there are many of them."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable

import lightactors as la
from lightactors.supervision.spec import Place
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from tests.benchmarks.measure import ROUNDS, Row, per_second


async def rollouts(store: Store, count: int, worker_id: str = "w", patience: float = 0) -> None:
    """Enqueue, claim and succeed."""
    for number in range(count):
        await store.enqueue_rollout({"task": number})
        claimed = await store.dequeue_rollout(worker_id=worker_id, timeout=patience)
        assert claimed is not None
        await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")


async def rows(_: str) -> list[Row]:
    """Measure on the running loop."""
    async with la.open_system(blocked_after=math.inf):
        return [
            Row("rollouts through a mailbox", "rollouts/s", await per_second(_in_a_new_store("task"), 2_000)),
            Row("rollouts through a thread", "rollouts/s", await per_second(_in_a_new_store("thread"), 500)),
            *await _growth(),
        ]


def _in_a_new_store(place: Place) -> Callable[[int], Awaitable[None]]:
    """As the peer does it: each round has a store of its own."""

    async def work(count: int) -> None:
        await rollouts(await la.options(place=place).spawn(MemoryStore), count)

    return work


async def _growth() -> list[Row]:
    """The cost of one operation with 100,000 rollouts, beside that with 1,000."""
    few, many = await _filled(1_000), await _filled(100_000)
    found: list[Row] = []
    for name, operation in OPERATIONS.items():
        with_few, with_many = await _alternately(few, many, operation)
        row = Row(f"{name}, 100,000 rollouts", "µs", with_many * 1e6, more_is_better=False)
        row.beside["with 1,000"] = with_few * 1e6
        found.append(row)
    return found


async def _filled(count: int) -> Store:
    """A store with so many rollouts, nine of ten of them finished."""
    store = MemoryStore()
    for number in range(count):
        await store.enqueue_rollout({"task": number})
    for _ in range(count * 9 // 10):
        claimed = await store.dequeue_rollout()
        assert claimed is not None
        await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
    return store


async def _alternately(few: Store, many: Store, operation: Callable[[Store], Awaitable[object]]) -> tuple[float, float]:
    best = {id(few): float("inf"), id(many): float("inf")}
    for _ in range(ROUNDS * 4):
        for store in (few, many):
            start = time.perf_counter()
            for _ in range(20):
                await operation(store)
            best[id(store)] = min(best[id(store)], (time.perf_counter() - start) / 20)
    return best[id(few)], best[id(many)]


async def _claim_and_succeed(store: Store) -> None:
    await rollouts(store, 1)


OPERATIONS: dict[str, Callable[[Store], Awaitable[object]]] = {
    "enqueue + claim + succeed": _claim_and_succeed,
    "query, limit 10": lambda store: store.query_rollouts(limit=10),
    "query the last 10": lambda store: store.query_rollouts(limit=10, sort_order="desc"),
    "query by status, limit 10": lambda store: store.query_rollouts(status_in=["queuing"], limit=10),
    "statistics": lambda store: store.statistics(),
}
