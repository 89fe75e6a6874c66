"""The workers in a database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lightactors.training.records import Worker
from lightactors.training.stores import queries
from lightactors.training.stores.queries import Page, Predicate
from lightactors.training.stores.sql import bodies, schema
from lightactors.training.stores.sql.series import Series
from lightactors.training.stores.sql.shared import Shared


class SqlWorkers:
    """The workers."""

    def __init__(self, tables: Shared) -> None:
        self._tables = tables
        self._database = tables.database
        self._rows: dict[str, tuple[int, Worker | None]] = {}
        self._changed: dict[str, Worker] = {}
        self._numbers = Series(tables.database, "worker")

    def __len__(self) -> int:
        return int(self._database.rows("SELECT count(*) FROM workers")[0][0])

    def get(self, worker_id: str) -> Worker | None:
        if worker_id not in self._rows:
            self.prefetch([worker_id])
        return self._rows[worker_id][1]

    def prefetch(self, worker_ids: Iterable[str]) -> None:
        missing = [worker_id for worker_id in dict.fromkeys(worker_ids) if worker_id not in self._rows]
        if not missing:
            return
        condition = self._database.among("worker_id")
        rows = self._database.rows(
            f"SELECT number, worker_id, body FROM workers WHERE {condition} ORDER BY number"
            f"{self._tables.holding.format('workers')}",
            self._database.listed(missing),
        )
        self._rows.update(dict.fromkeys(missing, (0, None)))
        self._rows.update({worker_id: (number, bodies.worker(body)) for number, worker_id, body in rows})

    def put(self, worker: Worker) -> None:
        worker_id = worker.worker_id
        before = self.get(worker_id)
        if before is None or worker.heartbeat_stats is not before.heartbeat_stats:
            bodies.check("heartbeat_stats", worker.heartbeat_stats)
        number = self._rows[worker_id][0] if worker_id in self._rows else 0
        self._rows[worker_id] = number or self._numbers.next(), worker
        self._changed[worker_id] = worker

    def flush(self) -> None:
        rows = [
            (
                self._rows[worker_id][0],
                worker_id,
                worker.status,
                bodies.packed("heartbeat_stats", worker, given=worker.heartbeat_stats),
            )
            for worker_id, worker in self._changed.items()
        ]
        self._changed.clear()
        self._database.write(schema.WORKERS, rows)

    def select(self, statuses: Sequence[str] | None, contains: str | None, logic: str, page: Page) -> list[Worker]:
        rows = self._database.rows("SELECT body FROM workers ORDER BY number")
        conditions: list[Predicate[Any]] = queries.texts(worker_id_contains=contains)
        if statuses is not None:
            conditions.append(lambda worker: worker.status in statuses)
        workers: list[Worker] = [bodies.worker(body) for (body,) in rows]
        return page.cut(page.sorted(queries.matching(workers, conditions, logic)))

    def forget(self) -> None:
        self._rows.clear()
        self._changed.clear()
        self._numbers.forget()
