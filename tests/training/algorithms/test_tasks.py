"""Tasks under a key are run once, however often the program is."""

from __future__ import annotations

import anyio
import numpy
import pytest

import lightactors as la
from lightactors.training.algorithms.tasks import rollout_id_for
from lightactors.training.records import EnqueueRolloutRequest
from lightactors.training.stores.memory import MemoryStore


async def run_all(store: MemoryStore) -> list[str]:
    """Finish all that is queued; return the ids."""
    claimed = await store.dequeue_many_rollouts(100, "w")
    for one in claimed:
        await store.update_attempt(one.rollout_id, "latest", "succeeded")
    return [one.rollout_id for one in claimed]


async def run_tasks(store: MemoryStore, tasks: list[object], key: str | None) -> tuple[list[str], list[str]]:
    """Return the ids of the results, and of what was run for them."""
    results: list[la.TaskResult[object]] = []
    ran: list[str] = []

    async def ask() -> None:
        results.extend(await la.run_tasks(store, tasks, key=key))
        tasks_group.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks_group:
        tasks_group.start_soon(ask)
        while True:
            ran += await run_all(store)
            await anyio.sleep(1)
    return [result.rollout.rollout_id for result in results], ran


async def test_tasks_under_a_key_are_run_once() -> None:
    store = MemoryStore()
    first, ran = await run_tasks(store, [1, {"a": 2}], "step-1")
    assert first == ran
    assert await run_tasks(store, [1, {"a": 2}], "step-1") == (first, [])


async def test_results_of_the_store_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    for _ in range(2):
        await run_tasks(store, [1, 2], "step-1")
    assert caplog.messages == []


async def test_what_is_missing_is_run(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    first, _ = await run_tasks(store, [1, 2], "step-1")
    again, ran = await run_tasks(store, [1, 2, 3], "step-1")
    assert again == [*first, *ran]
    assert "step-1: going on with 2 of 3 tasks finished before" in caplog.text


async def test_what_failed_before_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    failed = rollout_id_for("k", None, 0, "task")
    await store.enqueue_rollout("task", rollout_id=failed)
    await store.dequeue_rollout("w")
    await store.update_attempt(failed, "latest", "failed")
    assert await run_tasks(store, ["task"], "k") == ([failed], [])
    assert "k: all 1 tasks were finished before, of which 1 failed; for new" in caplog.text


async def test_results_of_other_resources_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    before = await store.add_resources({"weights": numpy.zeros(2)})
    await run_tasks(store, [1], "step-1")
    await store.add_resources({"weights": numpy.zeros(2)})
    await run_tasks(store, [1], "step-1")
    assert caplog.messages == []
    await store.add_resources({"weights": numpy.ones(2)})
    await run_tasks(store, [1], "step-1")
    assert f"step-1: tasks of before were given other resources (['{before.resources_id}'])" in caplog.text


async def test_what_waits_is_not_queued_twice() -> None:
    store = MemoryStore()
    rollout_id = rollout_id_for("k", None, 0, "task")
    await store.enqueue_many_rollouts([EnqueueRolloutRequest("task", rollout_id=rollout_id)])
    assert await run_tasks(store, ["task"], "k") == ([rollout_id], [rollout_id])


async def test_other_tasks_keys_and_modes_are_other_rollouts() -> None:
    ids = [
        rollout_id_for("k", None, 0, 1),
        rollout_id_for("k", None, 0, 2),
        rollout_id_for("k", None, 1, 1),
        rollout_id_for("k", "val", 0, 1),
        rollout_id_for("l", None, 0, 1),
        rollout_id_for("k", None, 0, numpy.zeros(2)),
        rollout_id_for("k", None, 0, numpy.ones(2)),
    ]
    assert len(set(ids)) == len(ids)
    assert rollout_id_for("k", None, 0, {"b": 1, "a": 2}) == rollout_id_for("k", None, 0, {"a": 2, "b": 1})
    assert rollout_id_for("k", None, 0, object()) == "k-task-0"
    assert rollout_id_for("k", None, 0, 2**70) == "k-task-0"


async def test_without_a_key_tasks_are_run_each_time() -> None:
    store = MemoryStore()
    first, _ = await run_tasks(store, [1], None)
    again, ran = await run_tasks(store, [1], None)
    assert again == ran != first
