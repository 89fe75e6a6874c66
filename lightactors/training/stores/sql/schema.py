"""The tables on disk, said once: each database makes its own statements of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VERSION = 1
"""Of the schema; the number of migrations that lead to it."""

Kind = Literal["integer", "real", "text", "bytes"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `is_optional`: it may be NULL."""

    name: str
    kind: Kind
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns, its key, what else is unique, and what it is looked up by."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    unique: tuple[tuple[str, ...], ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def is_optional(self, name: str) -> bool:
        return next(column.is_optional for column in self.columns if column.name == name)


def _columns(text: str) -> tuple[Column, ...]:
    """Read columns as `name kind`, with a question mark behind the kind of one that may be NULL."""
    words = [line.split() for line in text.split(",")]
    return tuple(Column(name, kind.rstrip("?"), kind.endswith("?")) for name, kind in words)  # type: ignore[arg-type]


META = Table("meta", _columns("name text, value text"), ("name",))
COUNTERS = Table("counters", _columns("name text, value integer"), ("name",))
ROLLOUTS = Table(
    "rollouts",
    _columns(
        "number integer, rollout_id text, status text, mode text?, resources_id text?, start_time real, end_time real?,"
        "position integer?, finish integer?, holder text?, leased integer?, version integer, body bytes"
    ),
    ("number",),
    unique=(("rollout_id",),),
    indexes=(("status", "number"), ("position",), ("finish",), ("holder",), ("leased",)),
)
INPUTS = Table("inputs", _columns("number integer, body bytes"), ("number",))
ATTEMPTS = Table("attempts", _columns("number integer, sequence_id integer, body bytes"), ("number", "sequence_id"))
SPANS = Table(
    "spans",
    _columns(
        "number integer, ordinal integer, attempt integer, sequence_id integer, span_id text, size integer, body bytes"
    ),
    ("number", "ordinal"),
    unique=(("number", "attempt", "sequence_id", "span_id"),),
)
RESOURCES = Table(
    "resources",
    _columns("number integer, resources_id text, version integer, create_time real, update_time real, body bytes"),
    ("number",),
    unique=(("resources_id",),),
)
WORKERS = Table(
    "workers",
    _columns("number integer, worker_id text, status text, body bytes"),
    ("number",),
    unique=(("worker_id",),),
)
TABLES = (META, COUNTERS, ROLLOUTS, INPUTS, ATTEMPTS, SPANS, RESOURCES, WORKERS)
SERIES = ("rollout", "position", "worker", "resources")
"""The rows of numbers that are allotted."""

COUNTED = ("rollouts", "attempts", "spans", "span_bytes", "queued", "fenced", "finished", "pruned", "moment")
"""The counters; `moment` is the latest time in records, in microseconds."""


def creation(table: Table, types: dict[Kind, str], ending: str = "") -> str:
    """Return the statement that makes a table."""
    columns = [f"{c.name} {types[c.kind]}{'' if c.is_optional else ' NOT NULL'}" for c in table.columns]
    uniques = [f"UNIQUE ({', '.join(names)})" for names in table.unique]
    parts = [*columns, f"PRIMARY KEY ({', '.join(table.key)})", *uniques]
    return f"CREATE TABLE {table.name} ({', '.join(parts)}){ending}"


def indexes(table: Table) -> list[str]:
    """Return the statements that make a table's indexes; those by what is mostly NULL hold only the others."""
    statements = []
    for names in table.indexes:
        condition = f" WHERE {names[0]} IS NOT NULL" if table.is_optional(names[0]) else ""
        name = f"{table.name}_by_{'_'.join(names)}"
        statements.append(f"CREATE INDEX {name} ON {table.name} ({', '.join(names)}){condition}")
    return statements
