"""A durable store that is an actor removes by itself what it is not to keep."""

from __future__ import annotations

from pathlib import Path

import anyio

from lightactors.actors import open_system, spawn
from lightactors.training.records import EnqueueRolloutRequest
from lightactors.training.stores.retention import Retention
from lightactors.training.stores.sql import DurableStore


async def test_actor_prunes_by_itself(tmp_path: Path) -> None:
    async with open_system():
        retention = Retention(count=1, least_age=0)
        store = await spawn(DurableStore, f"{tmp_path}/run.db", retention=retention, prune_seconds=0.05)
        await store.enqueue_many_rollouts([EnqueueRolloutRequest(number) for number in range(3)])
        for claimed in await store.dequeue_many_rollouts(3, "w"):
            await store.update_attempt(claimed.rollout_id, "latest", "succeeded")
        while (await store.statistics()).total_rollouts > 1:  # noqa: ASYNC110 - nobody tells when it is done
            await anyio.sleep(0.05)
