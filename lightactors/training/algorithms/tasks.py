"""Tasks run to their end: what most algorithms do between two steps of learning."""

from __future__ import annotations

import hashlib
import logging
import reprlib
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

_PIECE = 60.0
"""Seconds after which results are taken, though others are still awaited: less than any retention leaves them."""


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
        requests = await _without_known(store, requests, resources_id, key)
    await insist(store.enqueue_many_rollouts, requests)
    found = await _collect(store, ids)
    return [TaskResult(task, *found[rollout_id]) for task, rollout_id in zip(all_tasks, ids, strict=True)]


async def _collect(store: Store, ids: Sequence[str]) -> dict[str, tuple[Rollout, float | None]]:
    """Wait until rollouts are finished, and return what came of each, by its id."""
    found: dict[str, tuple[Rollout, float | None]] = {}
    left = list(ids)
    try:
        # In pieces: what has finished may be removed from the store while the others still run.
        while left:
            for rollout in await insist(store.wait_for_rollouts, rollout_ids=left, timeout=_PIECE):
                reward = find_final_reward(await insist(store.query_spans, rollout.rollout_id, "latest"))
                found[rollout.rollout_id] = rollout, reward
            left = [rollout_id for rollout_id in left if rollout_id not in found]
    except NotFound as error:
        known = {rollout.rollout_id for rollout in await insist(store.query_rollouts, rollout_id_in=left)}
        gone = [rollout_id for rollout_id in left if rollout_id not in known | found.keys()]
        raise NotFound(
            f"{len(gone)} of {len(ids)} rollouts were removed before their results were taken, {reprlib.repr(gone)}; "
            "run the tasks again, and let the store keep for longer what is finished"
        ) from error
    return found


async def _without_known(
    store: Store, requests: Sequence[EnqueueRolloutRequest], resources_id: str | None, key: str
) -> list[EnqueueRolloutRequest]:
    """Leave out what the store has already, whatever became of it."""
    ids = [request.rollout_id for request in requests if request.rollout_id is not None]
    known = await insist(store.query_rollouts, rollout_id_in=ids)
    finished = sum(rollout.end_time is not None for rollout in known)
    failed = sum(rollout.status == "failed" for rollout in known)
    of_which = f", of which {failed} failed" if failed else ""
    if requests and finished == len(requests):
        level = logging.WARNING if failed else logging.INFO
        cure = "for new rollouts give another key or store"
        logger.log(level, "%s: all %d tasks were finished before%s; %s", key, finished, of_which, cure)
    elif known:
        logger.warning("%s: going on with %d of %d tasks finished before%s", key, finished, len(requests), of_which)
    await _compare_resources(store, known, resources_id, key)
    taken = {rollout.rollout_id for rollout in known}
    return [request for request in requests if request.rollout_id not in taken]


async def _compare_resources(store: Store, known: Sequence[Rollout], resources_id: str | None, key: str) -> None:
    """Warn where rollouts have other resources than new ones would. By what is in them: ids are new in each run."""
    latest = await insist(store.get_latest_resources) if resources_id is None else None
    now = resources_id if latest is None else latest.resources_id
    others = {rollout.resources_id for rollout in known} - {now}
    if not others:
        return
    digest = await _resources_digest(store, now)
    if differing := [str(other) for other in others if await _resources_digest(store, other) != digest]:
        logger.warning(
            "%s: tasks of before were given other resources (%s) than they would be now (%s); for new rollouts give "
            "another key",
            key,
            reprlib.repr(sorted(differing)),
            now,
        )


async def _resources_digest(store: Store, resources_id: str | None) -> list[str]:
    update = None if resources_id is None else await insist(store.get_resources_by_id, resources_id)
    return _digest({} if update is None else update.resources)


def rollout_id_for(key: str, mode: Mode | None, index: int, task: object) -> str:
    """Return the id that a task has whenever the program is run: from its place in the dataset, and what it is."""
    return "-".join([key, mode or "task", str(index), *_digest(task)])


def _digest(task: object) -> list[str]:
    try:
        raw = msgspec.msgpack.encode(task, enc_hook=_plain, order="deterministic")
    except (TypeError, ValueError, OverflowError, RecursionError):
        return []  # of what is no plain data the place has to do
    return [hashlib.blake2s(raw, digest_size=4).hexdigest()]


def _plain(value: Any) -> object:
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):
        return str(value.dtype), value.shape, value.tobytes()
    raise TypeError(f"{type(value).__name__} is no plain data")
