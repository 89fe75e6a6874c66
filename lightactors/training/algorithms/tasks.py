"""Tasks run to their end: what most algorithms do between two steps of learning."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from lightactors.errors import NotFound
from lightactors.training.algorithms.datasets import Dataset
from lightactors.training.patience import insist
from lightactors.training.records import EnqueueRolloutRequest, Mode, Rollout, RolloutConfig
from lightactors.training.stores.contract import Store
from lightactors.training.tracing.rewards import find_final_reward

T = TypeVar("T")

logger = logging.getLogger("lightactors")


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
    key: str | None = None,
) -> list[TaskResult[T]]:
    """Enqueue a rollout for each task, wait until all are finished, and return the results in the tasks' order.

    `resources_id` None means the latest resources. A rollout that failed is among the results: see its status.

    With a `key`, a program that is run again on the same store goes on where it was: what has finished under this
    key is not run again. The key is to be another one for each step, and the same when the program runs again; a task
    that is another one than the last time is run.
    """
    all_tasks = [tasks[index] for index in range(len(tasks))]
    # With ids of our own, so that the call may be repeated where its answer was lost.
    ids = [
        f"ro-{secrets.token_hex(6)}" if key is None else rollout_id_for(key, mode, index, task)
        for index, task in enumerate(all_tasks)
    ]
    requests = [
        EnqueueRolloutRequest(task, mode, resources_id, config, rollout_id=rollout_id)
        for task, rollout_id in zip(all_tasks, ids, strict=True)
    ]
    if key is not None:
        requests = await _without_known(store, requests, key)
    await insist(store.enqueue_many_rollouts, requests)
    finished = await store.wait_for_rollouts(rollout_ids=ids)
    if len(finished) < len(ids):
        raise NotFound(f"{len(ids) - len(finished)} rollouts have gone unread; let the store's retention keep more")
    return [
        TaskResult(task, rollout, find_final_reward(await store.query_spans(rollout.rollout_id, "latest")))
        for task, rollout in zip(all_tasks, finished, strict=True)
    ]


async def _without_known(
    store: Store, requests: Sequence[EnqueueRolloutRequest], key: str
) -> list[EnqueueRolloutRequest]:
    """Leave out what the store has already, whatever became of it."""
    ids = [request.rollout_id for request in requests if request.rollout_id is not None]
    known = await insist(store.query_rollouts, rollout_id_in=ids)
    finished = sum(rollout.end_time is not None for rollout in known)
    if requests and finished == len(requests):
        logger.warning("%s: all %d tasks were finished before; for new rollouts take another store", key, finished)
    elif known:
        logger.warning("%s: going on with %d of %d tasks finished before", key, finished, len(requests))
    taken = {rollout.rollout_id for rollout in known}
    return [request for request in requests if request.rollout_id not in taken]


def rollout_id_for(key: str, mode: Mode | None, index: int, task: object) -> str:
    """Return the id that a task has whenever the program is run: from its place in the dataset, and what it is."""
    return "-".join([key, mode or "task", str(index), *_digest(task)])


def _digest(task: object) -> list[str]:
    try:
        raw = msgspec.msgpack.encode(task, enc_hook=_plain, order="deterministic")
    except (TypeError, ValueError, RecursionError):
        return []  # of what is no plain data the place has to do
    return [hashlib.blake2s(raw, digest_size=4).hexdigest()]


def _plain(value: Any) -> object:
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        return str(value.dtype), value.shape, value.tobytes()
    raise TypeError(f"{type(value).__name__} is no plain data")
