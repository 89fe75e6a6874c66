"""What becomes of rollouts and their attempts in memory: every change of a status is made here.

It knows no messages and waits for nothing: its methods are plain functions, called by the store on valid
arguments. A rollout goes by its row everywhere; rows are numbered in the order of creation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from random import Random
from typing import Any

from msgspec.structs import replace

from lightactors.errors import FencedAttempt, NotFound
from lightactors.training import checks, lifecycle
from lightactors.training.records import Attempt, AttemptedRollout, AttemptStatus, Rollout, RolloutStatus
from lightactors.training.stores import arguments
from lightactors.training.stores.tables import Audience, Entry, Tables, Try
from lightactors.training.stores.waiting import Claimant
from lightactors.training.stores.watchdog import Alarms
from lightactors.training.stores.workers import Workers

LATEST = "latest"
_ID_BYTES = {"ro-": 6, "rs-": 6, "at-": 4}


class Ledger:
    """The rules of rollouts, their attempts, the queue and the workers, over an engine's tables.

    `clock` is what deadlines go by, `now` the time in records.
    """

    def __init__(
        self, tables: Tables, audience: Audience, clock: Callable[[], float], now: Callable[[], float], random: Random
    ) -> None:
        self.clock = clock
        self._now = now
        self._random = random
        self._audience = audience
        self._queued = audience.queued
        self.latest_moment = max(now(), tables.latest_moment())
        self.rollouts = tables.rollouts
        self.queue = tables.queue
        self.finished = tables.finished
        self._tables = tables
        self.workers = Workers(tables.workers)
        self.alarms = Alarms()
        self._held = tables.held

    # What there is

    def find(self, rollout_id: str) -> Entry | None:
        """Return the entry of a rollout; None if there is none."""
        return self.rollouts.find(checks.text("rollout_id", rollout_id))

    def entry(self, rollout_id: str) -> Entry:
        """Return the entry of a rollout; raise `NotFound` if there is none."""
        # Nearly every call comes here, nearly always with an id that there is.
        entry = self.rollouts.find(rollout_id) if type(rollout_id) is str else None
        if entry is None:
            checks.text("rollout_id", rollout_id)
            raise NotFound(
                f"there is no rollout {rollout_id!r}; use the id that this store's enqueue_rollout returned "
                "(a store in memory that was started again has forgotten all)"
            )
        return entry

    def attempt(self, entry: Entry, attempt_id: str) -> Try:
        """Return the attempt of that id, or the latest one."""
        latest = entry.latest
        if latest is not None and attempt_id in (LATEST, latest.record.attempt_id):
            return latest
        return self.attempt_of_id(entry, attempt_id)

    def attempt_of_id(self, entry: Entry, attempt_id: str) -> Try:
        for attempt in self.rollouts.tries(entry):
            if attempt.record.attempt_id == attempt_id:
                return attempt
        checks.text("attempt_id", attempt_id)
        rollout_id = entry.record.rollout_id
        raise NotFound(f"rollout {rollout_id!r} has no attempt {attempt_id!r}; query_attempts lists those it has")

    def handed_out(self, entry: Entry) -> Rollout:
        """Return a snapshot of a rollout, with its latest attempt if there is one."""
        return entry.snapshot() if entry.latest is None else self._attempted(entry)

    def _attempted(self, entry: Entry) -> AttemptedRollout:
        assert entry.latest is not None
        return AttemptedRollout.of(entry.snapshot(), arguments.own(entry.latest.record))

    def moment(self) -> float:
        """Return the time for records, which never goes back: the order of creation is that of start times."""
        now = self._now()
        if now > self.latest_moment:
            self.latest_moment = now
        return self.latest_moment

    def new_id(self, prefix: str, taken: Container[object]) -> str:
        size = _ID_BYTES[prefix]
        fresh = prefix + self._random.getrandbits(8 * size).to_bytes(size, "big").hex()
        return self.new_id(prefix, taken) if fresh in taken else fresh

    # What can happen to it

    def add(self, rollout: Rollout) -> Entry:
        """Take in a new rollout."""
        return self.add_all([rollout])[0]

    def add_all(self, rollouts: Sequence[Rollout]) -> list[Entry]:
        """Take in new rollouts, or none if there is one that can't be kept."""
        prepared = [self.rollouts.prepared(rollout) for rollout in rollouts]
        entries = [self.rollouts.add(*added) for added in zip(rollouts, prepared, strict=True)]
        for entry in entries:
            self._settle(entry, entry.record.status)
        return entries

    def claim(self, limit: int, claimant: Claimant) -> list[AttemptedRollout]:
        """Return what the claimant has claimed already under its claim id, or else `take`."""
        if claimant.claim_id is not None and claimant.worker_id is not None:
            self._audience.call_off(claimant.worker_id)
            if claimed := self._claimed(claimant):
                return [self._attempted(entry) for entry in claimed]
        return self.take(limit, claimant)

    def take(self, limit: int, claimant: Claimant) -> list[AttemptedRollout]:
        """Start attempts at the head of the queue, as many as there are up to `limit`."""
        taken: list[AttemptedRollout] = []
        while len(taken) < limit and (head := self.queue.head()) is not None:
            taken.append(self.begin(head, claimant.worker_id, was_asked=True))
            if head.latest is not None:
                head.latest.claim_id = claimant.claim_id
        if not taken and claimant.worker_id is not None:
            self.workers.asked_in_vain(claimant.worker_id, self.moment())
        return taken

    def give_back(self, worker_id: str, claim_id: str | None) -> list[Entry]:
        """Put what was claimed, or all that a worker is on, into the queue again, and end the wait; return it."""
        self._audience.call_off(worker_id, claim_id)
        held = self._held_by(worker_id) if claim_id is None else self._claimed(Claimant(worker_id, claim_id))
        return self._requeue(held)

    def take_back(self, claimed: Iterable[AttemptedRollout]) -> None:
        """Put claims whose answer nobody took into the queue again, as far as they are current."""
        entries = [(self.find(one.rollout_id), one.attempt.attempt_id) for one in claimed]
        self._requeue([entry for entry, attempt_id in entries if entry is not None and entry.is_under_way(attempt_id)])

    def _requeue(self, entries: list[Entry]) -> list[Entry]:
        """Put rollouts into the queue again whose attempt nobody works on any more: it ends, and counts for nothing."""
        for entry in entries:
            holder = entry.holder
            if entry.latest is not None:
                entry.latest.record = replace(entry.latest.record, end_time=self.moment())
            self.change(entry, {"status": "requeuing"})
            if holder is not None:
                self.workers.leave(holder, "idle", self.moment())
        return entries

    def release(self, worker_id: str) -> list[Attempt]:
        """Give up a worker: end its wait and its attempts; return those."""
        self._audience.call_off(worker_id)
        released = self._held_by(worker_id)
        for entry in released:
            if entry.latest is not None:
                self._become(entry, entry.latest, "unresponsive", {})
        if self.workers.table.get(worker_id) is not None:
            self.workers.leave(worker_id, "unknown", self.moment())
        return [entry.latest.record for entry in released if entry.latest is not None]

    def _claimed(self, claimant: Claimant) -> list[Entry]:
        """Return what a worker is on because of that claim."""
        held = self._held_by(claimant.worker_id)
        return [entry for entry in held if entry.latest is not None and entry.latest.claim_id == claimant.claim_id]

    def _held_by(self, worker_id: str | None) -> list[Entry]:
        """Return what a worker is on, the oldest first."""
        return [] if worker_id is None else list(self._held.of(worker_id))

    def begin(self, entry: Entry, worker_id: str | None, *, was_asked: bool = False) -> AttemptedRollout:
        """Start the next attempt of a rollout; `was_asked`: because its worker asked for work."""
        before, now = entry.latest, self.moment()
        taken = [one.record.attempt_id for one in self.rollouts.tries(entry)] if before else ()
        attempt = Attempt(
            rollout_id=entry.record.rollout_id,
            attempt_id=self.new_id("at-", taken),
            sequence_id=1 if before is None else before.record.sequence_id + 1,
            start_time=now,
            worker_id=worker_id,
        )
        started = self.clock()
        entry.latest = Try(attempt, started, started, before)
        self._tables.totals.attempts += 1
        self.workers.take(attempt, now, was_asked=was_asked)
        self._move(entry, "preparing", now)
        self._hold(entry)
        self.watch(entry)
        return AttemptedRollout.of(entry.snapshot(), attempt)

    def change(self, entry: Entry, changes: dict[str, Any]) -> None:
        """Change fields of a rollout, its status among them."""
        status = changes.pop("status", entry.record.status)
        lifecycle.check_rollout(entry.record, status)
        self.rollouts.put(entry, replace(entry.record, **changes))
        self._move(entry, status, self.moment())
        self._hold(entry)
        self.alarms.clear(entry.number)
        self.watch(entry)

    def report(self, entry: Entry, attempt: Try, changes: dict[str, Any]) -> None:
        """Let an attempt say something about itself, which shows that it is alive."""
        self.check_current(entry, attempt)
        status = changes.pop("status", lifecycle.AFTER_HEARTBEAT[attempt.record.status])
        lifecycle.check_attempt(attempt.record, status)
        attempt.heard = self.clock()
        self._become(entry, attempt, status, changes)

    def hear_span(self, entry: Entry, attempt: Try) -> None:
        """Let an attempt be heard of through a span."""
        status = lifecycle.AFTER_SPAN[attempt.record.status]
        self.report(entry, attempt, {"status": status, "last_heartbeat_time": self.moment()})

    def check_current(self, entry: Entry, attempt: Try) -> None:
        """Raise `FencedAttempt`, and count it, unless the attempt may speak for its rollout."""
        assert entry.latest is not None
        try:
            lifecycle.check_current(entry.record, attempt.record, entry.latest.record)
        except FencedAttempt:
            self._tables.totals.fenced += 1
            raise

    def _become(self, entry: Entry, attempt: Try, status: AttemptStatus, changes: dict[str, Any]) -> None:
        """Change the latest attempt, and its worker and rollout with it."""
        before, now = attempt.record, self.moment()
        end_time = now if status in lifecycle.ENDED else None
        attempt.record = after = replace(before, status=status, end_time=end_time, **changes)
        if before.status != after.status or before.worker_id != after.worker_id:
            self.workers.follow(after, now)
        config = entry.record.config
        given_back = self._given_back(entry) if status in config.retry_condition else 0
        self._move(entry, lifecycle.rollout_after(after, config, given_back), now)
        self._hold(entry)
        self.watch(entry)

    def _given_back(self, entry: Entry) -> int:
        """Count the attempts that were given back; they count for no other rule."""
        return sum(lifecycle.was_given_back(attempt.record) for attempt in self.rollouts.tries(entry))

    def _move(self, entry: Entry, status: RolloutStatus, now: float) -> None:
        rollout = entry.record
        if status == rollout.status:
            return
        end_time = now if status in lifecycle.FINISHED else None
        self.rollouts.put(entry, replace(rollout, status=status, end_time=end_time))
        self._settle(entry, status, rollout.status)

    def _hold(self, entry: Entry) -> None:
        """Keep up who is on a rollout: the worker of its latest attempt, while both are under way."""
        # As `is_under_way` tells, said again: this is for each change of each rollout.
        attempt = None if entry.latest is None else entry.latest.record
        is_held = attempt is not None and attempt.status in lifecycle.ALIVE and entry.record.status in lifecycle.WATCHED
        holder = attempt.worker_id if attempt is not None and is_held else None
        if holder != entry.holder:
            self._held.put(entry, holder)
            entry.holder = holder

    def _settle(self, entry: Entry, status: RolloutStatus, before: RolloutStatus | None = None) -> None:
        """Put a rollout where its status belongs, and wake who waited for that."""
        if status in lifecycle.QUEUEING:
            if self.queue.put(entry):
                self._queued()
        elif before in lifecycle.QUEUEING:
            self.queue.drop(entry)
        if status in lifecycle.FINISHED:
            self.finished.add(entry)
            self._audience.ended(entry)

    # Deadlines

    def expire(self) -> None:
        """End every attempt that is overdue by now."""
        now = self.clock()
        due = [entry for number in self.alarms.due(now) if (entry := self.rollouts.at(number)) is not None]
        # An alarm may be early by some heartbeats, so their order is not yet that of the deadlines.
        for entry in sorted(due, key=lambda entry: (self._deadline(entry), entry.number)):
            attempt = entry.latest
            if attempt is None or self._deadline(entry) == math.inf:
                continue
            if status := lifecycle.overdue(entry.record.config, attempt.started, attempt.heard, now):
                self._become(entry, attempt, status, {})
            else:
                self.watch(entry)

    def seconds_to_deadline(self) -> float | None:
        """Return how long nothing can become overdue; None while nothing can at all."""
        return None if self.alarms.next == math.inf else max(0, self.alarms.next - self.clock())

    def watch(self, entry: Entry) -> None:
        """See to it that somebody looks at the rollout when its attempt may be overdue."""
        config = entry.record.config
        if config.timeout_seconds is None and config.unresponsive_seconds is None:
            return
        moment = self._deadline(entry)
        if moment == math.inf:
            self.alarms.clear(entry.number)
            return
        is_next = moment < self.alarms.next
        self.alarms.set(entry.number, moment)
        if is_next:
            self._audience.earlier_deadline()

    def _deadline(self, entry: Entry) -> float:
        attempt = entry.latest
        if attempt is None or not entry.is_under_way():
            return math.inf
        return lifecycle.deadline(entry.record.config, attempt.started, attempt.heard)
