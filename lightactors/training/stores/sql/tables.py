"""The store's tables in a database, as one transaction after the other sees them.

A table here is a working set: rows are fetched when the rules first look at them, changed in memory, and written back
together by `flush`. What was looked at is written if it is no longer what was read, so nobody has to say what they
changed. Between transactions the working set is kept as long as nobody else writes, up to a size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lightactors.training.stores.sql import foresight, schema
from lightactors.training.stores.sql.database import Database, Row
from lightactors.training.stores.sql.finished import SqlFinished
from lightactors.training.stores.sql.held import SqlHeld
from lightactors.training.stores.sql.queue import SqlQueue
from lightactors.training.stores.sql.resources import SqlResources
from lightactors.training.stores.sql.rollouts import SqlRollouts
from lightactors.training.stores.sql.spans import SqlSpans
from lightactors.training.stores.sql.workers import SqlWorkers
from lightactors.training.stores.tables import Totals


class SqlTables:
    """All tables of a database, for one connection; `is_reader`: none of them is going to change."""

    def __init__(self, database: Database, *, is_reader: bool) -> None:
        self.database = database
        self.holding = "" if is_reader else database.holding
        self.holding_free = "" if is_reader else database.holding_free
        self._is_reader = is_reader
        self.clock: Callable[[], float] = time.monotonic
        self.totals = Totals()
        self._counted: dict[str, int] = {}
        self._counters: dict[str, int] | None = None
        self.rollouts = SqlRollouts(self)
        self.queue = SqlQueue(self, self.rollouts)
        self.finished = SqlFinished(self, self.rollouts)
        self.held = SqlHeld(self, self.rollouts)
        self.workers = SqlWorkers(self)
        self.resources = SqlResources(database)
        self.spans = SqlSpans(self)
        self._parts = (
            self.rollouts,
            self.queue,
            self.finished,
            self.held,
            self.workers,
            self.resources,
            self.spans,
        )
        self._moment = -math.inf

    # Counters

    @property
    def counters(self) -> dict[str, int]:
        """The counters, as they are in the database."""
        if self._counters is None:
            self._counters = dict.fromkeys(schema.COUNTED, 0)
            self._counters.update((str(name), int(value)) for name, value in self._rows_of_counters())
        return self._counters

    def _rows_of_counters(self) -> Sequence[Row]:
        return self.database.rows("SELECT name, value FROM counters")

    def counted(self) -> Totals:
        counters = self.counters
        return Totals(counters["attempts"], counters["fenced"], counters["pruned"])

    def count(self, name: str, more: int) -> None:
        """Add to a counter when the rest is written."""
        self._counted[name] = self._counted.get(name, 0) + more

    def latest_moment(self) -> float:
        return self.counters["moment"] / 1e6

    # A transaction

    def foresee(self, calls: Iterable[tuple[str, tuple[Any, ...], Mapping[str, Any]]], waiting: int) -> None:
        """Fetch together what calls will look at, as far as their arguments tell; `waiting`: who waits for work."""
        seen = foresight.of(calls)
        self.rollouts.numbers.wanted = self.queue.positions.wanted = max(1, seen.enqueued)
        self.queue.wanted = seen.claimed + min(waiting, seen.enqueued)
        self.rollouts.prefetch(seen.rollout_ids)
        self.held.prefetch(seen.holders)
        self.workers.prefetch([*seen.worker_ids, *self.rollouts.workers()])

    def write(self) -> None:
        """Write what has changed so that queries see it, but for what is counted."""
        if self._is_reader:
            return
        self.rollouts.flush()
        self.spans.flush()
        self.workers.flush()

    def flush(self, moment: float | None = None) -> None:
        """Write what has changed, to be committed; `moment` is the latest in records."""
        if self._is_reader:
            return
        self.count("attempts", self.totals.attempts)
        self.count("fenced", self.totals.fenced)
        self.totals.attempts = self.totals.fenced = 0
        self.count("finished", self.finished.fresh)
        changes = {name: more for name, more in self._counted.items() if more}
        if moment is not None and moment > self._moment:
            self._moment = moment
            changes["moment"] = math.ceil(moment * 1e6)
        self._counted.clear()
        self.spans.flush()
        self.workers.flush()
        if changes:
            # Late: other nodes wait from here on, until this transaction ends.
            counted = self.database.count(changes)
            self.finished.number(counted.get("finished", 0))
        self.rollouts.flush()

    def committed(self) -> None:
        """Go on with what was committed."""
        self.rollouts.committed()
        if not self.database.keeps:
            self.forget()

    def forget(self) -> None:
        """Know nothing any more that others may have changed, or that was rolled back."""
        self._counters = None
        self._counted.clear()
        self.totals.attempts = self.totals.fenced = 0
        for part in self._parts:
            part.forget()
