"""What becomes of rollouts and their attempts in memory: every change of a status is made here.

It knows no messages and waits for nothing: its methods are plain functions, called by the store on valid
arguments. A rollout goes by its row everywhere; rows are numbered in the order of creation.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from lightactors.errors import FencedAttempt, NotFound
from lightactors.training import checks, lifecycle
from lightactors.training.records import Attempt, AttemptedRollout, AttemptStatus, Rollout, RolloutStatus
from lightactors.training.stores import arguments
from lightactors.training.stores.table import Row, Table
from lightactors.training.stores.waiting import Claimant, Ends, Line
from lightactors.training.stores.watchdog import Alarms
from lightactors.training.stores.workers import Workers

LATEST = "latest"
_ID_BYTES = {"ro-": 6, "rs-": 6, "at-": 4}


class Try(msgspec.Struct, gc=False, eq=False):
    """An attempt, and when it started and was last heard of on the clock that deadlines go by."""

    record: Attempt
    started: float
    heard: float
    before: Try | None
    claim_id: str | None = None  # under which its worker asked for it


class Entry(Row, gc=False, eq=False, kw_only=True):
    """The row of a rollout: its record, and its latest attempt, which leads to those before."""

    record: Rollout
    latest: Try | None = None
    holder: str | None = None  # the worker that is on it

    @property
    def is_finished(self) -> bool:
        return self.record.status in lifecycle.FINISHED

    def tries(self) -> Iterator[Try]:
        """Yield the attempts, the latest first."""
        attempt = self.latest
        while attempt is not None:
            yield attempt
            attempt = attempt.before


class Ledger:
    """Rollouts, their attempts, the queue and the workers.

    `clock` is what deadlines go by, `now` the time in records; `on_earlier_deadline` is called when the next
    deadline becomes an earlier one.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        now: Callable[[], float],
        random: Random,
        on_earlier_deadline: Callable[[], None],
    ) -> None:
        self.clock = clock
        self._now = now
        self._random = random
        self._on_earlier_deadline = on_earlier_deadline
        self._latest_moment = now()
        self.rollouts: Table[Entry] = Table()
        self.queue: OrderedDict[int, Entry] = OrderedDict()
        self.finished: list[Entry] = []
        self.workers = Workers()
        self.alarms = Alarms()
        self.line = Line()
        self.ends = Ends()
        self.total_attempts = 0
        self.fenced = 0
        self._held: dict[str, dict[int, Entry]] = {}  # by worker: what it is on

    # What there is

    def find(self, rollout_id: str) -> Entry | None:
        """Return the entry of a rollout; None if there is none."""
        return self.rollouts.by_id.get(checks.text("rollout_id", rollout_id))

    def entry(self, rollout_id: str) -> Entry:
        """Return the entry of a rollout; raise `NotFound` if there is none."""
        try:
            return self.rollouts.by_id[rollout_id]
        except (KeyError, TypeError):
            checks.text("rollout_id", rollout_id)
            raise NotFound(
                f"there is no rollout {rollout_id!r}; use the id that this store's enqueue_rollout returned "
                "(a store in memory that was started again has forgotten all)"
            ) from None

    def attempt(self, entry: Entry, attempt_id: str) -> Try:
        """Return the attempt of that id, or the latest one."""
        latest = entry.latest
        if latest is not None and attempt_id in (LATEST, latest.record.attempt_id):
            return latest
        return self.attempt_of_id(entry, attempt_id)

    def attempt_of_id(self, entry: Entry, attempt_id: str) -> Try:
        for attempt in entry.tries():
            if attempt.record.attempt_id == attempt_id:
                return attempt
        checks.text("attempt_id", attempt_id)
        rollout_id = entry.record.rollout_id
        raise NotFound(f"rollout {rollout_id!r} has no attempt {attempt_id!r}; query_attempts lists those it has")

    def handed_out(self, entry: Entry) -> Rollout:
        """Return a snapshot of a rollout, with its latest attempt if there is one."""
        return arguments.own(entry.record) if entry.latest is None else self._attempted(entry)

    def _attempted(self, entry: Entry) -> AttemptedRollout:
        assert entry.latest is not None
        return AttemptedRollout.of(arguments.own(entry.record), arguments.own(entry.latest.record))

    def moment(self) -> float:
        """Return the time for records, which never goes back: the order of creation is that of start times."""
        now = self._now()
        if now > self._latest_moment:
            self._latest_moment = now
        return self._latest_moment

    def new_id(self, prefix: str, taken: Container[object]) -> str:
        size = _ID_BYTES[prefix]
        fresh = prefix + self._random.getrandbits(8 * size).to_bytes(size, "big").hex()
        return self.new_id(prefix, taken) if fresh in taken else fresh

    # What can happen to it

    def add(self, rollout: Rollout) -> Entry:
        """Take in a new rollout."""
        entry = self.rollouts.add(rollout.rollout_id, Entry(number=len(self.rollouts.rows), record=rollout))
        self._settle(entry, rollout.status)
        return entry

    def claim(self, limit: int, claimant: Claimant) -> list[AttemptedRollout]:
        """Return what the claimant has claimed already under its claim id, or else `take`."""
        if claimant.claim_id is not None and claimant.worker_id is not None:
            self.line.call_off(claimant.worker_id)
            if claimed := self._claimed(claimant):
                return [self._attempted(entry) for entry in claimed]
        return self.take(limit, claimant)

    def take(self, limit: int, claimant: Claimant) -> list[AttemptedRollout]:
        """Start attempts at the head of the queue, as many as there are up to `limit`."""
        taken: list[AttemptedRollout] = []
        while self.queue and len(taken) < limit:
            head = next(iter(self.queue.values()))
            taken.append(self.begin(head, claimant.worker_id, was_asked=True))
            if head.latest is not None:
                head.latest.claim_id = claimant.claim_id
        if not taken and claimant.worker_id is not None:
            self.workers.asked_in_vain(claimant.worker_id, self.moment())
        return taken

    def give_back(self, claimant: Claimant) -> list[Entry]:
        """Put what was claimed into the queue again, and end the claim's wait; return it."""
        worker_id = claimant.worker_id
        assert worker_id is not None
        self.line.call_off(worker_id, claimant.claim_id)
        given_back = self._claimed(claimant)
        for entry in given_back:
            self.change(entry, {"status": "requeuing"})
        if given_back:
            self.workers.leave(worker_id, "idle", self.moment())
        return given_back

    def release(self, worker_id: str) -> list[Attempt]:
        """Give up a worker: end its wait and its attempts; return those."""
        self.line.call_off(worker_id)
        released = self._held_by(worker_id)
        for entry in released:
            if entry.latest is not None:
                self._become(entry, entry.latest, "unresponsive", {})
        if worker_id in self.workers.by_id:
            self.workers.leave(worker_id, "unknown", self.moment())
        return [entry.latest.record for entry in released if entry.latest is not None]

    def _claimed(self, claimant: Claimant) -> list[Entry]:
        """Return what a worker is on because of that claim."""
        held = self._held_by(claimant.worker_id)
        return [entry for entry in held if entry.latest is not None and entry.latest.claim_id == claimant.claim_id]

    def _held_by(self, worker_id: str | None) -> list[Entry]:
        """Return what a worker is on, the oldest first."""
        held = self._held.get(worker_id) if worker_id is not None else None
        return [held[number] for number in sorted(held)] if held else []

    def begin(self, entry: Entry, worker_id: str | None, *, was_asked: bool = False) -> AttemptedRollout:
        """Start the next attempt of a rollout; `was_asked`: because its worker asked for work."""
        before, now = entry.latest, self.moment()
        attempt = Attempt(
            rollout_id=entry.record.rollout_id,
            attempt_id=self.new_id("at-", [one.record.attempt_id for one in entry.tries()] if before else ()),
            sequence_id=1 if before is None else before.record.sequence_id + 1,
            start_time=now,
            worker_id=worker_id,
        )
        started = self.clock()
        entry.latest = Try(attempt, started, started, before)
        self.total_attempts += 1
        self.workers.take(attempt, now, was_asked=was_asked)
        self._move(entry, "preparing", now)
        self._hold(entry)
        self._watch(entry)
        return AttemptedRollout.of(arguments.own(entry.record), attempt)

    def change(self, entry: Entry, changes: dict[str, Any]) -> None:
        """Change fields of a rollout, its status among them."""
        status = changes.pop("status", entry.record.status)
        lifecycle.check_rollout(entry.record, status)
        self.rollouts.put(entry, replace(entry.record, **changes))
        self._move(entry, status, self.moment())
        self._hold(entry)
        self.alarms.clear(entry.number)
        self._watch(entry)

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
            self.fenced += 1
            raise

    def _become(self, entry: Entry, attempt: Try, status: AttemptStatus, changes: dict[str, Any]) -> None:
        """Change the latest attempt, and its worker and rollout with it."""
        before, now = attempt.record, self.moment()
        end_time = now if status in lifecycle.ENDED else None
        attempt.record = after = replace(before, status=status, end_time=end_time, **changes)
        if before.status != after.status or before.worker_id != after.worker_id:
            self.workers.follow(after, now)
        self._move(entry, lifecycle.rollout_after(after, entry.record.config), now)
        self._hold(entry)
        self._watch(entry)

    def _move(self, entry: Entry, status: RolloutStatus, now: float) -> None:
        rollout = entry.record
        if status == rollout.status:
            return
        end_time = now if status in lifecycle.FINISHED else None
        self.rollouts.put(entry, replace(rollout, status=status, end_time=end_time))
        self._settle(entry, status)

    def _hold(self, entry: Entry) -> None:
        """Keep up who is on a rollout: the worker of its latest attempt, while both are under way."""
        attempt = None if entry.latest is None else entry.latest.record
        is_held = attempt is not None and attempt.status in lifecycle.ALIVE and entry.record.status in lifecycle.WATCHED
        holder = attempt.worker_id if attempt is not None and is_held else None
        if holder == entry.holder:
            return
        if entry.holder is not None:
            held = self._held[entry.holder]
            del held[entry.number]
            if not held:
                del self._held[entry.holder]
        if holder is not None:
            self._held.setdefault(holder, {})[entry.number] = entry
        entry.holder = holder

    def _settle(self, entry: Entry, status: RolloutStatus) -> None:
        """Put a rollout where its status belongs, and wake who waited for that."""
        if status not in lifecycle.QUEUEING:
            self.queue.pop(entry.number, None)
        elif entry.number not in self.queue:
            self.queue[entry.number] = entry
            self.line.wake()
        if status in lifecycle.FINISHED:
            self.finished.append(entry)
            self.ends.reached(entry.number)

    # Deadlines

    def expire(self) -> None:
        """End every attempt that is overdue by now."""
        now = self.clock()
        due = [self.rollouts.rows[number] for number in self.alarms.due(now)]
        # An alarm may be early by some heartbeats, so their order is not yet that of the deadlines.
        for entry in sorted(due, key=lambda entry: (self._deadline(entry), entry.number)):
            attempt = entry.latest
            assert attempt is not None
            if status := lifecycle.overdue(entry.record.config, attempt.started, attempt.heard, now):
                self._become(entry, attempt, status, {})
            else:
                self._watch(entry)

    def seconds_to_deadline(self) -> float | None:
        """Return how long nothing can become overdue; None while nothing can at all."""
        return None if self.alarms.next == math.inf else max(0, self.alarms.next - self.clock())

    def _watch(self, entry: Entry) -> None:
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
            self._on_earlier_deadline()

    def _deadline(self, entry: Entry) -> float:
        rollout, attempt = entry.record, entry.latest
        if attempt is None or rollout.status not in lifecycle.WATCHED or attempt.record.status not in lifecycle.ALIVE:
            return math.inf
        return lifecycle.deadline(rollout.config, attempt.started, attempt.heard)
