"""A durable store as something to look into: it may be in use, or on a disk that can't be written.

Each look is a short transaction of its own: none of them holds up who writes, or lets the log of a file grow.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightactors.errors import ConfigurationError, StoreUnavailable
from lightactors.training.records import ROLLOUT_STATUSES, Attempt, AttemptedRollout, Rollout, Span, Worker
from lightactors.training.stores.queries import page_of
from lightactors.training.stores.retention import Retention, retention_of
from lightactors.training.stores.sql import bodies, pruning
from lightactors.training.stores.sql.database import Database, Interrupted
from lightactors.training.stores.sql.locations import database_of, shown
from lightactors.training.stores.sql.sqlite import SqliteDatabase
from lightactors.training.stores.sql.tables import SqlTables

_PAGE = 200
"""Rollouts that are read at a time."""

_RECENT = 1000
"""Of how many ends the throughput is taken."""


@dataclass(frozen=True)
class Pace:
    """How quickly rollouts have ended of late: `count` of them in the `seconds` before `until`."""

    count: int
    seconds: float
    until: float


@dataclass(frozen=True)
class Content:
    """What a rollout has: its attempts, the first one first, and its spans."""

    rollout: Rollout
    attempts: Sequence[Attempt]
    spans: Sequence[Span]


class Archive:
    """What is in a database. Open it with `with`; raises `StoreUnavailable` and `StoreDamaged`."""

    def __init__(self, url: str) -> None:
        self._address, _ = retention_of(url)
        self._database = database_of(self._address)(True)
        path = path_of(self._database)
        if path is not None:
            self._database = SqliteDatabase(path, is_reader=True, connect=_connect_to_look)
        self._tables = SqlTables(self._database, is_reader=True)

    @property
    def name(self) -> str:
        """What the store may be called before everybody: no password is in it."""
        return path_of(self._database) or shown(self._address)

    def __enter__(self) -> Archive:
        try:
            with _patient():
                self._open()
        except BaseException:
            self._database.close()
            raise
        return self

    def __exit__(self, *reason: object) -> None:
        self._database.close()

    def _open(self) -> None:
        path = path_of(self._database)
        if path is not None:
            check_file(path)
        try:
            self._database.open()
            self._check()
        except Interrupted as error:
            raise StoreUnavailable(str(error)) from error
        except StoreUnavailable:
            if path is None or _is_in_use(path):
                raise
            # A file on a disk that can't be written, where SQLite finds no room for what a reader needs beside it.
            self._database.close()
            self._database = SqliteDatabase(path, is_reader=True, connect=_connect_to_what_is_not_in_use)
            self._tables = SqlTables(self._database, is_reader=True)
            self._database.open()
            self._check()

    def _check(self) -> None:
        with self._look() as database:
            database.rows("SELECT value FROM counters LIMIT 1")

    @contextlib.contextmanager
    def _look(self) -> Generator[Database]:
        with _patient():
            self._database.begin_to_read()
            self._tables.forget()
            try:
                yield self._database
            finally:
                self._database.rollback()

    # Figures

    def counters(self) -> dict[str, int]:
        with self._look():
            return dict(self._tables.counters)

    def counts(self) -> dict[str, int]:
        """Return how many rollouts there are of each status."""
        with self._look() as database:
            rows = database.rows("SELECT status, count(*) FROM rollouts GROUP BY status")
        return {**dict.fromkeys(ROLLOUT_STATUSES, 0), **{status: int(count) for status, count in rows}}

    def size_bytes(self) -> tuple[int, int]:
        """Return the bytes that the store takes where it is kept, and those of them that are in use."""
        with self._look() as database:
            return database.size_bytes(), database.used_bytes()

    def pace(self) -> Pace | None:
        """Return how quickly the last rollouts have ended; None if that can't be said yet."""
        with self._look() as database:
            rows = database.rows("SELECT end_time FROM rollouts WHERE finish > 0 ORDER BY finish DESC LIMIT ?", _RECENT)
        if len(rows) < 2:
            return None
        return Pace(len(rows) - 1, rows[0][0] - rows[-1][0], rows[0][0])

    def workers(self) -> list[Worker]:
        with self._look():
            return list(self._tables.workers.select(None, None, "and", page_of(Worker, None, "asc", -1, 0)))

    def resources(self) -> int:
        with self._look():
            return len(self._tables.resources)

    def due(self, retention: Retention, now: float) -> int:
        """Return how many rollouts a retention would remove by age and count."""
        with self._look() as database:
            return pruning.count_old(database, retention, now)

    # Rollouts

    def rollouts(self, statuses: Sequence[str] | None = None, limit: int = -1) -> list[Rollout]:
        """Return rollouts, with their latest attempts, the newest first."""
        page = page_of(Rollout, None, "desc", limit, 0)
        with self._look():
            entries = self._tables.rollouts.select(statuses, None, None, "and", page)
            latest = [None if entry.latest is None else entry.latest.record for entry in entries]
        return [_handed_out(entry.record, attempt) for entry, attempt in zip(entries, latest, strict=True)]

    def content(self, rollout_id: str) -> Content | None:
        """Return a rollout with all that it has; None if there is none."""
        with self._look():
            entry = self._tables.rollouts.find(rollout_id)
            return None if entry is None else self._content(entry)

    def contents(self, after: int = 0) -> Iterator[Content]:
        """Yield every rollout with its attempts, in the order of creation, and without its spans."""
        while True:
            with self._look():
                entries = self._tables.rollouts.fetch("r.number > ? ORDER BY r.number LIMIT ?", after, _PAGE)
                page = [self._content(entry, with_spans=False) for entry in entries]
            yield from page
            if not entries:
                return
            after = entries[-1].number

    def _content(self, entry: Any, *, with_spans: bool = True) -> Content:
        attempts = [attempt.record for attempt in self._tables.rollouts.tries(entry)][::-1]
        spans = self._tables.spans.of(entry, None) if with_spans else []
        return Content(_handed_out(entry.record, attempts[-1] if attempts else None), attempts, spans)

    def spans(self, rollout_id: str) -> list[Span]:
        """Return the spans of a rollout, none if it has gone meanwhile."""
        with self._look():
            entry = self._tables.rollouts.find(rollout_id)
            return [] if entry is None else self._tables.spans.of(entry, None)

    def all_spans(self) -> Iterator[Span]:
        """Yield every span, in the order of their rollouts' creation."""
        number, ordinal = 0, -1
        while True:
            with self._look() as database:
                rows = database.rows(
                    "SELECT number, ordinal, body FROM spans WHERE (number, ordinal) > (?, ?)"
                    " ORDER BY number, ordinal LIMIT ?",
                    number,
                    ordinal,
                    5 * _PAGE,
                )
            yield from (bodies.span(bytes(body)) for _, _, body in rows)
            if not rows:
                return
            number, ordinal, _ = rows[-1]


@contextlib.contextmanager
def _patient() -> Generator[None]:
    """Say of what may pass by itself that it is so: who looks may look again."""
    try:
        yield
    except Interrupted as error:
        raise StoreUnavailable(f"{error}; check the address and that it can be reached, or try again later") from error


def path_of(database: Database) -> str | None:
    """Return the path of the file that a database is; None if it is none."""
    return database.path if isinstance(database, SqliteDatabase) else None


def check_file(path: str) -> None:
    """Raise `ConfigurationError` where there is no file to look into."""
    cure = "name the file that a program keeps its store in"
    if Path(path).is_dir():
        raise ConfigurationError(f"{path} is a folder; {cure}, such as {Path(path) / 'run.db'}")
    if not Path(path).exists():
        raise ConfigurationError(f"there is no file {path}; {cure}")


def _is_in_use(path: str) -> bool:
    return Path(f"{path}-wal").exists()


def _connect_to_look(path: str, *, is_reader: bool) -> sqlite3.Connection:
    # One that might write, where it can: only such a one takes away in the end what SQLite puts beside the file.
    uri = f"{Path(path).absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = 1")
    return connection


def _connect_to_what_is_not_in_use(path: str, *, is_reader: bool) -> sqlite3.Connection:
    uri = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)


def _handed_out(rollout: Rollout, latest: Attempt | None) -> Rollout:
    return rollout if latest is None else AttemptedRollout.of(rollout, latest)
