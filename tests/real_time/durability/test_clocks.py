"""The wall clock is an hour or a day off, and jumps: no lease ends early or lives for ever, and no order is lost."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.training.records import Attempt, RolloutConfig
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.sql import DurableStore
from tests.real_time.durability import histories
from tests.real_time.durability.storm import open_storm, weather

HOUR, DAY = 3600.0, 86400.0
OFFSETS = (HOUR, -HOUR, DAY, -DAY)
OFTEN = [DAY, -DAY, *(pytest.param(offset, marks=pytest.mark.stress) for offset in (HOUR, -HOUR))]

SHORT, LONG = 0.3, 30.0


class WallClock:
    """A wall clock that somebody may put off."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


OpenStore = Callable[[WallClock], Any]


@pytest.fixture(params=["memory", "sqlite"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Give a store whose records are timed by a clock; a file is the same each time."""

    @asynccontextmanager
    async def opened(clock: WallClock) -> AsyncIterator[Any]:
        async with la.open_system() as system:
            if request.param == "memory":
                yield await system.spawn(MemoryStore, now=clock)
            else:
                yield await system.spawn(DurableStore, str(tmp_path / "run.db"), now=clock)

    return opened


@pytest.mark.parametrize("offset", OFTEN)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_lease_ends_when_it_is_over_and_not_before(open_store: OpenStore, offset: float) -> None:
    clock = WallClock()
    async with open_store(clock) as store:
        silent = await store.start_rollout(0, config=RolloutConfig(unresponsive_seconds=SHORT), worker_id="a")
        slow = await store.start_rollout(0, config=RolloutConfig(timeout_seconds=SHORT), worker_id="b")
        patient = RolloutConfig(unresponsive_seconds=LONG, timeout_seconds=LONG)
        others = [await store.start_rollout(0, config=patient) for _ in range(3)]
        clock.offset = offset
        await store.update_attempt(slow.rollout_id, slow.attempt.attempt_id, "running")
        await store.update_attempt(others[0].rollout_id, others[0].attempt.attempt_id, "running")
        with anyio.fail_after(20):
            ended = await store.wait_for_rollouts(rollout_ids=[silent.rollout_id, slow.rollout_id])
        assert [rollout.attempt.status for rollout in ended] == ["unresponsive", "timeout"]
        clock.offset = -offset
        await anyio.sleep(1.2)  # whoever sweeps has done so
        statuses = [(await store.get_latest_attempt(other.rollout_id)).status for other in others]
        assert statuses == ["running", "preparing", "preparing"]


async def _pass_through(store: Any, name: str) -> None:
    """Take a rollout from its beginning to its end."""
    await store.enqueue_rollout(name, rollout_id=name)
    claimed = await store.dequeue_rollout(f"worker-{name}")
    ids = claimed.rollout_id, claimed.attempt.attempt_id
    for _ in range(3):
        number = await store.get_next_span_sequence_id(*ids)
        span = la.Span(
            rollout_id=ids[0],
            attempt_id=ids[1],
            sequence_id=number,
            trace_id="0" * 32,
            span_id=f"{number:016x}",
            name=name,
        )
        await store.add_span(span)
    await store.update_attempt(*ids, "succeeded")


def check_times(attempt: Attempt) -> None:
    assert attempt.last_heartbeat_time is not None
    assert attempt.end_time is not None
    assert attempt.start_time <= attempt.last_heartbeat_time <= attempt.end_time


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_order_is_that_of_events_whatever_the_clock_says(open_store: OpenStore) -> None:
    clock = WallClock()
    async with open_store(clock) as store:
        names = []
        for number, offset in enumerate((0.0, *OFFSETS, 0.0)):
            clock.offset = offset
            names.append(f"ro-{number}")
            await _pass_through(store, names[-1])
        for sort_by in ("start_time", "end_time"):
            assert [rollout.rollout_id for rollout in await store.query_rollouts(sort_by=sort_by)] == names
        found = await store.query_rollouts()
        assert [rollout.rollout_id for rollout in found] == names
        assert [rollout.rollout_id for rollout in (await store.query_completions()).rollouts] == names
        for rollout in found:
            assert rollout.start_time <= rollout.attempt.start_time <= rollout.attempt.end_time <= rollout.end_time
            check_times(rollout.attempt)
            assert [span.sequence_id for span in await store.query_spans(rollout.rollout_id)] == [1, 2, 3]
        for worker in await store.query_workers():
            assert worker.last_dequeue_time <= worker.last_busy_time <= worker.last_idle_time
        assert (await store.statistics()).uptime >= 0


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_store_that_is_opened_again_with_another_clock_goes_on_in_order(tmp_path: Path, offset: float) -> None:
    clock = WallClock()
    path = str(tmp_path / "run.db")
    config = RolloutConfig(unresponsive_seconds=SHORT)
    async with la.open_system() as system:
        store: Any = await system.spawn(DurableStore, path, now=clock)
        await _pass_through(store, "first")
        left = await store.start_rollout(0, config=config)
    clock.offset = offset
    async with la.open_system() as system:
        store = await system.spawn(DurableStore, path, now=clock)
        with anyio.fail_after(20):
            (ended,) = await store.wait_for_rollouts(rollout_ids=[left.rollout_id])
        assert ended.start_time <= ended.end_time
        await _pass_through(store, "last")
        starts = [rollout.start_time for rollout in await store.query_rollouts()]
        assert starts == sorted(starts)
        assert (await store.statistics()).uptime >= 0


@pytest.mark.parametrize(("store_url", "anyio_backend"), [("sqlite", "trio")], indirect=["store_url"])
async def test_runners_do_not_care_about_the_stores_clock(
    store_url: str, anyio_backend_name: str, tmp_path: Path
) -> None:
    with open_storm(store_url, anyio_backend_name, tmp_path) as storm:
        await weather(storm, 80, store_kills=2, clock=OFFSETS, period=0.1)


@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("store_url", ["memory", "sqlite", "postgresql"], indirect=True)
async def test_thousands_of_rollouts_do_not_care_about_the_clock(
    store_url: str, anyio_backend_name: str, tmp_path: Path
) -> None:
    with open_storm(store_url, anyio_backend_name, tmp_path) as storm:
        await weather(storm, 3000, store_kills=0 if store_url == "memory" else 20, clock=OFFSETS, period=0.1)


ELSEWHEN = ("unshare", "--time", "--monotonic", "1000000", "--fork", "--kill-child")
"""What runs a program where the machine has been up for twelve days more."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have a monotonic clock of its own")
@pytest.mark.parametrize(("store_url", "anyio_backend"), [("sqlite", "asyncio")], indirect=["store_url"])
async def test_runners_may_have_another_monotonic_clock(
    store_url: str, anyio_backend_name: str, tmp_path: Path
) -> None:
    with open_storm(store_url, anyio_backend_name, tmp_path) as storm:
        await weather(storm, 60, command=ELSEWHEN, period=0.1)
    events = histories.read(tmp_path / "history")
    assert min(event.at for event in events) > time.monotonic() + 900_000
