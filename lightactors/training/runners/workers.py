"""What becomes of the workers of a process that is gone."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

from lightactors.training.patience import insist
from lightactors.training.stores.contract import Store

logger = logging.getLogger("lightactors")


def whereabouts() -> Mapping[str, object]:
    """Return what a worker's heartbeat says of where it is."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


async def release_workers(store: Store, pid: int) -> None:
    """Give up the workers of a process of this host that is gone: what they were on does not stay as it was."""
    for worker in await insist(store.query_workers):
        said = worker.heartbeat_stats or {}
        if (said.get("host"), said.get("pid")) == (socket.gethostname(), pid):
            for attempt in await insist(store.release_worker, worker.worker_id):
                logger.warning(
                    "rollout %s, attempt %s, is unresponsive: process %s of worker %s is gone",
                    attempt.rollout_id,
                    attempt.attempt_id,
                    pid,
                    worker.worker_id,
                )
