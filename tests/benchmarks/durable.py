"""A store on a disk: what is answered is durable. 64 callers, each with one call under way.

Beside it what SQLite alone does with the same rows: one connection, 64 of them in a transaction, synced.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from lightactors.training.records import AttemptedRollout, EnqueueRolloutRequest, Span
from lightactors.training.stores.contract import Store
from lightactors.training.stores.opening import open_store
from tests.benchmarks.measure import ROUNDS, Row
from tests.benchmarks.rollouts import rollouts

CALLERS = 64
COUNT = 6_400
FEW, MANY = 1_000, 1_000_000


async def rows(_: str) -> list[Row]:
    """Measure on the running loop."""
    with TemporaryDirectory() as folder:
        store: Any = open_store(f"{folder}/run.db")
        found = await figures(store)
        store.close()
        bare = _bare_sqlite(Path(folder) / "bare.db")
        found[0].beside["bare SQLite"] = bare
        found.append(await _growth(folder))
    return found


async def figures(store: Store) -> list[Row]:
    """Measure a store that is empty."""
    waits: list[float] = []
    claimed: list[AttemptedRollout] = []

    async def add(_: int) -> None:
        start = time.perf_counter()
        await store.enqueue_rollout({"task": "x" * 500})
        waits.append(time.perf_counter() - start)

    async def claim(_: int) -> None:
        rollout = await store.dequeue_rollout()
        assert rollout is not None
        claimed.append(rollout)

    adds = await _per_second(add, COUNT)
    claims = await _per_second(claim, COUNT)
    numbers = iter(range(1, 10**9))

    async def add_spans(caller: int) -> None:
        await store.add_many_spans([_span(claimed[caller], next(numbers)) for _ in range(100)])

    spans = 100 * await _per_second(add_spans, COUNT // 10)

    async def whole(caller: int) -> None:
        await rollouts(store, 1, f"w{caller}")

    return [
        Row("durable adds", "adds/s", adds),
        Row("durable add, p50", "ms", statistics.median(waits) * 1e3, more_is_better=False),
        Row("durable claims", "claims/s", claims),
        Row("durable spans, 100 a call", "spans/s", spans),
        Row("durable rollouts", "rollouts/s", await _per_second(whole, COUNT // 2)),
    ]


async def _per_second(work: Callable[[int], Awaitable[None]], count: int) -> float:
    """Return how many calls per second all callers make together."""
    best = 0.0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for caller in range(CALLERS):
                tasks.start_soon(_again, work, caller, count // CALLERS)
        best = max(best, count / (time.perf_counter() - start))
    return best


async def _again(work: Callable[[int], Awaitable[None]], caller: int, count: int) -> None:
    for _ in range(count):
        await work(caller)


def _span(rollout: AttemptedRollout, number: int) -> Span:
    return Span(
        rollout_id=rollout.rollout_id,
        attempt_id=rollout.attempt.attempt_id,
        sequence_id=number,
        trace_id=f"{1:032x}",
        span_id=f"{number:016x}",
        name="step",
        attributes={"prompt": "x" * 300, "tokens": number},
        start_time=1.0,
        end_time=2.0,
    )


def _bare_sqlite(path: Path) -> float:
    """Return how many rows per second SQLite keeps, as large as ours, with as many indexes."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("PRAGMA synchronous = full")
    connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, id TEXT UNIQUE, status TEXT, body BLOB)")
    connection.execute("CREATE INDEX rows_by_status ON rows (status)")
    numbers = iter(range(10**9))
    best = 0.0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(COUNT // CALLERS):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO rows VALUES (?, ?, 'queuing', ?)", _bare_rows(numbers))
            connection.execute("COMMIT")
        best = max(best, COUNT / (time.perf_counter() - start))
    connection.close()
    return best


def _bare_rows(numbers: Iterator[int]) -> Iterator[tuple[int, str, bytes]]:
    for _ in range(CALLERS):
        number = next(numbers)
        yield number, f"ro-{number:012x}", b"x" * 600


async def _growth(folder: str) -> Row:
    """The cost of a rollout with a million of them in the file, beside that with a thousand."""
    few: Any = await _filled(f"{folder}/few.db", FEW)
    many: Any = await _filled(f"{folder}/many.db", MANY)
    best = {id(few): float("inf"), id(many): float("inf")}
    for _ in range(ROUNDS):
        for store in (few, many):

            async def whole(caller: int, store: Store = store) -> None:
                await rollouts(store, 1, f"w{caller}")

            best[id(store)] = min(best[id(store)], 1e6 / await _per_second(whole, COUNT // 8))
    row = Row(f"durable rollout, {MANY:,} rollouts", "µs", best[id(many)], more_is_better=False)
    row.beside[f"with {FEW:,}"] = best[id(few)]
    few.close()
    many.close()
    return row


async def _filled(path: str, count: int) -> Store:
    """A store with so many rollouts, nine of ten of them finished."""
    store = open_store(path)
    step = min(count, 5_000)
    for _ in range(count // step):
        await store.enqueue_many_rollouts([EnqueueRolloutRequest({"task": number}) for number in range(step)])
        claimed = await store.dequeue_many_rollouts(step * 9 // 10)
        async with anyio.create_task_group() as tasks:
            for one in claimed:
                tasks.start_soon(_succeed, store, one)
    return store


async def _succeed(store: Store, claimed: AttemptedRollout) -> None:
    await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
