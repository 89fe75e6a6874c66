"""How a store that an older version wrote becomes one of this version: step by step, in one transaction."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightactors.errors import StoreDamaged, StoreUnavailable
from lightactors.training.stores.sql import schema
from lightactors.training.stores.sql.archive import Archive, check_file
from lightactors.training.stores.sql.locations import location_of
from lightactors.training.stores.sql.sqlite import APPLICATION_ID, connect

STEPS: Mapping[int, Sequence[str]] = {}
"""The statements that lead from a version of the schema to the next one."""

_FORBIDDEN = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


@dataclass(frozen=True)
class Migration:
    """What was done: nothing, if `before` is `after`."""

    before: int
    after: int
    backup: Path | None


def migrate(url: str) -> Migration:
    """Bring a store to this version's schema, after a copy of it was made beside it.

    Raises `StoreUnavailable` where it is in use, and `StoreDamaged` where it is no store that can be migrated.
    """
    location = location_of(url)
    if location.path is None:
        with Archive(url):  # there has been no other version yet
            pass
        return Migration(schema.VERSION, schema.VERSION, None)
    path = location.shown
    check_file(path)
    try:
        with contextlib.closing(connect(path, is_reader=False)) as connection:
            return _migrate(path, connection)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in _FORBIDDEN:
            raise StoreUnavailable(f"{path} can't be written; check its permissions and those of its folder") from error
        raise StoreUnavailable(f"{path} can't be migrated now: {error}; stop the programs that use it") from error
    except sqlite3.DatabaseError as error:
        raise StoreDamaged(f"{path} is damaged or no SQLite database ({error}); restore a copy") from error


def _migrate(path: str, connection: sqlite3.Connection) -> Migration:
    before = _version(path, connection)
    if before == schema.VERSION:
        return Migration(before, before, None)
    # Exclusive: nobody else may write between the copy and the change.
    connection.execute("BEGIN EXCLUSIVE")
    backup = _copied(path, before)
    for version in range(before, schema.VERSION):
        for statement in STEPS[version]:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    connection.execute("COMMIT")
    return Migration(before, schema.VERSION, backup)


def _version(path: str, connection: sqlite3.Connection) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise StoreDamaged(f"{path} is no store of lightactors; name the file that a program keeps its store in")
    if version > schema.VERSION:
        raise StoreDamaged(
            f"{path} was written by a newer lightactors (schema {version}, this one knows {schema.VERSION}); "
            "install that version"
        )
    return int(version)


def _copied(path: str, version: int) -> Path:
    """Copy the store as it is, with what its log has; return where to."""
    backup = _free(Path(f"{path}.schema{version}"))
    part = backup.with_name(f"{backup.name}.part")
    try:
        with contextlib.closing(connect(path, is_reader=True)) as source, contextlib.closing(_new(part)) as target:
            source.backup(target)
        part.rename(backup)
    finally:
        part.unlink(missing_ok=True)
    return backup


def _new(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path)


def _free(path: Path) -> Path:
    number = 1
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}.{number}")
    return found
