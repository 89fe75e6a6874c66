"""How the oldest finished rollouts go from a database: in steps so small that they hold nobody up.

Cursors of `query_completions` count ends and not rows, so they stay good: what has gone does not come any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lightactors.training.stores.retention import Retention
from lightactors.training.stores.sql import bodies
from lightactors.training.stores.sql.database import Database
from lightactors.training.stores.sql.tables import SqlTables

_ROLLOUTS, _SPANS = 100, 2000
"""What one step removes at most, but for a single rollout that has more spans."""

_ROLLOUT_BYTES = 1024
"""What a rollout takes beside its spans, roughly."""


class _Old(NamedTuple):
    number: int
    finish: int
    end_time: float
    attempts: int
    spans: int
    span_bytes: int


def prune(tables: SqlTables, retention: Retention, now: float) -> int:
    """Remove some of what is not to be kept, in this transaction; return how many rollouts, 0 if it was all."""
    tables.flush()
    oldest = _oldest(tables)
    old = _few(oldest[: _not_kept(tables.database, retention, now, oldest)])
    if old:
        _remove(tables, old)
    return len(old)


def count_old(database: Database, retention: Retention, now: float) -> int:
    """Return how many rollouts `prune` would remove in all, by age and count; by size that shows only by and by."""
    limits = [0]
    if retention.count is not None:
        last = database.rows("SELECT value FROM counters WHERE name = 'finished'")[0][0] - retention.count
        limits.append(database.rows("SELECT count(*) FROM rollouts WHERE finish <= ?", last)[0][0])
    if retention.age is not None:
        sql = "SELECT count(*) FROM rollouts WHERE finish > 0 AND end_time <= ?"
        limits.append(database.rows(sql, now - retention.age)[0][0])
    old_enough = database.rows(
        "SELECT count(*) FROM rollouts WHERE finish > 0 AND end_time <= ?", now - retention.least_age
    )
    return int(min(max(limits), old_enough[0][0]))


def _oldest(tables: SqlTables) -> list[_Old]:
    """Return the first to go."""
    database = tables.database
    rows = database.rows(
        f"SELECT number, finish, end_time, body FROM rollouts WHERE finish > 0 ORDER BY finish LIMIT ?"
        f"{tables.holding_free.format('rollouts')}",
        _ROLLOUTS,
    )
    sizes = {
        number: (count, size)
        for number, count, size in database.rows(
            f"SELECT number, count(*), sum(size) FROM spans WHERE {database.among('number')} GROUP BY number",
            database.listed([row[0] for row in rows]),
        )
    }
    old: list[_Old] = []
    for number, finish, end_time, body in rows:
        attempt = bodies.rollout_body(bytes(body)).attempt
        count, size = sizes.get(number, (0, 0))
        old.append(_Old(number, finish, end_time, attempt.sequence_id if attempt else 0, int(count), int(size)))
    return old


def _not_kept(database: Database, retention: Retention, now: float, oldest: Sequence[_Old]) -> int:
    """Return how many of the oldest are not to be kept; where one goes, so do those that ended before it."""
    most = 0
    if retention.count is not None:
        last = database.rows("SELECT value FROM counters WHERE name = 'finished'")[0][0] - retention.count
        most = sum(one.finish <= last for one in oldest)
    if retention.age is not None:
        most = max(most, sum(one.end_time <= now - retention.age for one in oldest))
    if retention.size is not None:
        most = max(most, _in_excess(database.used_bytes() - retention.size, oldest))
    return min(most, sum(one.end_time <= now - retention.least_age for one in oldest))


def _in_excess(excess: int, oldest: Sequence[_Old]) -> int:
    """Return how many of the oldest take as much as there is too much."""
    for number, one in enumerate(oldest):
        if excess <= 0:
            return number
        excess -= one.span_bytes + _ROLLOUT_BYTES
    return len(oldest)


def _few(old: Sequence[_Old]) -> list[_Old]:
    """Return as many as one step may remove."""
    few: list[_Old] = []
    spans = 0
    for one in old:
        spans += one.spans
        if few and spans > _SPANS:
            break
        few.append(one)
    return few


def _remove(tables: SqlTables, old: Sequence[_Old]) -> None:
    database = tables.database
    numbers = [one.number for one in old]
    for table in ("spans", "attempts", "inputs", "rollouts"):
        database.run(f"DELETE FROM {table} WHERE {database.among('number')}", database.listed(numbers))
    tables.rollouts.discard(numbers)
    tables.count("rollouts", -len(old))
    tables.count("pruned", len(old))
    tables.count("attempts", -sum(one.attempts for one in old))
    tables.count("spans", -sum(one.spans for one in old))
    tables.count("span_bytes", -sum(one.span_bytes for one in old))
