"""APSW behind the few calls that the engine makes of Python's own driver, for the sake of its virtual file systems."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from lightactors.training.stores.opening import open_store
from lightactors.training.stores.sql.sqlite import SqliteDatabase

_BUSY_MS = 250

_CODES: dict[type[Exception], int] = {type(apsw.exception_for(code)): code for code in range(1, 27)}
"""For errors that a virtual file system of ours has raised; SQLite's own know theirs."""


class Connection:
    """One connection, which raises what `sqlite3` would; `settings` take the place of the engine's own."""

    def __init__(self, path: str, vfs: str, *, is_reader: bool, **settings: object) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if is_reader else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        self._settings = settings
        with _translated():
            self._connection = apsw.Connection(path, flags=flags, vfs=vfs)
        self._connection.set_busy_timeout(_BUSY_MS)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        with _translated():
            return Cursor(self._connection.execute(self._changed(sql), tuple(parameters)))

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        with _translated():
            self._connection.executemany(sql, rows)

    def _changed(self, sql: str) -> str:
        setting = re.fullmatch(r"PRAGMA (\w+) = .*", sql)
        name = setting[1] if setting else ""
        return f"PRAGMA {name} = {self._settings[name]}" if name in self._settings else sql

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def close(self) -> None:
        with _translated():
            self._connection.close()


class Cursor:
    def __init__(self, cursor: apsw.Cursor) -> None:
        self._cursor = cursor

    def fetchone(self) -> Any:
        with _translated():
            return self._cursor.fetchone()

    def fetchall(self) -> Any:
        with _translated():
            return self._cursor.fetchall()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        kind = sqlite3.DatabaseError if isinstance(error, apsw.NotADBError) else sqlite3.OperationalError
        raised = kind(str(error))
        raised.sqlite_errorcode = getattr(error, "extendedresult", 0) or _CODES[type(error)]
        raise raised from error


def store_over(vfs: str, path: str, durability: Any = "full", **options: Any) -> Any:
    """Return a store whose every connection goes through the virtual file system of that name."""
    settings = {name: options.pop(name) for name in list(options) if name.startswith(("wal_", "cache_"))}

    def connect(path: str, *, is_reader: bool) -> Connection:
        return Connection(path, vfs, is_reader=is_reader, **settings)

    def make(is_reader: bool) -> SqliteDatabase:
        return SqliteDatabase(path, durability=durability, is_reader=is_reader, connect=connect)

    return store_of(make, path, **options)


def store_of(make: Callable[[bool], SqliteDatabase], path: str, **options: Any) -> Any:
    """Return a store over connections of our own making."""
    store: Any = open_store(path, **options)
    store._connect = make  # noqa: SLF001 (there is no other way)
    return store
