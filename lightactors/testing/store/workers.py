"""Workers are known by what they do."""

from __future__ import annotations

from typing import Any

import anyio

from lightactors.testing.store.moves import (
    Waiting,
    claim,
    report,
    status_of,
    until_waiting,
)
from lightactors.training.records import (
    AttemptStatus,
    RolloutConfig,
)
from lightactors.training.stores.contract import Store


async def check_worker_follows_its_attempts(store: Store) -> None:
    after: dict[AttemptStatus, str] = {
        "running": "busy",
        "succeeded": "idle",
        "failed": "idle",
        "timeout": "unknown",
        "unresponsive": "unknown",
    }
    for status, expected in after.items():
        rollout = await store.start_rollout(1, worker_id=status)
        await report(store, rollout, status)
        worker = await store.get_worker_by_id(status)
        assert worker is not None
        assert worker.status == expected
        current = (rollout.rollout_id, rollout.attempt.attempt_id) if expected == "busy" else (None, None)
        assert (worker.current_rollout_id, worker.current_attempt_id) == current
        assert (worker.last_busy_time is None, worker.last_idle_time is None) == (False, expected == "busy")


async def check_worker_that_moved_on_stays_busy(store: Store) -> None:
    old, new = await store.start_rollout(1, worker_id="w"), await store.start_rollout(2, worker_id="w")
    await report(store, old, "timeout")
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert (worker.status, worker.current_rollout_id) == ("busy", new.rollout_id)


async def check_worker_without_work_is_idle(store: Store) -> None:
    assert await store.dequeue_rollout("w") is None
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert (worker.status, worker.current_rollout_id) == ("idle", None)
    assert worker.last_dequeue_time is not None


async def check_worker_heartbeat_is_only_that(store: Store) -> None:
    worker = await store.update_worker("w", {"load": 0.5})
    assert (worker.status, worker.heartbeat_stats) == ("unknown", {"load": 0.5})
    assert worker.last_heartbeat_time is not None
    rollout = await store.start_rollout(1, worker_id="w")
    again = await store.update_worker("w")
    assert (again.status, again.current_rollout_id) == ("busy", rollout.rollout_id)
    assert again.heartbeat_stats == {"load": 0.5}


async def check_workers_are_listed(store: Store) -> None:
    await store.start_rollout(1, worker_id="b1")
    await store.dequeue_rollout("a1")
    await store.update_worker("a2")

    async def listed(**wanted: Any) -> list[str]:
        return [worker.worker_id for worker in await store.query_workers(**wanted)]

    assert await listed() == ["b1", "a1", "a2"]
    assert await listed(status_in=["busy", "idle"]) == ["b1", "a1"]
    assert await listed(worker_id_contains="a", status_in=["idle"]) == ["a1"]
    assert await listed(worker_id_contains="2", status_in=["idle"], filter_logic="or") == ["a1", "a2"]
    assert await listed(sort_by="worker_id", limit=2) == ["a1", "a2"]
    assert await listed(sort_order="desc", offset=2) == ["b1"]


async def check_attempts_of_a_released_worker_are_unresponsive(store: Store) -> None:
    config = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"])
    retried, final = await store.enqueue_rollout(1, config=config), await store.enqueue_rollout(2)
    other = await store.enqueue_rollout(3)
    done = await store.start_rollout(4, worker_id="w")
    await report(store, done, "succeeded")
    await store.dequeue_many_rollouts(2, "w")
    await claim(store, worker_id="v")
    released = await store.release_worker("w")
    assert [(attempt.rollout_id, attempt.status) for attempt in released] == [
        (retried.rollout_id, "unresponsive"),
        (final.rollout_id, "unresponsive"),
    ]
    statuses = [await status_of(store, rollout) for rollout in (retried, final, other, done)]
    assert statuses == ["requeuing", "failed", "preparing", "succeeded"]
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert (worker.status, worker.current_rollout_id) == ("unknown", None)
    assert await store.release_worker("w") == []
    assert (await claim(store, worker_id="w")).rollout_id == retried.rollout_id


async def check_released_worker_waits_no_more(store: Store) -> None:
    waiting = Waiting(store, "w")
    async with anyio.create_task_group() as tg:
        tg.start_soon(waiting.run)
        await until_waiting(store, 1)
        assert await store.release_worker("w") == []
    assert waiting.input is None
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert worker.status == "unknown"


async def check_releasing_a_worker_that_was_never_heard_of_does_nothing(store: Store) -> None:
    assert await store.release_worker("nobody") == []
    assert await store.get_worker_by_id("nobody") is None
