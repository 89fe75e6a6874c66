"""A store's file with very much in it, made fast: a few rollouts are run, and their rows multiplied."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from lightactors.training.records import Span
from lightactors.training.stores.opening import open_store

_ID = "ro-template"


def _names(number: int) -> tuple[bytes, bytes]:
    """Return the template's id and one of the same length, so that bodies stay sound."""
    return _ID.encode(), f"ro-{number:08d}".encode()


async def make_file(path: Path, rollouts: int, spans: int) -> None:
    """Make a file with so many finished rollouts, each with so many spans."""
    store: Any = open_store(str(path))
    try:
        await store.enqueue_rollout({"question": "How much is there?"}, rollout_id=_ID)
        claimed = await store.dequeue_rollout("somebody")
        ids = {"rollout_id": _ID, "attempt_id": claimed.attempt.attempt_id}
        await store.add_many_spans(
            [Span(**ids, sequence_id=n, trace_id="0" * 32, span_id=f"{n:016x}", name="work") for n in range(spans)]
        )
        await store.update_attempt(*ids.values(), "succeeded")
    finally:
        store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = off")
        connection.execute("BEGIN")
        for table in ("rollouts", "inputs", "spans"):
            _multiply(connection, table, rollouts)
        for counter, count in _counters(rollouts, spans).items():
            connection.execute("UPDATE counters SET value = ? WHERE name = ?", (count, counter))
        connection.execute("COMMIT")


def _multiply(connection: sqlite3.Connection, table: str, rollouts: int) -> None:
    cursor = connection.execute(f"SELECT * FROM {table} WHERE number = 1")
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    places = ", ".join(f":{name}" for name in names)
    connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", _copies(rows, rollouts))


def _copies(rows: list[dict[str, Any]], rollouts: int) -> Iterator[dict[str, Any]]:
    for number in range(2, rollouts + 1):
        old, new = _names(number)
        for row in rows:
            copy = {**row, "number": number, "body": row["body"].replace(old, new)}
            if "rollout_id" in row:
                copy |= {"rollout_id": new.decode(), "finish": number}
            yield copy


def _counters(rollouts: int, spans: int) -> dict[str, int]:
    return {
        "rollouts": rollouts,
        "attempts": rollouts,
        "finished": rollouts,
        "spans": rollouts * spans,
        "next_rollout": rollouts + 1000,
    }
