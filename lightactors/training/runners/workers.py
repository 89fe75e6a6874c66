"""What becomes of the workers of a process that is gone."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Mapping
from functools import cache

from lightactors.training.patience import insist
from lightactors.training.stores.contract import Store

logger = logging.getLogger("lightactors")


def process_id() -> str:
    """Return what this process, and no other one anywhere, is known by: hosts share names, and their pods pids."""
    return _random_id(os.getpid())


@cache
def _random_id(pid: int) -> str:
    """Return an id for a process of ours; a fork has a pid, and so an id, of its own."""
    return secrets.token_hex(8)


def whereabouts() -> Mapping[str, object]:
    """Return what a worker's heartbeat says of where it is."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "process": process_id()}


async def release_workers(store: Store, process: str) -> None:
    """Give up the workers of a process that is gone, which `process_id` told: what they were on is not to stay so."""
    for worker in await insist(store.query_workers):
        said = worker.heartbeat_stats or {}
        if said.get("process") == process:
            for attempt in await insist(store.release_worker, worker.worker_id):
                logger.warning(
                    "rollout %s, attempt %s, is unresponsive: process %s of worker %s is gone",
                    attempt.rollout_id,
                    attempt.attempt_id,
                    said.get("pid"),
                    worker.worker_id,
                )
