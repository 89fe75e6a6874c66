"""What an engine of the store keeps, as the rules see it: a few tables, in memory or on a disk.

The rules (`ledger`, `desk`) say what happens; the tables remember it. A rollout is an `Entry` everywhere. The rules
change an entry's fields and tell the tables about nothing but what those have to find it by: its record, its place
in the queue, its end and who holds it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from lightactors.training import lifecycle
from lightactors.training.records import Attempt, ResourcesUpdate, Rollout, Span, Worker
from lightactors.training.stores import arguments
from lightactors.training.stores.queries import EVERYTHING, Page, Predicate


class Try(msgspec.Struct, gc=False, eq=False):
    """An attempt, and when it started and was last heard of on the clock that deadlines go by."""

    record: Attempt
    started: float
    heard: float
    before: Try | None
    claim_id: str | None = None  # under which its worker asked for it


class Entry(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """A rollout, which goes by its number, with its latest attempt, which leads to those before."""

    number: int
    record: Rollout
    latest: Try | None = None
    holder: str | None = None  # the worker that is on it

    @property
    def is_finished(self) -> bool:
        return self.record.status in lifecycle.FINISHED

    def is_under_way(self, attempt_id: str | None = None) -> bool:
        """Tell whether somebody is on it: with its latest attempt, or with the one of that id."""
        latest = self.latest
        return (
            latest is not None
            and latest.record.status in lifecycle.ALIVE
            and self.record.status in lifecycle.WATCHED
            and attempt_id in (None, latest.record.attempt_id)
        )

    def snapshot(self) -> Rollout:
        """Return the record to hand out; its metadata is shared with nobody, its input is what was given."""
        record = self.record
        return record if record.metadata is None else arguments.own(record)

    def tries(self) -> Iterator[Try]:
        """Yield the attempts, the latest first."""
        attempt = self.latest
        while attempt is not None:
            yield attempt
            attempt = attempt.before


class Totals(msgspec.Struct):
    """What is only counted."""

    attempts: int = 0
    fenced: int = 0
    pruned: int = 0


class Rollouts(Protocol):
    """The rollouts, numbered in the order of creation."""

    def __len__(self) -> int: ...

    @property
    def ids(self) -> Container[object]:
        """The ids that are taken, as far as they are at hand: for who makes one at random."""
        ...

    def find(self, rollout_id: str, /) -> Entry | None:
        """Return the entry of a rollout; None if there is none."""
        ...

    def at(self, number: int) -> Entry | None:
        """Return the entry of that number; None if there is none any more."""
        ...

    def prepared(self, rollout: Rollout) -> Any:
        """Return what `add` needs to know of a rollout beyond itself; whatever is wrong with it raises here."""
        ...

    def add(self, rollout: Rollout, prepared: Any) -> Entry:
        """Take a rollout under a new id in, and return its entry."""
        ...

    def as_kept(self, rollout: Rollout) -> Rollout:
        """Return a rollout as it will be handed out when it has been kept."""
        ...

    def put(self, entry: Any, record: Rollout, /) -> None:
        """Replace the record of an entry."""
        ...

    def tries(self, entry: Any) -> Iterable[Try]:
        """Return the attempts of a rollout, the latest first."""
        ...

    def select(
        self, statuses: Sequence[str] | None, ids: Sequence[str] | None, contains: str | None, logic: str, page: Page
    ) -> Iterable[Entry]:
        """Return a page of those that fulfil all, or any, of what is asked; None asks nothing."""
        ...


class Queue(Protocol):
    """The rollouts that wait to be claimed, first come, first served."""

    def __len__(self) -> int: ...

    def head(self) -> Entry | None:
        """Return the first; None if there is none."""
        ...

    def put(self, entry: Any) -> bool:
        """Put an entry at the tail, unless it is in the queue; tell whether it was put."""
        ...

    def drop(self, entry: Any) -> None:
        """Take an entry out, if it is in."""
        ...


class Finished(Protocol):
    """The finished rollouts in the order of their ends; a cursor says how far somebody has come."""

    def add(self, entry: Any, /) -> None: ...
    def is_beyond(self, cursor: int) -> bool:
        """Tell whether there are some behind the cursor."""
        ...

    def after(self, cursor: int, limit: int | None) -> tuple[Sequence[Entry], int]:
        """Return those behind the cursor, up to `limit`, and the cursor behind them."""
        ...


class Held(Protocol):
    """Who is on what."""

    def put(self, entry: Any, worker_id: str | None) -> None:
        """Note that a rollout is held by that worker now, or by nobody."""
        ...

    def of(self, worker_id: str) -> Sequence[Entry]:
        """Return what a worker is on, the oldest first."""
        ...


class WorkerTable(Protocol):
    """The workers, in the order in which they were first heard of."""

    def __len__(self) -> int: ...
    def get(self, worker_id: str, /) -> Worker | None: ...
    def put(self, worker: Worker) -> None:
        """Add a worker, or replace what is known of it."""
        ...

    def select(self, statuses: Sequence[str] | None, contains: str | None, logic: str, page: Page) -> Iterable[Worker]:
        """Return a page of those that fulfil all, or any, of what is asked; None asks nothing."""
        ...


class ResourceTable(Protocol):
    """The latest version of each set of resources."""

    def __len__(self) -> int: ...
    def __contains__(self, resources_id: object) -> bool: ...
    def get(self, resources_id: str) -> ResourcesUpdate | None: ...
    def put(self, update: ResourcesUpdate) -> None:
        """Keep a set or its next version; it becomes the latest."""
        ...

    @property
    def latest_id(self) -> str | None: ...

    def select(self, conditions: Sequence[Predicate[Any]], page: Page) -> Iterable[ResourcesUpdate]:
        """Return a page of those that fulfil the conditions, in the order of creation."""
        ...


class SpanStatistics(msgspec.Struct):
    """How much there is of spans, and how much there may be."""

    count: int
    size_bytes: int
    evicted: int
    eviction_threshold: int
    safe_threshold: int
    capacity: int


class Spans(Protocol):
    """The spans, by rollout."""

    def holds(self, entry: Any, attempt: Try, span: Span) -> bool:
        """Tell whether a span of the same attempt, sequence and span id is there."""
        ...

    def last_sequence_id(self, entry: Any) -> int: ...

    def next_sequence_id(self, entry: Any) -> int:
        """Give out the next sequence id of a rollout."""
        ...

    def prepared(self, span: Span) -> Any:
        """Return what `add` needs to know of a span beyond itself; whatever is wrong with it raises here."""
        ...

    def add(self, entry: Any, attempt: Try, span: Span, prepared: Any) -> None: ...

    def of(self, entry: Any, attempt: Try | None, page: Page = EVERYTHING) -> list[Span]:
        """Return a page of the spans of one attempt, or of all; raise `SpansEvicted` where some are gone."""
        ...

    def evict(self) -> None:
        """Give up the spans of the oldest rollouts, if there are too many, until there are few enough."""
        ...

    def statistics(self) -> SpanStatistics: ...


class Tables(Protocol):
    """All that an engine keeps."""

    @property
    def rollouts(self) -> Rollouts: ...
    @property
    def queue(self) -> Queue: ...
    @property
    def finished(self) -> Finished: ...
    @property
    def held(self) -> Held: ...
    @property
    def workers(self) -> WorkerTable: ...
    @property
    def resources(self) -> ResourceTable: ...
    @property
    def spans(self) -> Spans: ...
    @property
    def totals(self) -> Totals:
        """Where the rules count."""
        ...

    def counted(self) -> Totals:
        """Return what has been counted by now."""
        ...

    def latest_moment(self) -> float:
        """Return the latest of the times in records."""
        ...


class Audience(Protocol):
    """Those who wait at the desk, and are told what has come about."""

    @property
    def waiters(self) -> int:
        """How many claims wait for work."""
        ...

    def call_off(self, worker_id: str, claim_id: str | None = None) -> None:
        """End the wait of a worker that waits under a claim id: that one, or any."""
        ...

    def queued(self) -> None:
        """There is one rollout more to claim."""
        ...

    def ended(self, entry: Any) -> None:
        """A rollout is finished."""
        ...

    def earlier_deadline(self) -> None:
        """The next deadline is earlier than it was."""
        ...
