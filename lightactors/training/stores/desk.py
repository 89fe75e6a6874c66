"""The store's desk: every method of the contract that waits for nothing, over an engine's tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from random import Random, SystemRandom
from typing import Any, TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from lightactors.contract import PythonOnly
from lightactors.errors import NotFound
from lightactors.training import checks, lifecycle
from lightactors.training.otel import ReadableSpan
from lightactors.training.records import (
    ROLLOUT_STATUSES,
    WORKER_STATUSES,
    Attempt,
    AttemptedRollout,
    AttemptStatus,
    Completions,
    EnqueueRolloutRequest,
    Mode,
    Resources,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutStatus,
    Span,
    StoreStatistics,
    Worker,
    WorkerStatus,
)
from lightactors.training.stores import arguments, queries
from lightactors.training.stores.contract import Logic, Order, Store, begins, directs, reads, reports
from lightactors.training.stores.ledger import LATEST, Ledger
from lightactors.training.stores.tables import Audience, Entry, Tables, Try

T = TypeVar("T")


class Desk(Store):
    """What an engine is made of: it adds how to wait, and for what.

    `clock` is what deadlines go by, `now` the time in records, and ids come from `random`.
    """

    def __init__(
        self,
        tables: Tables,
        audience: Audience,
        clock: Callable[[], float],
        now: Callable[[], float],
        random: Random | None,
    ) -> None:
        self.name = type(self).__name__
        self._tables = tables
        self._audience = audience
        self._ledger = Ledger(tables, audience, clock, now, random or Random(SystemRandom().getrandbits(128)))
        self._opened = self._ledger.moment()

    def seconds_to_deadline(self) -> float | None:
        """Return how long nothing can become overdue; None while nothing can at all."""
        return self._ledger.seconds_to_deadline()

    def expire(self) -> None:
        """End every attempt that is overdue by now."""
        self._ledger.expire()

    # Rollouts in and out of the queue

    @begins
    def start_rollout(
        self,
        input: Any,
        mode: Mode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: Mapping[str, Any] | None = None,
        worker_id: str | None = None,
    ) -> AttemptedRollout:
        checks.optional_text("worker_id", worker_id)
        draft = self._draft(EnqueueRolloutRequest(input, mode, resources_id, config, metadata), "preparing")
        return self._ledger.begin(self._ledger.add(draft), worker_id)

    @directs
    def enqueue_rollout(
        self,
        input: Any,
        mode: Mode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: Mapping[str, Any] | None = None,
        rollout_id: str | None = None,
    ) -> Rollout:
        draft = self._draft(EnqueueRolloutRequest(input, mode, resources_id, config, metadata, rollout_id), "queuing")
        entry = None if rollout_id is None else self._ledger.rollouts.find(rollout_id)
        if entry is None:
            entry = self._ledger.add(draft)
        else:
            self._check_same(entry.record, draft)
        return self._ledger.handed_out(entry)

    @directs
    def enqueue_many_rollouts(self, requests: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        checks.several("requests", requests)
        return self._enqueue([checks.instance("a member of requests", r, EnqueueRolloutRequest) for r in requests])

    def _enqueue(self, requests: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        fresh: dict[str, Rollout] = {}
        drafts = [self._draft(request, "queuing") for request in requests]
        for request, draft in zip(requests, drafts, strict=True):
            known = None if request.rollout_id is None else self._ledger.rollouts.find(request.rollout_id)
            self._check_same(known.record if known else fresh.setdefault(draft.rollout_id, draft), draft)
        self._ledger.add_all(list(fresh.values()))
        return [self._ledger.handed_out(self._ledger.entry(draft.rollout_id)) for draft in drafts]

    def _check_same(self, known: Rollout, again: Rollout) -> None:
        if known is not again:
            as_kept = self._ledger.rollouts.as_kept
            arguments.check_same_task(as_kept(known), as_kept(again))

    def _draft(self, request: EnqueueRolloutRequest, status: RolloutStatus) -> Rollout:
        return arguments.draft(
            request,
            rollout_id=checks.optional_text("rollout_id", request.rollout_id)
            or self._ledger.new_id("ro-", self._ledger.rollouts.ids),
            resources_id=self._known_resources(request.resources_id) or self._tables.resources.latest_id,
            start_time=self._ledger.moment(),
            status=status,
        )

    @reports
    def give_back(self, worker_id: str, claim_id: str | None = None) -> list[Rollout]:
        checks.text("worker_id", worker_id)
        given_back = self._ledger.give_back(worker_id, checks.optional_text("claim_id", claim_id))
        return [self._ledger.handed_out(entry) for entry in given_back]

    @begins
    def start_attempt(self, rollout_id: str, worker_id: str | None = None) -> AttemptedRollout:
        entry = self._ledger.entry(rollout_id)
        checks.optional_text("worker_id", worker_id)
        lifecycle.check_rollout(entry.record, "preparing")
        return self._ledger.begin(entry, worker_id)

    # Rollouts

    @reads
    def query_rollouts(
        self,
        *,
        status_in: Sequence[RolloutStatus] | None = None,
        rollout_id_in: Sequence[str] | None = None,
        rollout_id_contains: str | None = None,
        filter_logic: Logic = "and",
        sort_by: str | None = None,
        sort_order: Order = "asc",
        limit: int = -1,
        offset: int = 0,
        status: PythonOnly[Sequence[RolloutStatus] | None] = None,
        rollout_ids: PythonOnly[Sequence[str] | None] = None,
    ) -> list[Rollout]:
        status_in = _instead_of("status", status, "status_in", status_in)
        rollout_id_in = _instead_of("rollout_ids", rollout_ids, "rollout_id_in", rollout_id_in)
        page = queries.page_of(Rollout, sort_by, sort_order, limit, offset)
        queries.check_logic(filter_logic)
        statuses = None if status_in is None else checks.members("status_in", status_in, ROLLOUT_STATUSES)
        ids = None if rollout_id_in is None else checks.texts("rollout_id_in", rollout_id_in)
        contains = None if rollout_id_contains is None else checks.string("rollout_id_contains", rollout_id_contains)
        found = self._ledger.rollouts.select(statuses, ids, contains, filter_logic, page)
        return [self._ledger.handed_out(entry) for entry in found]

    @reads
    def get_rollout_by_id(self, rollout_id: str) -> Rollout | None:
        entry = self._ledger.find(rollout_id)
        return None if entry is None else self._ledger.handed_out(entry)

    @directs
    def update_rollout(
        self,
        rollout_id: str,
        input: Any = UNSET,
        mode: Mode | UnsetType | None = UNSET,
        resources_id: str | UnsetType | None = UNSET,
        status: RolloutStatus | UnsetType = UNSET,
        config: RolloutConfig | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType | None = UNSET,
    ) -> Rollout:
        entry = self._ledger.entry(rollout_id)
        changes = arguments.rollout_changes(
            input=input, mode=mode, resources_id=resources_id, status=status, config=config, metadata=metadata
        )
        self._known_resources(changes.get("resources_id"))
        self._ledger.change(entry, changes)
        return self._ledger.handed_out(entry)

    # Attempts

    @reads
    def query_attempts(
        self,
        rollout_id: str,
        *,
        sort_by: str | None = "sequence_id",
        sort_order: Order = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> list[Attempt]:
        page = queries.page_of(Attempt, sort_by, sort_order, limit, offset)
        tries = [attempt.record for attempt in self._ledger.rollouts.tries(self._ledger.entry(rollout_id))]
        return [arguments.own(attempt) for attempt in page.cut(page.sorted(tries[::-1]))]

    @reads
    def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        entry = self._ledger.find(rollout_id)
        return arguments.own(entry.latest.record) if entry and entry.latest else None

    @reports
    def update_attempt(
        self,
        rollout_id: str,
        attempt_id: str,
        status: AttemptStatus | UnsetType = UNSET,
        worker_id: str | UnsetType = UNSET,
        last_heartbeat_time: float | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType | None = UNSET,
    ) -> Attempt:
        entry = self._ledger.entry(rollout_id)
        attempt = self._ledger.attempt(entry, attempt_id)
        changes = arguments.attempt_changes(status, worker_id, last_heartbeat_time, metadata)
        if status is UNSET and worker_id is UNSET and last_heartbeat_time is UNSET:
            attempt.record = replace(attempt.record, **changes)
        elif not lifecycle.is_repetition(attempt.record, changes):
            self._ledger.report(entry, attempt, changes)
        return arguments.own(attempt.record)

    # Spans

    @reports
    def add_span(self, span: Span) -> Span | None:
        added = self._add_spans([span])
        return added[0] if added else None

    @reports
    def add_many_spans(self, spans: Sequence[Span]) -> list[Span]:
        return self._add_spans(checks.several("spans", spans))

    @begins
    def add_otel_span(
        self, rollout_id: str, attempt_id: str, readable_span: PythonOnly[ReadableSpan], sequence_id: int | None = None
    ) -> Span | None:
        entry = self._ledger.entry(rollout_id)
        sequence_id = self._tables.spans.last_sequence_id(entry) + 1 if sequence_id is None else sequence_id
        ids = {"rollout_id": rollout_id, "attempt_id": attempt_id}
        added = self._add_spans([Span.from_otel(readable_span, **ids, sequence_id=sequence_id)])
        return added[0] if added else None

    def _add_spans(self, spans: Sequence[Span]) -> list[Span]:
        table = self._tables.spans
        fresh: dict[tuple[int, str, int, str], tuple[Entry, Try, Span, Any]] = {}
        for span in map(arguments.span, spans):
            entry = self._ledger.entry(span.rollout_id)
            attempt = self._ledger.attempt_of_id(entry, span.attempt_id)
            key = (entry.number, span.attempt_id, span.sequence_id, span.span_id)
            if key not in fresh and not table.holds(entry, attempt, span):
                self._ledger.check_current(entry, attempt)
                fresh[key] = entry, attempt, span, table.prepared(span)
        for added in fresh.values():
            table.add(*added)
        for entry, attempt in {entry.number: (entry, attempt) for entry, attempt, *_ in fresh.values()}.values():
            self._ledger.hear_span(entry, attempt)
        table.evict()
        return [span for _, _, span, _ in fresh.values()]

    @reports
    def get_next_span_sequence_id(self, rollout_id: str, attempt_id: str) -> int:
        return self._next_sequence_ids([(rollout_id, attempt_id)])[0]

    @reports
    def get_many_span_sequence_ids(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        return self._next_sequence_ids([arguments.pair(pair) for pair in checks.several("pairs", pairs)])

    def _next_sequence_ids(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        entries = [self._ledger.entry(rollout_id) for rollout_id, _ in pairs]
        for entry, (_, attempt_id) in zip(entries, pairs, strict=True):
            self._ledger.attempt_of_id(entry, attempt_id)
        return [self._tables.spans.next_sequence_id(entry) for entry in entries]

    @reads
    def query_spans(
        self,
        rollout_id: str,
        attempt_id: str | None = None,
        *,
        trace_id: str | None = None,
        trace_id_contains: str | None = None,
        span_id: str | None = None,
        span_id_contains: str | None = None,
        parent_id: str | None = None,
        parent_id_contains: str | None = None,
        name: str | None = None,
        name_contains: str | None = None,
        filter_logic: Logic = "and",
        sort_by: str | None = "sequence_id",
        sort_order: Order = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> list[Span]:
        page = queries.page_of(Span, sort_by, sort_order, limit, offset)
        conditions = queries.texts(
            trace_id=trace_id,
            trace_id_contains=trace_id_contains,
            span_id=span_id,
            span_id_contains=span_id_contains,
            parent_id=parent_id,
            parent_id_contains=parent_id_contains,
            name=name,
            name_contains=name_contains,
        )
        entry = self._ledger.entry(rollout_id)
        if attempt_id == LATEST and entry.latest is None:
            return []
        attempt = None if attempt_id is None else self._ledger.attempt(entry, attempt_id)
        if not conditions:
            queries.check_logic(filter_logic)
            return self._tables.spans.of(entry, attempt, page)
        spans = self._tables.spans.of(entry, attempt)
        return page.cut(page.sorted(queries.matching(spans, conditions, filter_logic)))

    # Resources

    @directs
    def add_resources(self, resources: Resources) -> ResourcesUpdate:
        return self._keep_resources(self._ledger.new_id("rs-", self._tables.resources), resources)

    @directs
    def update_resources(self, resources_id: str, resources: Resources) -> ResourcesUpdate:
        return self._keep_resources(checks.text("resources_id", resources_id), resources)

    def _keep_resources(self, resources_id: str, resources: Resources) -> ResourcesUpdate:
        before = self._tables.resources.get(resources_id)
        now = self._ledger.moment()
        update = ResourcesUpdate(
            resources_id=resources_id,
            create_time=before.create_time if before else now,
            update_time=now,
            version=before.version + 1 if before else 1,
            resources=arguments.resources(resources),
        )
        self._tables.resources.put(update)
        return arguments.own_resources(update)

    @reads
    def query_resources(
        self,
        *,
        resources_id: str | None = None,
        resources_id_contains: str | None = None,
        sort_by: str | None = None,
        sort_order: Order = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> list[ResourcesUpdate]:
        page = queries.page_of(ResourcesUpdate, sort_by, sort_order, limit, offset)
        conditions = queries.texts(resources_id=resources_id, resources_id_contains=resources_id_contains)
        found = self._tables.resources.select(conditions, page)
        return [arguments.own_resources(update) for update in found]

    @reads
    def get_resources_by_id(self, resources_id: str) -> ResourcesUpdate | None:
        update = self._tables.resources.get(checks.text("resources_id", resources_id))
        return None if update is None else arguments.own_resources(update)

    @reads
    def get_latest_resources(self) -> ResourcesUpdate | None:
        latest_id = self._tables.resources.latest_id
        update = None if latest_id is None else self._tables.resources.get(latest_id)
        return None if update is None else arguments.own_resources(update)

    # Workers

    @reads
    def query_workers(
        self,
        *,
        status_in: Sequence[WorkerStatus] | None = None,
        worker_id_contains: str | None = None,
        filter_logic: Logic = "and",
        sort_by: str | None = None,
        sort_order: Order = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> list[Worker]:
        page = queries.page_of(Worker, sort_by, sort_order, limit, offset)
        queries.check_logic(filter_logic)
        statuses = None if status_in is None else checks.members("status_in", status_in, WORKER_STATUSES)
        contains = None if worker_id_contains is None else checks.string("worker_id_contains", worker_id_contains)
        found = self._tables.workers.select(statuses, contains, filter_logic, page)
        return [arguments.own_worker(worker) for worker in found]

    @reads
    def get_worker_by_id(self, worker_id: str) -> Worker | None:
        worker = self._tables.workers.get(checks.text("worker_id", worker_id))
        return None if worker is None else arguments.own_worker(worker)

    @reports
    def update_worker(self, worker_id: str, heartbeat_stats: Mapping[str, Any] | UnsetType = UNSET) -> Worker:
        checks.text("worker_id", worker_id)
        changes = arguments.worker_changes(heartbeat_stats=heartbeat_stats)
        return arguments.own_worker(
            self._ledger.workers.update(worker_id, last_heartbeat_time=self._ledger.moment(), **changes)
        )

    @begins
    def release_worker(self, worker_id: str) -> list[Attempt]:
        return [arguments.own(attempt) for attempt in self._ledger.release(checks.text("worker_id", worker_id))]

    @reads
    def statistics(self) -> StoreStatistics:
        spans, totals = self._tables.spans.statistics(), self._tables.counted()
        return StoreStatistics(
            name=self.name,
            total_rollouts=len(self._ledger.rollouts),
            total_attempts=totals.attempts,
            total_spans=spans.count,
            total_resources=len(self._tables.resources),
            total_workers=len(self._tables.workers),
            uptime=self._ledger.moment() - self._opened,
            total_span_bytes=spans.size_bytes,
            eviction_threshold_bytes=spans.eviction_threshold,
            safe_threshold_bytes=spans.safe_threshold,
            memory_capacity_bytes=spans.capacity,
            queue_length=len(self._ledger.queue),
            waiters=self._audience.waiters,
            fenced=totals.fenced,
            evicted=spans.evicted,
            pruned=totals.pruned,
        )

    def _known_resources(self, resources_id: str | None) -> str | None:
        checks.optional_text("resources_id", resources_id)
        if resources_id is not None and resources_id not in self._tables.resources:
            raise NotFound(f"there are no resources {resources_id!r}; add them first, or leave the id out")
        return resources_id

    # What those who wait come for

    def finished_after(self, cursor: int, limit: int) -> Completions:
        """Return finished rollouts behind a cursor."""
        entries, behind = self._ledger.finished.after(cursor, None if limit == -1 else limit)
        return Completions([self._ledger.handed_out(entry) for entry in entries], behind)


def _instead_of(old: str, value: Sequence[T] | None, new: str, preferred: Sequence[T] | None) -> Sequence[T] | None:
    if value is None:
        return preferred
    warnings.warn(f"{old} is an old name; use {new}", DeprecationWarning, stacklevel=3)
    return value if preferred is None else preferred
