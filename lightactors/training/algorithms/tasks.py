"""Tasks run to their end: what most algorithms do between two steps of learning."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Generic, TypeVar

from lightactors.training.algorithms.datasets import Dataset
from lightactors.training.patience import insist
from lightactors.training.records import EnqueueRolloutRequest, Mode, Rollout, RolloutConfig
from lightactors.training.stores.contract import Store
from lightactors.training.tracing.rewards import find_final_reward

T = TypeVar("T")


@dataclass(frozen=True)
class TaskResult(Generic[T]):
    """What came of a task: its rollout, and the last reward of the last attempt (None: it has none)."""

    task: T
    rollout: Rollout
    reward: float | None


async def run_tasks(
    store: Store,
    tasks: Dataset[T],
    *,
    mode: Mode | None = None,
    resources_id: str | None = None,
    config: RolloutConfig | None = None,
) -> list[TaskResult[T]]:
    """Enqueue a rollout for each task, wait until all are finished, and return the results in the tasks' order.

    `resources_id` None means the latest resources. A rollout that failed is among the results: see its status.
    """
    all_tasks = [tasks[index] for index in range(len(tasks))]
    # With ids of our own, so that the call may be repeated where its answer was lost.
    ids = [f"ro-{secrets.token_hex(6)}" for _ in all_tasks]
    requests = [
        EnqueueRolloutRequest(task, mode, resources_id, config, rollout_id=rollout_id)
        for task, rollout_id in zip(all_tasks, ids, strict=True)
    ]
    await insist(store.enqueue_many_rollouts, requests)
    finished = await store.wait_for_rollouts(rollout_ids=ids)
    return [
        TaskResult(task, rollout, find_final_reward(await store.query_spans(rollout.rollout_id, "latest")))
        for task, rollout in zip(all_tasks, finished, strict=True)
    ]
