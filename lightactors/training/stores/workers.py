"""What the store knows of its workers: it follows from what they claim and how their attempts go."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from lightactors.training.lifecycle import ALIVE, WORKER_AFTER
from lightactors.training.records import Attempt, Worker
from lightactors.training.stores.tables import WorkerTable


class Workers:
    """The rules of the table of workers; one that is not in it yet is added with its first sign of life."""

    def __init__(self, table: WorkerTable) -> None:
        self.table = table

    def update(self, worker_id: str, **changes: Any) -> Worker:
        """Change fields of a worker and return it."""
        worker = replace(self._known(worker_id), **changes)
        self.table.put(worker)
        return worker

    def _known(self, worker_id: str) -> Worker:
        return self.table.get(worker_id) or Worker(worker_id=worker_id)

    def asked_in_vain(self, worker_id: str, now: float) -> None:
        """Record that the worker asked for work, and there was none."""
        worker = self.update(worker_id, last_dequeue_time=now)
        if worker.status != "idle":
            self.leave(worker_id, "idle", now)

    def take(self, attempt: Attempt, now: float, *, was_asked: bool = False) -> None:
        """Record that the attempt's worker, if it has one, is on it; `was_asked`: because it asked for work."""
        if attempt.worker_id is None:
            return
        before = self._known(attempt.worker_id)
        worker = replace(
            before,
            status=WORKER_AFTER[attempt.status],
            last_dequeue_time=now if was_asked else before.last_dequeue_time,
            last_busy_time=now,
            current_rollout_id=attempt.rollout_id,
            current_attempt_id=attempt.attempt_id,
        )
        self.table.put(worker)

    def follow(self, attempt: Attempt, now: float) -> None:
        """Record what the attempt's status means for its worker, if it has one.

        An attempt that ended frees only a worker that is not on another one by now.
        """
        if attempt.status in ALIVE:
            self.take(attempt, now)
        elif attempt.worker_id is not None and self._is_free_for(attempt.worker_id, attempt):
            self.leave(attempt.worker_id, WORKER_AFTER[attempt.status], now)

    def _is_free_for(self, worker_id: str, attempt: Attempt) -> bool:
        worker = self.table.get(worker_id)
        if worker is None or worker.current_attempt_id is None:
            return True
        return (worker.current_rollout_id, worker.current_attempt_id) == (attempt.rollout_id, attempt.attempt_id)

    def leave(self, worker_id: str, status: str, now: float) -> None:
        """Record that the worker is on nothing any more."""
        before = self._known(worker_id)
        self.table.put(
            replace(before, status=status, last_idle_time=now, current_rollout_id=None, current_attempt_id=None)
        )
