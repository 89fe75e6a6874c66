"""Where the memory store keeps spans, and gives up the oldest before memory runs out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lightactors.errors import InvalidArgument, SpansEvicted
from lightactors.training.records import Span
from lightactors.training.stores.memory.bitmap import Bitmap, listed
from lightactors.training.stores.queries import EVERYTHING, Page
from lightactors.training.stores.tables import Entry, SpanStatistics, Try

logger = logging.getLogger("lightactors.store")

DEFAULT_EVICTION_SHARE = 0.7  # of the capacity
DEFAULT_SAFE_SHARE = 0.8  # of the eviction threshold


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """How many bytes of spans are kept: above `eviction` they are given up until `safe` is reached."""

    capacity: int
    eviction: int
    safe: int


def memory_limits(eviction: float | None, safe: float | None, capacity: int) -> MemoryLimits:
    """Make limits of a store's thresholds: a float in (0, 1] is a share of the capacity, an int is bytes."""
    most = _bytes("eviction_memory_threshold", eviction, capacity, least=1)
    most = int(capacity * DEFAULT_EVICTION_SHARE) if most is None else most
    enough = _bytes("safe_memory_threshold", safe, capacity, least=0)
    enough = int(most * DEFAULT_SAFE_SHARE) if enough is None else enough
    if enough >= most:
        raise InvalidArgument(
            f"safe_memory_threshold is {safe!r} ({enough} bytes); "
            f"give less than eviction_memory_threshold, which is {eviction!r} ({most} bytes)"
        )
    return MemoryLimits(capacity, most, enough)


def _bytes(name: str, value: object, capacity: int, *, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, float) and 0 < value <= 1:
        return int(capacity * value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise InvalidArgument(f"{name} is {value!r}; give a share above 0 and up to 1.0 as a float, or bytes as an int")


def memory_capacity() -> int:
    """Return this machine's memory in bytes."""
    # Imported here: it takes 20 ms, and only who opens a memory store needs it.
    import psutil

    return int(psutil.virtual_memory().total)


ENTRY_BYTES = 200  # what the table itself holds per span: its key and its place in a dict


def span_size(span: Span) -> int:
    """Estimate how many bytes a span takes; what spans share is counted for each of them."""
    return ENTRY_BYTES + _size(span)


def _size(value: Any) -> int:
    inside = _INSIDE.get(type(value))
    if inside is None:
        inside = msgspec.structs.astuple if isinstance(value, msgspec.Struct) else _nothing
    return sys.getsizeof(value) + sum(map(_size, inside(value)))


def _nothing(_: object) -> Sequence[Any]:
    return ()


def _pairs(value: Mapping[Any, Any]) -> Sequence[Any]:
    return [*value, *value.values()]


_INSIDE: dict[type, Callable[[Any], Sequence[Any]]] = {
    dict: _pairs,
    list: list,
    tuple: tuple,
    set: list,
    str: _nothing,
    int: _nothing,
    float: _nothing,
}


class _Book:
    """The spans of one rollout, by attempt and then by what makes a duplicate."""

    __slots__ = ("evicted", "last_sequence_id", "size_bytes", "spans")

    def __init__(self) -> None:
        self.spans: dict[str, dict[tuple[int, str], Span]] = {}
        self.last_sequence_id = 0
        self.size_bytes = 0
        self.evicted: set[str] = set()


class SpanTable:
    """The spans of all rollouts, which go by their numbers; a lower number is an older rollout."""

    def __init__(self, limits: MemoryLimits, size_of: Callable[[Span], int]) -> None:
        self.limits = limits
        self.count = 0
        self.size_bytes = 0
        self.evicted = 0
        self._size_of = size_of
        self._books: dict[int, _Book] = {}
        self._held = Bitmap()

    def holds(self, entry: Entry, attempt: Try, span: Span) -> bool:
        book = self._books.get(entry.number)
        return book is not None and (span.sequence_id, span.span_id) in book.spans.get(span.attempt_id, ())

    def last_sequence_id(self, entry: Entry) -> int:
        book = self._books.get(entry.number)
        return 0 if book is None else book.last_sequence_id

    def next_sequence_id(self, entry: Entry) -> int:
        book = self._book(entry.number)
        book.last_sequence_id += 1
        return book.last_sequence_id

    def prepared(self, span: Span) -> int:
        """Return the span's bytes."""
        return max(0, int(self._size_of(span)))

    def add(self, entry: Entry, attempt: Try, span: Span, prepared: int) -> None:
        book = self._book(entry.number)
        book.last_sequence_id = max(book.last_sequence_id, span.sequence_id)
        if span.attempt_id in book.evicted:
            # Half an attempt is of no use to anybody: the rest follows what was given up.
            self.evicted += 1
            return
        book.spans.setdefault(span.attempt_id, {})[span.sequence_id, span.span_id] = span
        self._account(entry.number, book, 1, prepared)

    def of(self, entry: Entry, attempt: Try | None, page: Page = EVERYTHING) -> list[Span]:
        book = self._books.get(entry.number)
        attempt_id = None if attempt is None else attempt.record.attempt_id
        if book is None:
            return []
        if gone := book.evicted if attempt_id is None else book.evicted & {attempt_id}:
            raise SpansEvicted(
                f"the spans of {', '.join(sorted(gone))} were given up to keep memory bounded; "
                "read spans sooner, or raise eviction_memory_threshold"
            )
        asked = list(book.spans.values()) if attempt_id is None else [book.spans.get(attempt_id, {})]
        return page.cut(page.sorted(span for spans in asked for span in spans.values()))

    def evict(self) -> None:
        if self.size_bytes <= self.limits.eviction:
            return
        before, rollouts = self.size_bytes, 0
        while self.size_bytes > self.limits.safe and self._held.summary:
            self._give_up(next(listed(self._held)))
            rollouts += 1
        logger.warning("gave up the spans of %d rollouts: %d bytes, now %d", rollouts, before, self.size_bytes)

    def statistics(self) -> SpanStatistics:
        limits = self.limits
        return SpanStatistics(self.count, self.size_bytes, self.evicted, limits.eviction, limits.safe, limits.capacity)

    def _give_up(self, number: int) -> None:
        book = self._books[number]
        count = sum(map(len, book.spans.values()))
        book.evicted.update(book.spans)
        book.spans.clear()
        self.evicted += count
        self._account(number, book, -count, -book.size_bytes)
        self._held.discard(number)

    def _account(self, number: int, book: _Book, count: int, size_bytes: int) -> None:
        self._held.add(number)
        self.count += count
        book.size_bytes += size_bytes
        self.size_bytes += size_bytes

    def _book(self, number: int) -> _Book:
        if number not in self._books:
            self._books[number] = _Book()
        return self._books[number]
