"""Records under numbers in the order of creation, found by id, by number and by status."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from lightactors.training.stores.memory.bitmap import Bitmap, Combined, Numbers

_BACKLOG = 1000
"""Rows that may wait for their place in the index: enough to skip the statuses that they only pass through."""


# Without gc, as the records: a collection must not have to look at each row.
class Row(msgspec.Struct, gc=False, eq=False):
    """The place of a record, which is frozen and replaced when something changes."""

    number: int
    record: Any
    indexed: str | None = None  # the status under which the index has it
    is_moved: bool = False  # it may have another one by now


class _Row(Protocol):
    number: int
    record: Any
    indexed: str | None
    is_moved: bool


R = TypeVar("R", bound=_Row)


class Table(Generic[R]):
    """Rows that are never removed; the index by status follows when it is asked."""

    def __init__(self) -> None:
        self.rows: list[R] = []
        self.by_id: dict[str, R] = {}
        self._by_status: defaultdict[str, Bitmap] = defaultdict(Bitmap)
        self._moved: list[R] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        return self.rows[number].record

    def append(self, record_id: str, row: R) -> R:
        """Append a row under a new id; its number must be the next."""
        self.by_id[record_id] = row
        self.rows.append(row)
        self._move(row)
        return row

    def replace(self, row: R, record: Any) -> None:
        """Replace the record of a row."""
        row.record = record
        if not row.is_moved:
            self._move(row)

    def with_ids(self, record_ids: Iterable[str]) -> Numbers:
        """Return the numbers of those of the ids that there are."""
        return Bitmap(self.by_id[record_id].number for record_id in record_ids if record_id in self.by_id)

    def with_status(self, statuses: Iterable[str]) -> Numbers:
        """Return the numbers of the records that have one of the statuses."""
        self._catch_up()
        return Combined(operator.or_, [self._by_status[status] for status in statuses])

    def _move(self, row: R) -> None:
        row.is_moved = True
        self._moved.append(row)
        if len(self._moved) > _BACKLOG:
            self._catch_up()

    def _catch_up(self) -> None:
        for row in self._moved:
            row.is_moved = False
            before, after = row.indexed, row.record.status
            if before != after:
                if before is not None:
                    self._by_status[before].discard(row.number)
                self._by_status[after].add(row.number)
                row.indexed = after
        self._moved.clear()
