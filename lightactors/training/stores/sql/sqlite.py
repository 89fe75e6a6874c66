"""SQLite: one file, and beside it the log that makes it durable while it is in use."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from lightactors.errors import InvalidArgument, StoreDamaged, StoreUnavailable
from lightactors.training.stores.sql import schema
from lightactors.training.stores.sql.database import Interrupted, Row
from lightactors.training.stores.sql.schema import Kind, Table

logger = logging.getLogger("lightactors.store")

Durability = Literal["full", "normal"]

APPLICATION_ID = 0x4C414354
"""What marks a file as ours ("LACT"), so that nobody's other database is taken for a store."""

_TYPES: dict[Kind, str] = {"integer": "INTEGER", "real": "REAL", "text": "TEXT", "bytes": "BLOB"}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_LOG_BYTES = 64 * 2**20
"""What is left of the log after it has grown for something large."""

_BUSY_SECONDS = 0.25
"""How long SQLite itself waits for a lock; the writer tries again."""


def connect(path: str, *, is_reader: bool) -> sqlite3.Connection:
    """Open a file with the driver of Python's library."""
    mode = "ro" if is_reader else "rwc"
    uri = f"{Path(path).absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False, cached_statements=256
    )


class SqliteDatabase:
    """A connection to a file (see `Database`); `name`: what errors call it.

    `durability`: `"full"`: what is acknowledged outlives a loss of power; `"normal"`: it outlives the process, and a
    loss of power costs the last moments.
    """

    keeps = True
    holding = holding_free = ""

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        durability: Durability = "full",
        is_reader: bool = False,
        connect: Callable[..., Any] = connect,
    ) -> None:
        self.path = path
        self._name = name or path
        self._durability = durability
        self._is_reader = is_reader
        self._connect = connect
        self._connection: Any = None
        self._data_version = 0

    def __repr__(self) -> str:
        return f"SqliteDatabase({self.path!r})"

    # The connection

    def open(self) -> None:
        if os.path.isdir(self.path):
            raise StoreUnavailable(f"{self._name} is a folder; name a file in it, such as {self._name}/run.db")
        folder = Path(self.path).absolute().parent
        if not folder.is_dir():
            raise StoreUnavailable(f"{self._name}: there is no folder {folder}; make it, or choose another")
        try:
            with self._explained():
                self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self._connection = self._connect(self.path, is_reader=self._is_reader)
        self._connection.execute(f"PRAGMA synchronous = {self._durability}")
        self._connection.execute("PRAGMA cache_size = -65536")
        self._connection.execute("PRAGMA temp_store = memory")
        version = self._version()
        if self._is_reader and version == 0:
            raise StoreUnavailable(
                f"{self._name} holds no store yet; it is made by the first program that writes to it"
            )
        if self._is_reader:
            return
        if version == 0:
            # Before the first table: space that is given up can be handed back later.
            self._connection.execute("PRAGMA auto_vacuum = incremental")
        self._connection.execute("PRAGMA journal_mode = wal")
        self._connection.execute("PRAGMA wal_autocheckpoint = 4000")
        if version == 0:
            self._create()

    def _version(self) -> int:
        """Return the schema's version, 0 of a new file; refuse what is something else, before anything is written."""
        (found,) = self._connection.execute("PRAGMA application_id").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and found != APPLICATION_ID:
            # Who only looks wants to find something, and who writes a place of its own.
            cures = ("choose a file that does not exist yet", "name the file that a program keeps its store in")
            cure = cures[self._is_reader]
            raise StoreDamaged(f"{self._name} is a database of another program; {cure}")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION:
            raise StoreDamaged(
                f"{self._name} was written by a newer lightactors (schema {version}, this one knows {schema.VERSION}); "
                "install that version, or choose another file"
            )
        if 0 < version < schema.VERSION:
            raise StoreDamaged(
                f"{self._name} was written by an older lightactors (schema {version}, this one has {schema.VERSION}); "
                f"run: lightactors store migrate {self._name}"
            )
        return int(version)

    def _create(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        if self._version() == 0:  # nobody was quicker
            for table in schema.TABLES:
                self._connection.execute(schema.creation(table, _TYPES, _ending(table)))
                for statement in schema.indexes(table):
                    self._connection.execute(statement)
            names = [*schema.COUNTED, *(f"next_{name}" for name in schema.SERIES)]
            self._connection.executemany("INSERT INTO counters VALUES (?, 0)", [(name,) for name in names])
            self._connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        self._connection.execute("COMMIT")

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def recover(self) -> None:
        if self._connection is None:
            self.open()

    # A transaction

    def begin(self) -> bool:
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            return self._has_changed()

    def begin_to_read(self) -> None:
        with self._explained():
            self._connection.execute("BEGIN")

    def _has_changed(self) -> bool:
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        has_changed = version != self._data_version
        self._data_version = version
        return bool(has_changed)

    def has_news(self) -> bool:
        with self._explained():
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return bool(version != self._data_version)

    def commit(self) -> None:
        with self._explained():
            self._connection.execute("COMMIT")

    def was_committed(self) -> bool:
        return False  # it never is in doubt

    def rollback(self) -> None:
        # A failed commit may have rolled back already, or not.
        if self._connection is not None and self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def rows(self, sql: str, *parameters: Any) -> Sequence[Row]:
        with self._explained():
            rows: list[Row] = self._connection.execute(sql, parameters).fetchall()
        return rows

    def run(self, sql: str, *parameters: Any) -> None:
        with self._explained():
            self._connection.execute(sql, parameters)

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        if rows:
            with self._explained():
                self._connection.executemany(_insertion(table), rows)

    def write(self, table: Table, rows: Sequence[Row]) -> None:
        if rows:
            with self._explained():
                self._connection.executemany(_upsert(table), rows)

    # What differs between databases

    def among(self, column: str) -> str:
        return f"{column} IN (SELECT value FROM json_each(?))"

    def listed(self, values: Sequence[Any]) -> str:
        return msgspec.json.encode(values, enc_hook=str).decode()

    def contains(self, column: str) -> str:
        return f"instr({column}, ?) > 0"

    def count(self, changes: Mapping[str, int]) -> dict[str, int]:
        counted: dict[str, int] = {}
        for name, more in changes.items():
            value = "max(value, ?)" if name == "moment" else "value + ?"
            rows = self.rows(f"UPDATE counters SET value = {value} WHERE name = ? RETURNING value", more, name)
            counted[name] = int(rows[0][0])
        return counted

    def numbers(self, name: str, count: int) -> range:
        # A big step: what is left of it when the process dies is a gap, and does no harm.
        step = max(count, 64)
        rows = self.rows("UPDATE counters SET value = value + ? WHERE name = ? RETURNING value", step, f"next_{name}")
        last = int(rows[0][0])
        return range(last - step + 1, last + 1)

    def size_bytes(self) -> int:
        files = [Path(self.path + ending) for ending in ("", "-wal", "-shm")]
        return sum(file.stat().st_size for file in files if file.exists())

    def used_bytes(self) -> int:
        return self._pragma("page_size") * (self._pragma("page_count") - self._pragma("freelist_count"))

    def give_back_space(self, most_bytes: int) -> bool:
        pages = min(most_bytes // self._pragma("page_size"), self._pragma("freelist_count"))
        for _ in range(pages):
            self.run("PRAGMA incremental_vacuum(1)")  # of more pages Python's driver would see to the first one only
        return self._pragma("freelist_count") > 0

    def _pragma(self, name: str) -> int:
        return int(self.rows(f"PRAGMA {name}")[0][0])

    def tell_others(self) -> None:
        """Do nothing: who uses the same file looks for news by itself."""

    def watch(self, tell: Callable[[], None]) -> None:
        """Do nothing: nobody tells."""

    # Errors

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self._explanation(error) from error

    def _explanation(self, error: sqlite3.Error | UnicodeDecodeError) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_CONSTRAINT:
            return Interrupted(f"{self.path}: {error}")  # an id that was taken: the next one will not be
        if code in _BUSY:
            return Interrupted(f"{self._name} is locked by another program")
        # Text that is none is the driver's to find: in a column, or in what SQLite says of a damaged schema.
        if code in _DAMAGED or "decode" in str(error):
            return StoreDamaged(
                f"{self._name} is damaged or no SQLite database ({error}); restore a copy, or save what can be read "
                f"with: sqlite3 {self._name} .recover"
            )
        if code == sqlite3.SQLITE_TOOBIG:
            return InvalidArgument(
                "a value has more than 1 GB, which SQLite can't keep; put it in a file, and its name here"
            )
        if code == sqlite3.SQLITE_FULL:
            return StoreUnavailable(f"{self._name}: the disk is full; make room: nothing of this call was kept")
        if code == sqlite3.SQLITE_READONLY:
            return StoreUnavailable(f"{self._name} can't be written; check its permissions and those of its folder")
        if code == sqlite3.SQLITE_CANTOPEN:
            return StoreUnavailable(f"{self._name} can't be opened; check that it exists, and its permissions")
        if code == sqlite3.SQLITE_IOERR:
            return StoreUnavailable(f"{self._name}: the disk failed ({error}); nothing of this call was kept")
        return error


def _ending(table: Table) -> str:
    # A table with a key of several columns is that key's tree; the others go by their number.
    return " WITHOUT ROWID" if len(table.key) > 1 or table.columns[0].kind == "text" else ""


@lru_cache
def _insertion(table: Table) -> str:
    names = table.names
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


@lru_cache
def _upsert(table: Table) -> str:
    changes = ", ".join(f"{name} = excluded.{name}" for name in table.names if name not in table.key)
    return f"{_insertion(table)} ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changes}"
