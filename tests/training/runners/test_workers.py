"""Whose workers are given up when a process is gone."""

from __future__ import annotations

import os
import socket

from lightactors.training.runners.workers import process_id, release_workers, whereabouts
from lightactors.training.stores.memory import MemoryStore


async def test_worker_of_another_pod_with_our_host_and_pid_keeps_its_rollout() -> None:
    store = MemoryStore()
    elsewhere = {"host": socket.gethostname(), "pid": os.getpid(), "process": "another"}
    for worker, said in {"ours": whereabouts(), "theirs": elsewhere}.items():
        await store.update_worker(worker, said)
        await store.start_rollout(worker, worker_id=worker)
    await release_workers(store, process_id())
    statuses = {rollout.input: rollout.status for rollout in await store.query_rollouts()}
    assert statuses == {"ours": "failed", "theirs": "preparing"}
