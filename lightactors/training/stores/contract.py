"""The store's contract: every rollout, attempt, span and resource of a run, and the queue between its parts.

Each call is atomic: it happens as a whole or raises a `StoreError` (a `ValueError` too) and changes nothing.
Everything handed out is a frozen snapshot. An algorithm or a runner takes a `Store` and need not know whether
that is an object, a local ref or a remote one.

Listings are in the order of creation unless `sort_by` names another number or string field; with
`sort_order="desc"` they are exactly reversed, and None comes before every value. A `limit` of -1 is none.
Filters combine with AND, or with OR where `filter_logic="or"`. Durations are seconds.

Over a link that may be lost, everything that reads or reports may simply be asked again. What puts something in
may not, except with an id of the caller's own: `rollout_id` of an enqueue, `claim_id` of a claim. A runner's token
lets it claim, report and give back; what else changes something is the algorithm's; a viewer may only read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import UNSET as UNSET
from msgspec import UnsetType

from lightactors.contract import Eventually, PythonOnly, actor, handler
from lightactors.training.otel import ReadableSpan
from lightactors.training.records import (
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

Logic: TypeAlias = Literal["and", "or"]
Order: TypeAlias = Literal["asc", "desc"]

# What a method is to a caller who may have lost its answer, and who may call it; an engine declares the same.
reads = handler(idempotent=True, roles=("runner", "algorithm", "viewer"))
watches = handler(idempotent=True, interleaved=True, roles=("runner", "algorithm", "viewer"))
claims = handler(interleaved=True, roles=("runner", "algorithm"))
begins = handler(roles=("runner", "algorithm"))
reports = handler(idempotent=True, roles=("runner", "algorithm"))
directs = handler(roles=("algorithm",))


@actor
class Store(ABC):
    """What every engine of the store does (see the module)."""

    # Rollouts in and out of the queue

    @begins
    @abstractmethod
    def start_rollout(
        self,
        input: Any,
        mode: Mode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: Mapping[str, Any] | None = None,
        worker_id: str | None = None,
    ) -> AttemptedRollout:
        """Create a rollout with its first attempt, both `preparing`, past the queue.

        The rest is as with `enqueue_rollout`.
        """

    @directs
    @abstractmethod
    def enqueue_rollout(
        self,
        input: Any,
        mode: Mode | None = None,
        resources_id: str | None = None,
        config: RolloutConfig | None = None,
        metadata: Mapping[str, Any] | None = None,
        rollout_id: str | None = None,
    ) -> Rollout:
        """Put a new rollout at the tail of the queue.

        `resources_id` None means the latest resources at this moment. `metadata` is copied; `input` is kept as
        it is. With a `rollout_id` of your own the call may be repeated: the rollout that has it is returned.

        Raises `NotFound` for unknown resources, `Conflict` for a `rollout_id` taken by another task.
        """

    @directs
    @abstractmethod
    def enqueue_many_rollouts(self, requests: Sequence[EnqueueRolloutRequest]) -> list[Rollout]:
        """Put new rollouts at the tail of the queue in this order, all or none (see `enqueue_rollout`)."""

    @claims
    @abstractmethod
    def dequeue_rollout(
        self, worker_id: str | None = None, timeout: float | None = 0, claim_id: str | None = None
    ) -> Eventually[AttemptedRollout | None]:
        """Claim the head of the queue with a new attempt; the rollout becomes `preparing`.

        Waits up to `timeout` for work, None for ever, and returns None if there is none. Who waits longest is
        waked first. Finding nothing makes the worker idle.

        With a `claim_id`, new for each claim of a worker, no answer that is lost loses a rollout: asked again with
        the same one, it gives the same claim again as long as that is current, and ends a wait of the worker that
        is still under way. Who gives its wait up calls `give_back`. Without, a claim whose answer is lost or
        crosses a cancellation is nobody's until its deadline.
        """

    @claims
    @abstractmethod
    def dequeue_many_rollouts(
        self,
        limit: int = 1,
        worker_id: str | None = None,
        timeout: float | None = 0,
        claim_id: str | None = None,
    ) -> Eventually[list[AttemptedRollout]]:
        """Claim up to `limit` rollouts, none if it is 0 or less; wait as `dequeue_rollout` while there is not one.

        Asked again with the same `claim_id`, it gives those of the claim that are still current.
        """

    @reports
    @abstractmethod
    def give_back(self, worker_id: str, claim_id: str | None = None) -> list[Rollout]:
        """Take a claim back that nobody will work on; return the rollouts that are requeuing by this.

        Without a `claim_id`, all that the worker is on. What is given back costs no attempt: its own gets an end
        time, keeps its status and does not count for `max_attempts`. The worker's wait, if it still waits under this
        `claim_id` or any, ends with nothing.
        """

    @begins
    @abstractmethod
    def start_attempt(self, rollout_id: str, worker_id: str | None = None) -> AttemptedRollout:
        """Start another attempt past the queue and past `max_attempts`; the one before may report no more.

        Raises `NotFound`, and `InvalidTransition` for a finished rollout.
        """

    # Rollouts

    @reads
    @abstractmethod
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
        """List rollouts, oldest first; those that were attempted as `AttemptedRollout`.

        A page in this order, or by `start_time`, costs what it holds, with the filters by status and id too.
        `rollout_id_contains` looks at every candidate, and sorting by another field sorts all that match.
        `status` and `rollout_ids` are old names of `status_in` and `rollout_id_in`.
        """

    @watches
    @abstractmethod
    def query_completions(self, after: int = 0, limit: int = 100, timeout: float | None = 0) -> Eventually[Completions]:
        """List finished rollouts in the order of their ends, beginning behind the cursor `after`.

        Each finished rollout comes exactly once to who goes on from the cursor of the last answer. Waits up to
        `timeout`, None for ever, while there is none.
        """

    @reads
    @abstractmethod
    def get_rollout_by_id(self, rollout_id: str) -> Rollout | None:
        """Return the rollout, as `AttemptedRollout` if it was attempted; None if there is none."""

    @watches
    @abstractmethod
    def wait_for_rollouts(
        self, *, rollout_ids: Sequence[str], timeout: float | None = None
    ) -> Eventually[list[Rollout]]:
        """Wait until all of them are finished or `timeout` is over; return the finished ones in the order given.

        `timeout=0` asks once. Raises `NotFound` for an id unknown.
        """

    @directs
    @abstractmethod
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
        """Change what is given. A queueing status puts the rollout at the tail of the queue unless it is in it.

        Finishing a rollout ends no attempt of it: that one may only report no more. Raises `NotFound`, and
        `InvalidTransition` for another status of a finished rollout.
        """

    # Attempts

    @reads
    @abstractmethod
    def query_attempts(
        self,
        rollout_id: str,
        *,
        sort_by: str | None = "sequence_id",
        sort_order: Order = "asc",
        limit: int = -1,
        offset: int = 0,
    ) -> list[Attempt]:
        """List the attempts of a rollout; raise `NotFound` if there is no such rollout."""

    @reads
    @abstractmethod
    def get_latest_attempt(self, rollout_id: str) -> Attempt | None:
        """Return the latest attempt; None if there was none, or no such rollout."""

    @reports
    @abstractmethod
    def update_attempt(
        self,
        rollout_id: str,
        attempt_id: str,
        status: AttemptStatus | UnsetType = UNSET,
        worker_id: str | UnsetType = UNSET,
        last_heartbeat_time: float | UnsetType = UNSET,
        metadata: Mapping[str, Any] | UnsetType | None = UNSET,
    ) -> Attempt:
        """Change what is given; `attempt_id` may be `"latest"`.

        The status of the latest attempt decides its rollout's (`lifecycle.rollout_after`) and its worker's. A
        `status` or `last_heartbeat_time` shows that the attempt is alive. Repeating what is already so changes
        nothing; `metadata` may be changed at any time.

        Raises `NotFound`, `InvalidTransition`, and `FencedAttempt` where the attempt has ended, the rollout is
        finished or another attempt took its place.
        """

    # Spans

    @reports
    @abstractmethod
    def add_span(self, span: Span) -> Span | None:
        """Keep a span and hear its attempt: attempt and rollout become `running`.

        Returns None for a duplicate: the same attempt, sequence and span id. Raises `NotFound`, and
        `FencedAttempt` as `update_attempt` does.
        """

    @reports
    @abstractmethod
    def add_many_spans(self, spans: Sequence[Span]) -> list[Span]:
        """Keep spans of any attempts, all or none, and return them without the duplicates (see `add_span`)."""

    @begins
    @abstractmethod
    def add_otel_span(
        self, rollout_id: str, attempt_id: str, readable_span: PythonOnly[ReadableSpan], sequence_id: int | None = None
    ) -> Span | None:
        """Keep a span of OpenTelemetry's SDK, with the next sequence id unless one is given (see `add_span`)."""

    @reports
    @abstractmethod
    def get_next_span_sequence_id(self, rollout_id: str, attempt_id: str) -> int:
        """Return 1, 2, …: above all that were given out before, or came with a span, in this rollout."""

    @reports
    @abstractmethod
    def get_many_span_sequence_ids(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """Return a sequence id for each pair of rollout and attempt id, all or none."""

    @reads
    @abstractmethod
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
        """List the spans of a rollout or of one attempt, which may be `"latest"`.

        `filter_logic` does not touch the rollout and the attempt: they always apply. Raises `NotFound`, and
        `SpansEvicted` where spans asked for were given up to keep memory bounded.
        """

    # Resources

    @directs
    @abstractmethod
    def add_resources(self, resources: Resources) -> ResourcesUpdate:
        """Keep a snapshot under a new id; it becomes the latest."""

    @directs
    @abstractmethod
    def update_resources(self, resources_id: str, resources: Resources) -> ResourcesUpdate:
        """Keep the next version of a snapshot; it becomes the latest. An id not taken yet begins with version 1."""

    @reads
    @abstractmethod
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
        """List the latest version of each snapshot."""

    @reads
    @abstractmethod
    def get_resources_by_id(self, resources_id: str) -> ResourcesUpdate | None:
        """Return the latest version of a snapshot; None if there is none."""

    @reads
    @abstractmethod
    def get_latest_resources(self) -> ResourcesUpdate | None:
        """Return what was added or updated last; None if nothing was."""

    # Workers

    @reads
    @abstractmethod
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
        """List the workers, in the order in which they were first heard of."""

    @reads
    @abstractmethod
    def get_worker_by_id(self, worker_id: str) -> Worker | None:
        """Return the worker; None if nothing was heard of it."""

    @reports
    @abstractmethod
    def update_worker(self, worker_id: str, heartbeat_stats: Mapping[str, Any] | UnsetType = UNSET) -> Worker:
        """Record a heartbeat of the worker itself, no more: its status follows its attempts."""

    @begins
    @abstractmethod
    def release_worker(self, worker_id: str) -> list[Attempt]:
        """Give up a worker whose process is gone: its current attempts are `unresponsive` at once; return them.

        They are retried where their config says so. The worker becomes `unknown`, and waits for work no more. For
        whoever sees processes end; call it before another one takes the same id.
        """

    @reads
    @abstractmethod
    def statistics(self) -> StoreStatistics:
        """Count what the store holds and did."""
