"""The drive itself: a database that syncs outlives it, and one that doesn't is lost or damaged by it."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.real_time.durability.drive import Drive, connect_to, images, restore

ROWS = 120
CUTS = 150


def survivors(folder: Path) -> list[int] | None:
    """Return the rows that are left; None of a database that is damaged."""
    try:
        with closing(sqlite3.connect(folder / "plain.db")) as connection:
            if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                return None
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchall():
                return []
            return [number for (number,) in connection.execute("SELECT number FROM rows ORDER BY number")]
    except sqlite3.DatabaseError:
        return None


def outcomes(tmp_path: Path, journal: str, synchronous: str) -> tuple[int, int, int]:
    """Return how many losses of power damaged the database, lost a row that was committed, or one amidst others."""
    drive = Drive(f"drive-{journal}-{synchronous}")
    path = tmp_path / "plain.db"
    connection = connect_to(
        drive, str(path), journal_mode=journal, synchronous=synchronous, wal_autocheckpoint=20, cache_size=4
    )
    connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, body BLOB)")
    committed = [(drive.now, -1)]
    for number in range(ROWS):
        connection.execute("INSERT INTO rows VALUES (?, ?)", (number, random.Random(number).randbytes(1500)))
        committed.append((drive.now, number))
    connection.close()
    chance = random.Random(1)
    cuts = sorted(chance.randrange(committed[0][0], committed[-1][0]) for _ in range(CUTS))
    damaged = lost = amidst = 0
    for moment, _, image in images(drive.record, cuts, chance):
        rows = survivors(restore(image, tmp_path / "after"))
        due = [number for at, number in committed if at <= moment and number >= 0]
        if rows is None:
            damaged += 1
        else:
            lost += not set(due) <= set(rows)
            amidst += rows != list(range(len(rows)))
    return damaged, lost, amidst


def test_what_is_synced_outlives_it(tmp_path: Path) -> None:
    assert outcomes(tmp_path, "wal", "full") == (0, 0, 0)


def test_rollback_journal_that_is_synced_outlives_it(tmp_path: Path) -> None:
    assert outcomes(tmp_path, "delete", "extra") == (0, 0, 0)


def test_last_commits_that_are_not_synced_are_lost_but_no_other(tmp_path: Path) -> None:
    damaged, lost, amidst = outcomes(tmp_path, "wal", "normal")
    assert (damaged, amidst) == (0, 0)
    assert lost > 20


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_database_that_never_syncs_is_damaged(tmp_path: Path, journal: str) -> None:
    damaged, lost, _ = outcomes(tmp_path, journal, "off")
    assert damaged > 10
    assert lost > 10
