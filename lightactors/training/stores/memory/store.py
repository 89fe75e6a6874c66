"""The engine in memory: the desk over tables of this process, and those who wait at it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Any, NoReturn

import anyio

from lightactors.actors import Ref, loops, spawn
from lightactors.contract import Eventually, actor
from lightactors.training import checks
from lightactors.training.records import AttemptedRollout, Completions, Rollout, Span
from lightactors.training.stores import arguments, queries
from lightactors.training.stores.contract import claims, watches
from lightactors.training.stores.desk import Desk
from lightactors.training.stores.memory.spans import memory_capacity, memory_limits, span_size
from lightactors.training.stores.memory.tables import MemoryTables
from lightactors.training.stores.tables import Entry
from lightactors.training.stores.waiting import Claimant, Ends, Line
from lightactors.training.stores.watchdog import Nudge, watchdog


def loop_time() -> float:
    """Return the running loop's time, which tests can make virtual; the machine's where no loop runs."""
    try:
        return loops.current().time()
    except RuntimeError:
        return time.monotonic()


@actor
class MemoryStore(Desk):
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
        self._line = Line()
        self._ends = Ends()
        self.queued = self._line.wake
        super().__init__(MemoryTables(limits, span_size_estimator), self, clock, now, random)
        self._clock = clock
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

    # What the rules tell

    def ended(self, entry: Entry) -> None:
        self._ends.reached(entry.number)

    def call_off(self, worker_id: str, claim_id: str | None = None) -> None:
        self._line.call_off(worker_id, claim_id)

    @property
    def waiters(self) -> int:
        return self._line.length

    def earlier_deadline(self) -> None:
        # One nudge is enough until the watchdog asks how long it may sleep.
        if self._watchdog is not None and not self._is_nudged:
            self._is_nudged = True
            self._watchdog.tell_nowait(Nudge())

    def seconds_to_deadline(self) -> float | None:
        self._is_nudged = False
        return super().seconds_to_deadline()

    # Who waits

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
        return self._line.enter(claimant).wait(lambda: self._ledger.take(limit, claimant), timeout)

    @watches
    def query_completions(self, after: int = 0, limit: int = 100, timeout: float | None = 0) -> Eventually[Completions]:
        checks.whole("after", after, least=0)
        checks.whole("limit", limit, least=-1)
        if not queries.check_timeout(timeout) or self._ledger.finished.is_beyond(after):
            return self.finished_after(after, limit)
        return self._wait_for_completions(after, limit, timeout)

    async def _wait_for_completions(self, after: int, limit: int, timeout: float | None) -> Completions:
        with anyio.move_on_after(timeout):
            while not self._ledger.finished.is_beyond(after):
                await self._ends.wait_for_any()
        return self.finished_after(after, limit)

    @watches
    def wait_for_rollouts(
        self, *, rollout_ids: Sequence[str], timeout: float | None = None
    ) -> Eventually[list[Rollout]]:
        may_wait = queries.check_timeout(timeout)
        ids = checks.texts("rollout_ids", rollout_ids)
        entries = [self._ledger.entry(rollout_id) for rollout_id in dict.fromkeys(ids)]
        if may_wait and not all(entry.is_finished for entry in entries):
            return self._wait_for(entries, timeout)
        return self._ended_among(entries)

    async def _wait_for(self, entries: list[Entry], timeout: float | None) -> list[Rollout]:
        with anyio.move_on_after(timeout):
            await self._ends.wait_for(entry.number for entry in entries if not entry.is_finished)
        return self._ended_among(entries)

    def _ended_among(self, entries: list[Entry]) -> list[Rollout]:
        return [self._ledger.handed_out(entry) for entry in entries if entry.is_finished]


async def _first(claim: Awaitable[list[AttemptedRollout]]) -> AttemptedRollout | None:
    claimed = await claim
    return claimed[0] if claimed else None
