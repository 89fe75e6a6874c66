"""Who is on which rollouts in a database."""

from __future__ import annotations

from collections.abc import Iterable

from lightactors.training.stores.sql.kept import Kept
from lightactors.training.stores.sql.rollouts import SqlRollouts
from lightactors.training.stores.sql.shared import Shared


class SqlHeld:
    """Who is on what; a worker's are fetched when it is first asked for."""

    def __init__(self, tables: Shared, rollouts: SqlRollouts) -> None:
        self._tables = tables
        self._rollouts = rollouts
        self._known: dict[str, set[int]] = {}

    def put(self, entry: Kept, worker_id: str | None) -> None:
        if entry.holder in self._known:
            self._known[entry.holder].discard(entry.number)
        if worker_id in self._known:
            self._known[worker_id].add(entry.number)

    def of(self, worker_id: str) -> list[Kept]:
        if worker_id not in self._known:
            self.prefetch([worker_id])
        found = [self._rollouts.at(number) for number in sorted(self._known[worker_id])]
        return [entry for entry in found if entry is not None and entry.holder == worker_id]

    def prefetch(self, worker_ids: Iterable[str]) -> None:
        missing = [worker_id for worker_id in dict.fromkeys(worker_ids) if worker_id not in self._known]
        if not missing:
            return
        self._tables.write()
        for worker_id in missing:
            self._known[worker_id] = set()
        database = self._tables.database
        for entry in self._rollouts.fetch(database.among("r.holder"), database.listed(missing)):
            if entry.holder is not None:
                self._known[entry.holder].add(entry.number)

    def forget(self) -> None:
        self._known.clear()
