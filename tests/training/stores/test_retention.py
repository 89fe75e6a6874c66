"""What is finished goes from a durable store by age, number and size, and nothing else does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from lightactors.errors import ConfigurationError, NotFound
from lightactors.training.records import EnqueueRolloutRequest, Span
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.retention import Retention, retention_of, seconds, size_bytes
from lightactors.training.stores.sql import DurableStore


class Times:
    """A clock for records that tests set."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(path: Path, times: Times | None = None) -> AsyncIterator[DurableStore]:
    store = open_store(str(path), now=times or time.time)
    assert isinstance(store, DurableStore)
    try:
        yield store
    finally:
        store.close()


async def finish(store: DurableStore, *ids: str, spans: int = 1, size: int = 10) -> None:
    """Add rollouts and finish them."""
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(one, rollout_id=one) for one in ids])
    for claimed in await store.dequeue_many_rollouts(len(ids), "w"):
        attempt: Any = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
        text = {"text": "".join(f"{number}" for number in range(size))}
        await store.add_many_spans(
            [
                Span(**attempt, sequence_id=n, trace_id="t", span_id=f"{n}", name="n", attributes=text)
                for n in range(spans)
            ]
        )
        await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, "succeeded")


async def prune(store: DurableStore, retention: Retention) -> int:
    removed = 0
    while step := await store.prune(retention):
        removed += step
    return removed


async def ids(store: DurableStore) -> list[str]:
    return [rollout.rollout_id for rollout in await store.query_rollouts()]


async def test_by_age(tmp_path: Path) -> None:
    times = Times()
    async with opened(tmp_path / "run.db", times) as store:
        await finish(store, "a", "b")
        times.now += 1000
        await finish(store, "c")
        times.now += 700
        assert await prune(store, Retention(age=1200)) == 2
        assert await ids(store) == ["c"]


async def test_by_number(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as store:
        await finish(store, *"abcde")
        assert await prune(store, Retention(count=2, least_age=0)) == 3
        assert await ids(store) == ["d", "e"]


async def test_by_size(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as store:
        await finish(store, *(f"{number}" for number in range(50)), size=8000)
        removed = await prune(store, Retention(size=600_000, least_age=0))
        assert 5 < removed < 50
        assert await ids(store) == [f"{number}" for number in range(removed, 50)]


async def test_what_has_just_ended_stays(tmp_path: Path) -> None:
    times = Times()
    async with opened(tmp_path / "run.db", times) as store:
        await finish(store, "a")
        assert await prune(store, Retention(count=0, size=0)) == 0
        times.now += 601
        assert await prune(store, Retention(count=0, size=0)) == 1


async def test_what_is_not_finished_stays(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as store:
        await finish(store, "done")
        await store.enqueue_rollout("under way", rollout_id="under way")
        await store.dequeue_rollout("w")
        await store.enqueue_rollout("queued", rollout_id="queued")
        assert await prune(store, Retention(age=0, count=0, size=0, least_age=0)) == 1
        assert await ids(store) == ["under way", "queued"]
        await store.update_attempt("under way", "latest", "succeeded")


async def test_what_has_gone_is_not_found_and_counted(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as store:
        await finish(store, *"abc", spans=4)
        await prune(store, Retention(count=1, least_age=0))
        for gone in (store.query_spans("a"), store.query_attempts("a"), store.wait_for_rollouts(rollout_ids=["a"])):
            with pytest.raises(NotFound, match="'a'"):
                await gone
        assert await store.get_rollout_by_id("a") is None
        counted = await store.statistics()
        assert (counted.total_rollouts, counted.total_attempts, counted.total_spans) == (1, 1, 4)
        assert counted.pruned == 2
        assert len(await store.query_spans("c")) == 4
    async with opened(tmp_path / "run.db") as store:
        assert (await store.statistics()).pruned == 2


async def test_id_of_what_has_gone_may_be_taken_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as store:
        await finish(store, "a")
        await prune(store, Retention(count=0, least_age=0))
        await finish(store, "a")
        assert await ids(store) == ["a"]


async def test_cursors_stay_good(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as store:
        await finish(store, *"abcd")
        first = await store.query_completions(0, limit=1)
        await prune(store, Retention(count=2, least_age=0))
        behind = await store.query_completions(first.cursor)
        assert [rollout.rollout_id for rollout in behind.rollouts] == ["c", "d"]
        await finish(store, "e")
        assert [rollout.rollout_id for rollout in (await store.query_completions(behind.cursor)).rollouts] == ["e"]


async def test_step_is_small_however_much_there_is_to_go(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as store:
        await finish(store, *(f"{number}" for number in range(150)))
        await finish(store, "large", spans=3000)
        everything = Retention(count=0, least_age=0)
        assert [await store.prune(everything) for _ in range(4)] == [100, 50, 1, 0]


async def test_space_is_given_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as store:
        await finish(store, *(f"{number}" for number in range(100)), size=8000)
    before = (tmp_path / "run.db").stat().st_size
    async with opened(tmp_path / "run.db") as store:
        await prune(store, Retention(count=0, least_age=0))
        while await store.give_back_space():
            pass
    assert (tmp_path / "run.db").stat().st_size < before / 4


async def test_two_programs_may_prune_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "run.db") as one, opened(tmp_path / "run.db") as other:
        await finish(one, *(f"{number}" for number in range(300)))
        removed: list[int] = []

        async def tidy(store: DurableStore) -> None:
            removed.append(await prune(store, Retention(count=10, least_age=0)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tidy, one)
            tasks.start_soon(tidy, other)
        assert sum(removed) == 290
        assert (await one.statistics()).pruned == 290
        await finish(other, "more")
        assert len(await ids(one)) == 11


def test_address_says_what_is_kept() -> None:
    address = "sqlite:///run.db?durability=normal&keep_days=7&keep=10000&max_size=5GB"
    kept = Retention(age=7 * 86400, count=10000, size=5 * 10**9)
    assert retention_of(address) == ("sqlite:///run.db?durability=normal", kept)
    assert retention_of("sqlite:///run.db?keep_days=0.5") == ("sqlite:///run.db", Retention(age=43200))
    assert retention_of("run.db") == ("run.db", Retention())
    assert not Retention()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("keep_days=week", "keep_days of the store's address: 'week' is no number of days"),
        ("keep=-1", "keep of the store's address: '-1' is no number of rollouts"),
        ("max_size=big", "max_size of the store's address: 'big' is no size"),
        ("keepdays=1", "there is no option 'keepdays'; there are durability, keep_days, keep and max_size"),
    ],
)
def test_address_that_says_it_wrongly(query: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        open_store(f"sqlite:///run.db?{query}")


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"age": -1}, "age=-1; give seconds"),
        ({"count": 1.5}, "count=1.5; give a number"),
        ({"size": "5GB"}, "size='5GB'"),
    ],
)
def test_retention_that_is_none(limits: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Retention(**limits)  # type: ignore[arg-type]


def test_times_and_sizes_are_read() -> None:
    assert [seconds(text) for text in ("90", "1.5h", "7d", "2 w", "10min")] == [90, 5400, 604800, 1209600, 600]
    assert [size_bytes(text) for text in ("90", "5GB", "512MiB", "1.5 kb")] == [90, 5 * 10**9, 2**29, 1500]
