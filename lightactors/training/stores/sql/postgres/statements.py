"""The statements of a store as PostgreSQL wants them."""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from typing import Any

from lightactors.training.stores.sql import schema
from lightactors.training.stores.sql.schema import Kind, Table

_TYPES: dict[Kind, str] = {"integer": "bigint", "real": "float8", "text": 'text COLLATE "C"', "bytes": "bytea"}
_ARRAYS: dict[Kind, str] = {"integer": "bigint[]", "real": "float8[]", "text": "text[]", "bytes": "bytea[]"}
COPIED: dict[Kind, str] = {"integer": "int8", "real": "float8", "text": "text", "bytes": "bytea"}

# Rows that are written again and again: room on their pages keeps the indexes out of it, and they are swept often.
_STORAGE = " WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000)"
_ENDINGS = {
    "spans": " PARTITION BY RANGE (number)",
    "inputs": "",
    "attempts": "",
    "resources": "",
}

COUNT = """
WITH first AS MATERIALIZED (SELECT FROM counters WHERE name = 'finished' FOR NO KEY UPDATE)
UPDATE counters SET value = CASE counters.name WHEN 'moment' THEN greatest(value, more) ELSE value + more END
FROM unnest(?::text[], ?::bigint[]) AS changes (name, more), first
WHERE counters.name = changes.name
RETURNING counters.name, value
"""
# One counter is everybody's first: nodes wait for each other at it, and never crosswise.


def dumpers(driver: Any) -> list[tuple[Any, Any]]:
    """Return in which form values go: one for each type, so that a statement is prepared once."""
    types = driver.types
    return [
        (int, types.numeric.Int8BinaryDumper),
        (float, types.numeric.FloatBinaryDumper),
        (str, types.string.StrBinaryDumper),
        (bytes, types.string.BytesBinaryDumper),
        (list, types.array.ListBinaryDumper),
    ]


@lru_cache(1000)
def numbered(sql: str) -> bytes:
    """Return a statement with `$1`, `$2`, … for its question marks."""
    number = itertools.count(1)
    return re.sub(r"\?", lambda _: f"${next(number)}", sql).encode()


def creation(table: Table) -> str:
    """Return the statement that makes a table."""
    return schema.creation(table, _TYPES, _ENDINGS.get(table.name, _STORAGE))


@lru_cache
def upsert(table: Table) -> str:
    """Return the statement that inserts rows, or replaces those of the same key; each column comes as one array."""
    names = ", ".join(table.names)
    arrays = ", ".join(f"?::{_ARRAYS[column.kind]}" for column in table.columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in table.names if name not in table.key)
    key = ", ".join(table.key)
    return (
        f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT ({key}) DO UPDATE SET {changes}"
    )


@lru_cache
def copying(table: Table) -> bytes:
    """Return the statement that takes in rows whose keys are new."""
    return f"COPY {table.name} ({', '.join(table.names)}) FROM STDIN (FORMAT BINARY)".encode()
