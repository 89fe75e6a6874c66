"""A store in a file, for commands that look into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio

from lightactors.training.records import AttemptStatus, EnqueueRolloutRequest, RolloutConfig, Span
from lightactors.training.stores.contract import Store
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.sql import DurableStore
from lightactors.training.tracing import semconv


def fill(location: Path | str, *, succeeded: int = 3, failed: int = 1, queued: int = 2) -> None:
    """Make a store with so many rollouts, each finished one with two attempts and three spans."""

    async def main() -> None:
        store = open_store(str(location))
        assert isinstance(store, DurableStore)
        try:
            await add_finished(store, succeeded, failed)
            await store.enqueue_many_rollouts([EnqueueRolloutRequest({"task": n}, "val") for n in range(queued)])
        finally:
            store.close()

    anyio.run(main)


async def add_finished(store: Store, succeeded: int, failed: int = 0) -> None:
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"])
    for number in range(succeeded + failed):
        await store.enqueue_rollout({"task": number}, "train", config=config, rollout_id=f"r{number}")
        await _run(store, "failed")
        await _run(store, "succeeded" if number < succeeded else "failed")


async def _run(store: Store, status: AttemptStatus) -> None:
    claimed = await store.dequeue_rollout("worker")
    assert claimed is not None
    ids: Any = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
    said: dict[str, Any] = {semconv.EXCEPTION_TYPE: "ValueError", semconv.EXCEPTION_MESSAGE: "no such\nthing"}
    reward: dict[str, Any] = {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": 0.5}
    told = [Span(**ids, sequence_id=1, trace_id="t", span_id="a", name="began", start_time=1.0, end_time=2.5)]
    if status == "failed":
        told.append(Span(**ids, sequence_id=2, trace_id="t", span_id="b", name=semconv.EXCEPTION, attributes=said))
    else:
        told.append(Span(**ids, sequence_id=2, trace_id="t", span_id="c", name="reward", attributes=reward))
    await store.add_many_spans(told)
    await store.update_attempt(**ids, status=status)
