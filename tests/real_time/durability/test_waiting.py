"""Who waits at a durable store: for work, for ends, for a deadline, and for what another process does."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import FencedAttempt, StoreUnavailable
from lightactors.testing.store.moves import Waiting, claim, ids, report, status_of, until_waiting
from lightactors.training.records import EnqueueRolloutRequest, RolloutConfig
from lightactors.training.stores.contract import Store
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.sql import DurableStore
from tests.real_time.doors import direct


async def test_who_waits_longest_is_served_first(tmp_path: Path) -> None:
    async with direct(f"{tmp_path}/run.db") as store, anyio.create_task_group() as tasks:
        line = [Waiting(store, worker_id) for worker_id in "abc"]
        for place, waiting in enumerate(line, 1):
            tasks.start_soon(waiting.run)
            await until_waiting(store, place)
        for number in range(3):
            await store.enqueue_rollout(number)
            await line[number].ended.wait()
        assert [waiting.input for waiting in line] == [0, 1, 2]
        assert (await store.statistics()).waiters == 0


async def test_wait_is_over_after_its_time(tmp_path: Path) -> None:
    async with direct(f"{tmp_path}/run.db") as store:
        done, still_open = await store.enqueue_rollout(1), await store.enqueue_rollout(2)
        claimed = await claim(store)
        await report(store, claimed, "succeeded")
        await claim(store)
        with anyio.fail_after(10):
            assert await store.dequeue_rollout("w", timeout=0.05) is None
            assert await store.dequeue_many_rollouts(2, "w", timeout=0.05) == []
            both = [done.rollout_id, still_open.rollout_id]
            assert ids(await store.wait_for_rollouts(rollout_ids=both, timeout=0.05)) == [done.rollout_id]
            assert (await store.query_completions(after=1, timeout=0.05)).rollouts == []
        assert (await store.statistics()).waiters == 0


async def test_ends_wake_those_who_wait_for_them(tmp_path: Path) -> None:
    async with direct(f"{tmp_path}/run.db") as store, anyio.create_task_group() as tasks:
        first, second = await store.enqueue_rollout(1), await store.enqueue_rollout(2)
        answers: dict[str, list[str]] = {}

        async def wait_for_both() -> None:
            both = [second.rollout_id, first.rollout_id]
            answers["both"] = ids(await store.wait_for_rollouts(rollout_ids=both))

        async def wait_for_one() -> None:
            answers["one"] = ids((await store.query_completions(timeout=None)).rollouts)

        tasks.start_soon(wait_for_both)
        tasks.start_soon(wait_for_one)
        for expected in (first, second):
            claimed = await claim(store)
            assert claimed.rollout_id == expected.rollout_id
            await report(store, claimed, "succeeded")
    assert answers == {"both": [second.rollout_id, first.rollout_id], "one": [first.rollout_id]}


async def test_nothing_is_lost_when_claims_are_cancelled(tmp_path: Path) -> None:
    chance = random.Random(1)
    async with direct(f"{tmp_path}/run.db") as store:
        claimed: list[str] = []

        async def claim_or_give_up(worker_id: str) -> None:
            while len(claimed) < 200:
                with anyio.move_on_after(chance.uniform(0, 0.01)):
                    rollout = await store.dequeue_rollout(worker_id, timeout=None)
                    assert rollout is not None
                    claimed.append(rollout.rollout_id)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(claim_or_give_up, f"w{number}")
                for number in range(20):
                    await store.enqueue_many_rollouts([EnqueueRolloutRequest((number, i)) for i in range(10)])
                    await anyio.sleep(0.005)
            await until_waiting(store, 0)  # who was cancelled is let go soon, and not at once
        assert len(set(claimed)) == len(claimed) == 200
        counted = await store.statistics()
        assert (counted.queue_length, counted.waiters) == (0, 0)


async def test_attempt_that_is_silent_is_given_up_by_itself(tmp_path: Path) -> None:
    config = RolloutConfig(unresponsive_seconds=0.2, max_attempts=2, retry_condition=["unresponsive"])
    async with direct(f"{tmp_path}/run.db") as store:
        rollout = await store.enqueue_rollout(1, config=config)
        first = await claim(store, worker_id="a")
        with anyio.fail_after(10):
            second = await store.dequeue_rollout("b", timeout=None)
        assert second is not None
        assert (second.rollout_id, second.attempt.sequence_id) == (rollout.rollout_id, 2)
        with pytest.raises(FencedAttempt):
            await report(store, first, "succeeded")
        assert (await store.statistics()).fenced == 1


async def test_lease_counts_anew_for_a_store_that_was_started_again(tmp_path: Path) -> None:
    config = RolloutConfig(unresponsive_seconds=0.3, max_attempts=2, retry_condition=["unresponsive"])
    async with direct(f"{tmp_path}/run.db") as store:
        await store.enqueue_rollout(1, config=config)
        claimed = await claim(store, worker_id="a")
    await anyio.sleep(0.4)  # longer than the lease: the store was down, not the runner
    async with direct(f"{tmp_path}/run.db") as store:
        await report(store, claimed, "running")
        with anyio.fail_after(10):
            retried = await store.dequeue_rollout("b", timeout=None)
        assert retried is not None
        assert retried.attempt.sequence_id == 2


async def test_closed_store_ends_waits_and_opens_again(tmp_path: Path) -> None:
    store: Any = open_store(str(tmp_path / "run.db"))
    async with anyio.create_task_group() as tasks:

        async def wait() -> None:
            with pytest.raises(StoreUnavailable, match="closed"):
                await store.dequeue_rollout("w", timeout=None)

        tasks.start_soon(wait)
        await until_waiting(store, 1)
        store.close()
    rollout = await store.enqueue_rollout(1)
    assert await status_of(store, rollout) == "queuing"
    store.close()


async def test_several_stores_over_one_file_share_its_work(tmp_path: Path) -> None:
    path = f"{tmp_path}/run.db"
    async with direct(path) as here, direct(path) as there:
        claimed: list[str] = []

        async def work(store: Store, worker_id: str) -> None:
            while len(claimed) < 60:
                with anyio.move_on_after(2):
                    rollout = await store.dequeue_rollout(worker_id, timeout=1)
                    if rollout is not None:
                        claimed.append(rollout.rollout_id)
                        await report(store, rollout, "succeeded")

        with anyio.fail_after(50):
            async with anyio.create_task_group() as tasks:
                for number in range(4):
                    tasks.start_soon(work, (here, there)[number % 2], f"w{number}")
                added = [await (here, there)[number % 2].enqueue_rollout(number) for number in range(60)]
                await here.wait_for_rollouts(rollout_ids=ids(added[30:]))
                await there.wait_for_rollouts(rollout_ids=ids(added[:30]))
        assert sorted(claimed) == sorted(ids(added))
        assert len((await there.query_completions(limit=-1)).rollouts) == 60


async def test_waiter_hears_of_what_another_process_enqueues(tmp_path: Path) -> None:
    path = f"{tmp_path}/run.db"
    async with direct(path) as here, direct(path) as there, anyio.create_task_group() as tasks:
        waiting = Waiting(here, "a")
        tasks.start_soon(waiting.run)
        await until_waiting(here, 1)
        await there.enqueue_rollout("work")
        with anyio.fail_after(5):
            await waiting.ended.wait()
        assert waiting.input == "work"


async def test_stopped_actor_lets_the_file_go(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    async with la.open_system():
        store = await la.spawn(DurableStore, str(path))
        await store.enqueue_rollout(1)
        await la.stop(store)
    assert os.listdir(tmp_path) == ["run.db"]  # no log is left beside it
