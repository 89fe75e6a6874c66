"""The store in memory: fast, and gone with its process."""

from __future__ import annotations

import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from random import Random, SystemRandom
from typing import Any, NoReturn, TypeVar

import anyio
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from lightactors.actors import Ref, loops, spawn
from lightactors.contract import Eventually, PythonOnly, actor
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
from lightactors.training.stores.contract import (
    Logic,
    Order,
    Store,
    begins,
    claims,
    directs,
    reads,
    reports,
    watches,
)
from lightactors.training.stores.ledger import LATEST, Entry, Ledger, Try
from lightactors.training.stores.spans import SpanTable, memory_capacity, memory_limits, span_size
from lightactors.training.stores.waiting import Claimant
from lightactors.training.stores.watchdog import Nudge, watchdog

T = TypeVar("T")


def loop_time() -> float:
    """Return the running loop's time, which tests can make virtual; the machine's where no loop runs."""
    try:
        return loops.current().time()
    except RuntimeError:
        return time.monotonic()


@actor
class MemoryStore(Store):
    """A store that keeps everything in this process, and of spans as much as memory allows.

    - `eviction_memory_threshold`, `safe_memory_threshold`: above the first the spans of the oldest rollouts are
      given up until the second is reached. A float is a share of the machine's memory, an int is bytes; by
      default 70 % of the memory, and 80 % of that.
    - `span_size_estimator`: counts a span's bytes.
    - `clock`, `now`, `random`: deadlines go by the first, the times in records by the second, ids come from the
      third; for tests.

    As a plain object it has nobody to notice that a deadline has passed: call `expire`. As an actor it does it
    by itself.
    """

    def __init__(
        self,
        *,
        eviction_memory_threshold: float | None = None,
        safe_memory_threshold: float | None = None,
        span_size_estimator: Callable[[Span], int] = span_size,
        clock: Callable[[], float] = loop_time,
        now: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        limits = memory_limits(eviction_memory_threshold, safe_memory_threshold, memory_capacity())
        self._ledger = Ledger(clock, now, random or Random(SystemRandom().getrandbits(128)), self._nudge)
        self._clock = clock
        self._opened = self._ledger.moment()
        self._spans = SpanTable(limits, span_size_estimator)
        self._resources: dict[str, ResourcesUpdate] = {}
        self._latest_resources_id: str | None = None
        self._watchdog: Ref[Nudge] | None = None
        self._is_nudged = False

    async def on_start(self) -> None:
        if self._clock is loop_time:
            self._ledger.clock = loops.current().time  # the same time, and the loop is looked up once
        self._watchdog = await spawn(watchdog, self)

    def on_stop(self) -> None:
        self._ledger.clock = self._clock
        self._watchdog = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a MemoryStore stays in its process; pass a ref of it on (managed_store=True)")

    def _nudge(self) -> None:
        # One nudge is enough until the watchdog asks how long it may sleep.
        if self._watchdog is not None and not self._is_nudged:
            self._is_nudged = True
            self._watchdog.tell_nowait(Nudge())

    def seconds_to_deadline(self) -> float | None:
        """Return how long nothing can become overdue; None while nothing can at all."""
        self._is_nudged = False
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
        entry = self._ledger.rollouts.by_id.get(draft.rollout_id)
        if entry is None:
            entry = self._ledger.add(draft)
        else:
            arguments.check_same_task(entry.record, draft)
        return self._ledger.handed_out(entry)

    @directs
    def enqueue_many_rollouts(self, requests: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        checks.several("requests", requests)
        return self._enqueue([checks.instance("a member of requests", r, EnqueueRolloutRequest) for r in requests])

    def _enqueue(self, requests: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        fresh: dict[str, Rollout] = {}
        drafts = [self._draft(request, "queuing") for request in requests]
        for draft in drafts:
            known = self._ledger.rollouts.by_id.get(draft.rollout_id)
            arguments.check_same_task(known.record if known else fresh.setdefault(draft.rollout_id, draft), draft)
        for draft in fresh.values():
            self._ledger.add(draft)
        return [self._ledger.handed_out(self._ledger.rollouts.by_id[draft.rollout_id]) for draft in drafts]

    def _draft(self, request: EnqueueRolloutRequest, status: RolloutStatus) -> Rollout:
        return arguments.draft(
            request,
            rollout_id=checks.optional_text("rollout_id", request.rollout_id)
            or self._ledger.new_id("ro-", self._ledger.rollouts.by_id),
            resources_id=self._known_resources(request.resources_id) or self._latest_resources_id,
            start_time=self._ledger.moment(),
            status=status,
        )

    @claims
    def dequeue_rollout(
        self, worker_id: str | None = None, timeout: float | None = 0, claim_id: str | None = None
    ) -> Eventually[AttemptedRollout | None]:
        may_wait = queries.check_timeout(timeout)
        claimant = arguments.claimant(worker_id, claim_id)
        claimed = self._ledger.claim(1, claimant)
        if claimed or not may_wait:
            return claimed[0] if claimed else None
        return _first(self._wait_to_claim(1, claimant, timeout))

    @claims
    def dequeue_many_rollouts(
        self,
        limit: int = 1,
        worker_id: str | None = None,
        timeout: float | None = 0,
        claim_id: str | None = None,
    ) -> Eventually[list[AttemptedRollout]]:
        may_wait = queries.check_timeout(timeout)
        claimant = arguments.claimant(worker_id, claim_id)
        if checks.whole("limit", limit) <= 0:
            return []
        claimed = self._ledger.claim(limit, claimant)
        return claimed if claimed or not may_wait else self._wait_to_claim(limit, claimant, timeout)

    def _wait_to_claim(
        self, limit: int, claimant: Claimant, timeout: float | None
    ) -> Coroutine[Any, Any, list[AttemptedRollout]]:
        # It enters the line now, not when it is first awaited: a `give_back` may come in between.
        return self._ledger.line.enter(claimant).wait(lambda: self._ledger.take(limit, claimant), timeout)

    @reports
    def give_back(self, worker_id: str, claim_id: str) -> list[Rollout]:
        claimant = arguments.claimant(checks.text("worker_id", worker_id), checks.text("claim_id", claim_id))
        return [self._ledger.handed_out(entry) for entry in self._ledger.give_back(claimant)]

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
        # Moments never go back, so the order of start times is the order of numbers.
        sort_by = None if sort_by == "start_time" else sort_by
        page = queries.page_of(Rollout, sort_by, sort_order, limit, offset)
        sets = []
        if status_in is not None:
            sets.append(self._ledger.rollouts.with_status(checks.members("status_in", status_in, ROLLOUT_STATUSES)))
        if rollout_id_in is not None:
            sets.append(self._ledger.rollouts.with_ids(checks.texts("rollout_id_in", rollout_id_in)))
        conditions = queries.texts(rollout_id_contains=rollout_id_contains)
        found = queries.select(self._ledger.rollouts, sets, conditions, filter_logic, page)
        return [self._ledger.handed_out(self._ledger.rollouts.by_id[rollout.rollout_id]) for rollout in found]

    @watches
    def query_completions(self, after: int = 0, limit: int = 100, timeout: float | None = 0) -> Eventually[Completions]:
        checks.whole("after", after, least=0)
        checks.whole("limit", limit, least=-1)
        if not queries.check_timeout(timeout) or after < len(self._ledger.finished):
            return self._completions(after, limit)
        return self._wait_for_completions(after, limit, timeout)

    async def _wait_for_completions(self, after: int, limit: int, timeout: float | None) -> Completions:
        with anyio.move_on_after(timeout):
            while after >= len(self._ledger.finished):
                await self._ledger.ends.wait_for_any()
        return self._completions(after, limit)

    def _completions(self, after: int, limit: int) -> Completions:
        entries = self._ledger.finished[after : None if limit == -1 else after + limit]
        return Completions([self._ledger.handed_out(entry) for entry in entries], after + len(entries))

    @reads
    def get_rollout_by_id(self, rollout_id: str) -> Rollout | None:
        entry = self._ledger.find(rollout_id)
        return None if entry is None else self._ledger.handed_out(entry)

    @watches
    def wait_for_rollouts(
        self, *, rollout_ids: Sequence[str], timeout: float | None = None
    ) -> Eventually[list[Rollout]]:
        may_wait = queries.check_timeout(timeout)
        ids = checks.several("rollout_ids", rollout_ids)
        entries = [self._ledger.entry(rollout_id) for rollout_id in dict.fromkeys(ids)]
        if may_wait and not all(entry.is_finished for entry in entries):
            return self._wait_for(entries, timeout)
        return self._ended_among(entries)

    async def _wait_for(self, entries: list[Entry], timeout: float | None) -> list[Rollout]:
        with anyio.move_on_after(timeout):
            await self._ledger.ends.wait_for(entry.number for entry in entries if not entry.is_finished)
        return self._ended_among(entries)

    def _ended_among(self, entries: list[Entry]) -> list[Rollout]:
        return [self._ledger.handed_out(entry) for entry in entries if entry.is_finished]

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
        attempts = [attempt.record for attempt in self._ledger.entry(rollout_id).tries()][::-1]
        return [arguments.own(attempt) for attempt in page.cut(page.sorted(attempts))]

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
        number = self._ledger.entry(rollout_id).number
        sequence_id = self._spans.last_sequence_id(number) + 1 if sequence_id is None else sequence_id
        ids = {"rollout_id": rollout_id, "attempt_id": attempt_id}
        added = self._add_spans([Span.from_otel(readable_span, **ids, sequence_id=sequence_id)])
        return added[0] if added else None

    def _add_spans(self, spans: Sequence[Span]) -> list[Span]:
        fresh: dict[tuple[int, str, int, str], tuple[Span, int]] = {}
        heard: dict[str, tuple[Entry, Try]] = {}
        for span in map(arguments.span, spans):
            entry = self._ledger.entry(span.rollout_id)
            number, attempt = entry.number, self._ledger.attempt_of_id(entry, span.attempt_id)
            key = (number, span.attempt_id, span.sequence_id, span.span_id)
            if key not in fresh and not self._spans.holds(number, span):
                self._ledger.check_current(entry, attempt)
                fresh[key] = span, self._spans.size_of(span)
                heard[span.rollout_id] = entry, attempt
        for (number, *_), (span, size_bytes) in fresh.items():
            self._spans.add(number, span, size_bytes)
        for entry, attempt in heard.values():
            self._ledger.hear_span(entry, attempt)
        self._spans.evict()
        return [span for span, _ in fresh.values()]

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
        return [self._spans.next_sequence_id(entry.number) for entry in entries]

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
        attempt_id = None if attempt_id is None else self._ledger.attempt(entry, attempt_id).record.attempt_id
        spans = self._spans.of(entry.number, attempt_id)
        return page.cut(page.sorted(queries.matching(spans, conditions, filter_logic)))

    # Resources

    @directs
    def add_resources(self, resources: Resources) -> ResourcesUpdate:
        return self._keep_resources(self._ledger.new_id("rs-", self._resources), resources)

    @directs
    def update_resources(self, resources_id: str, resources: Resources) -> ResourcesUpdate:
        return self._keep_resources(checks.text("resources_id", resources_id), resources)

    def _keep_resources(self, resources_id: str, resources: Resources) -> ResourcesUpdate:
        before = self._resources.get(resources_id)
        now = self._ledger.moment()
        self._resources[resources_id] = update = ResourcesUpdate(
            resources_id=resources_id,
            create_time=before.create_time if before else now,
            update_time=now,
            version=before.version + 1 if before else 1,
            resources=arguments.resources(resources),
        )
        self._latest_resources_id = resources_id
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
        found = page.cut(page.sorted(queries.matching(self._resources.values(), conditions, "and")))
        return [arguments.own_resources(update) for update in found]

    @reads
    def get_resources_by_id(self, resources_id: str) -> ResourcesUpdate | None:
        update = self._resources.get(checks.text("resources_id", resources_id))
        return None if update is None else arguments.own_resources(update)

    @reads
    def get_latest_resources(self) -> ResourcesUpdate | None:
        if self._latest_resources_id is None:
            return None
        return arguments.own_resources(self._resources[self._latest_resources_id])

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
        sets = []
        if status_in is not None:
            sets.append(self._ledger.workers.with_status(checks.members("status_in", status_in, WORKER_STATUSES)))
        conditions = queries.texts(worker_id_contains=worker_id_contains)
        found = queries.select(self._ledger.workers, sets, conditions, filter_logic, page)
        return [arguments.own_worker(worker) for worker in found]

    @reads
    def get_worker_by_id(self, worker_id: str) -> Worker | None:
        row = self._ledger.workers.by_id.get(checks.text("worker_id", worker_id))
        return None if row is None else arguments.own_worker(row.record)

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
        return StoreStatistics(
            name=type(self).__name__,
            total_rollouts=len(self._ledger.rollouts),
            total_attempts=self._ledger.total_attempts,
            total_spans=self._spans.count,
            total_resources=len(self._resources),
            total_workers=len(self._ledger.workers),
            uptime=self._ledger.moment() - self._opened,
            total_span_bytes=self._spans.size_bytes,
            eviction_threshold_bytes=self._spans.limits.eviction,
            safe_threshold_bytes=self._spans.limits.safe,
            memory_capacity_bytes=self._spans.limits.capacity,
            queue_length=len(self._ledger.queue),
            waiters=self._ledger.line.length,
            fenced=self._ledger.fenced,
            evicted=self._spans.evicted,
        )

    def _known_resources(self, resources_id: str | None) -> str | None:
        if checks.optional_text("resources_id", resources_id) is not None and resources_id not in self._resources:
            raise NotFound(f"there are no resources {resources_id!r}; add them first, or leave the id out")
        return resources_id


async def _first(claim: Awaitable[list[AttemptedRollout]]) -> AttemptedRollout | None:
    claimed = await claim
    return claimed[0] if claimed else None


def _instead_of(old: str, value: Sequence[T] | None, new: str, preferred: Sequence[T] | None) -> Sequence[T] | None:
    if value is None:
        return preferred
    warnings.warn(f"{old} is an old name; use {new}", DeprecationWarning, stacklevel=3)
    return value if preferred is None else preferred
