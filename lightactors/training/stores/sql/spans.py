"""The spans in a database."""

from __future__ import annotations

from typing import Any

from lightactors.training.records import Span
from lightactors.training.stores.queries import EVERYTHING, Page
from lightactors.training.stores.sql import bodies, schema
from lightactors.training.stores.sql.database import Row
from lightactors.training.stores.sql.kept import Kept
from lightactors.training.stores.sql.selecting import limit_of, spans_order
from lightactors.training.stores.sql.shared import Shared
from lightactors.training.stores.tables import SpanStatistics, Try


class SqlSpans:
    """The spans: nothing of them is kept in memory."""

    def __init__(self, tables: Shared) -> None:
        self._tables = tables
        self._database = tables.database
        self._new: dict[tuple[int, int, int, str], Row] = {}

    def holds(self, entry: Kept, attempt: Try, span: Span) -> bool:
        if span.sequence_id > entry.highest_sequence_id:
            return False
        key = (entry.number, attempt.record.sequence_id, span.sequence_id, span.span_id)
        return key in self._new or bool(
            self._database.rows(
                "SELECT 1 FROM spans WHERE number = ? AND attempt = ? AND sequence_id = ? AND span_id = ?", *key
            )
        )

    def last_sequence_id(self, entry: Kept) -> int:
        return entry.last_sequence_id

    def next_sequence_id(self, entry: Kept) -> int:
        entry.last_sequence_id += 1
        return entry.last_sequence_id

    def prepared(self, span: Span) -> bytes:
        """Return the span's body."""
        return bodies.packed_span(span)

    def add(self, entry: Kept, attempt: Try, span: Span, prepared: bytes) -> None:
        entry.last_sequence_id = max(entry.last_sequence_id, span.sequence_id)
        entry.highest_sequence_id = max(entry.highest_sequence_id, span.sequence_id)
        key = (entry.number, attempt.record.sequence_id, span.sequence_id, span.span_id)
        size = len(prepared)
        self._new[key] = (entry.number, entry.next_ordinal, *key[1:], size, prepared)
        entry.next_ordinal += 1
        self._tables.count("spans", 1)
        self._tables.count("span_bytes", size)

    def of(self, entry: Kept, attempt: Try | None, page: Page = EVERYTHING) -> list[Span]:
        self._tables.write()
        condition, given = "number = ?", [entry.number]
        if attempt is not None:
            condition, given = "number = ? AND attempt = ?", [entry.number, attempt.record.sequence_id]
        if page.sort_by not in (None, "sequence_id"):
            # The table has no column for it.
            return page.cut(page.sorted(self._read(condition, "ORDER BY ordinal", *given)))
        return self._read(condition, f"{spans_order(page)} LIMIT ? OFFSET ?", *given, limit_of(page), page.offset)

    def _read(self, condition: str, ending: str, *parameters: Any) -> list[Span]:
        rows = self._database.rows(f"SELECT body FROM spans WHERE {condition} {ending}", *parameters)
        return [bodies.span(body) for (body,) in rows]

    def evict(self) -> None:
        """Give up nothing: they are on the disk."""

    def statistics(self) -> SpanStatistics:
        counters = self._tables.counters
        return SpanStatistics(counters["spans"], counters["span_bytes"], 0, 0, 0, 0)

    def flush(self) -> None:
        self._database.insert(schema.SPANS, list(self._new.values()))
        self._new.clear()

    def forget(self) -> None:
        self._new.clear()
