"""Who serves at the durable store's desk: the rules over a database's tables, and those who wait for something.

A clerk belongs to one thread and knows no other: what it is asked it answers at once, or it notes who waits. All that
happens between `begin` and `committed` is forgotten by `rolled_back`: until then nobody is told anything.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from typing import Any, cast

from lightactors.actors.mailbox import Failure, answer_together
from lightactors.contract import Eventually, contract_of
from lightactors.errors import StoreDamaged, StoreError, StoreUnavailable
from lightactors.training import checks
from lightactors.training.records import AttemptedRollout, Completions, Rollout
from lightactors.training.stores import arguments, queries
from lightactors.training.stores.contract import claims, watches
from lightactors.training.stores.desk import Desk
from lightactors.training.stores.retention import Retention
from lightactors.training.stores.sql import pruning
from lightactors.training.stores.sql.tables import SqlTables
from lightactors.training.stores.sql.waits import Call, ClaimWait, CompletionsWait, EndsWait, Wait, who_may_call_off
from lightactors.training.stores.tables import Entry

_SECONDS_BETWEEN_LEASES = 1.0
"""How often to look for attempts that others have begun."""

_SPACE_BYTES = 2**20
"""How much space is given back in one transaction."""


class _Audience:
    """What the rules tell, until the clerk acts on it."""

    def __init__(self) -> None:
        self.has_work = False
        self.is_news = False  # for other nodes
        self.ended_ids: set[str] = set()
        self.called_off: list[tuple[str, str | None]] = []
        self.waiters = 0

    def queued(self) -> None:
        self.has_work = self.is_news = True

    def ended(self, entry: Entry) -> None:
        self.is_news = True
        self.ended_ids.add(entry.record.rollout_id)

    def earlier_deadline(self) -> None:
        """The writer asks how long it may sleep, each time."""

    def call_off(self, worker_id: str, claim_id: str | None = None) -> None:
        self.called_off.append((worker_id, claim_id))


class Clerk(Desk):
    """The desk of one thread."""

    def __init__(
        self,
        tables: SqlTables,
        clock: Callable[[], float],
        now: Callable[[], float],
        random: Random | None,
        name: str,
    ) -> None:
        self.audience = _Audience()
        super().__init__(tables, self.audience, clock, now, random)
        tables.clock = clock
        self.name = name
        self.tables = tables
        self._functions = {name: method.function for name, method in contract_of(Clerk, declare=True).methods.items()}
        self._functions |= {"give_up": Clerk.give_up, "expire": Clerk.expire}
        self._functions |= {"prune": Clerk.prune, "give_back_space": Clerk.give_back_space}
        self._waits: dict[Call, Wait] = {}  # in the order of coming
        self._claim_of: dict[str, Call] = {}  # by worker: the claim that waits and can be called off
        self._deadlines: list[tuple[float, int, Call]] = []
        self._tickets = itertools.count()
        # Ends and prunings:
        self._seen_ends = (0, 0)  # as of the last look
        self._looked_at = (0, 0)  # as of the last look whose transaction was committed
        # What is owed until it was done in a transaction that was committed:
        self._has_to_look = True
        self._has_to_look_at_leases = True
        self._next_look_at_leases = 0.0
        # Of this transaction:
        self._new: dict[Call, Wait] = {}
        self._new_claim_of: dict[str, Call] = {}
        self._answers: dict[Call, object] = {}
        self._line: deque[Call] | None = None
        self._has_looked_at_leases = False

    # A transaction

    def begin(self) -> None:
        self._new.clear()
        self._new_claim_of.clear()
        self._answers.clear()
        self._line = None
        self._has_looked_at_leases = False
        self.audience.has_work = self.audience.is_news = False
        self.audience.ended_ids.clear()
        self.audience.called_off.clear()
        self._ledger.alarms.begin()

    def carry_out(self, call: Call) -> None:
        """Answer a call, or note that it waits; raise only what concerns the whole transaction."""
        try:
            value = self._functions[call.name](self, *call.args, **call.kwargs)
        except (StoreUnavailable, StoreDamaged):
            raise
        except StoreError as error:
            value = Failure(error)
        # Whom it called off waited before this call did.
        self._call_off()
        if isinstance(value, (ClaimWait, EndsWait, CompletionsWait)):
            self._new[call] = value
            if worker_id := who_may_call_off(value):
                self._new_claim_of[worker_id] = call
            if self._line is not None and isinstance(value, ClaimWait):
                self._line.append(call)
        else:
            self._answers[call] = value
        self._hand_out()

    def foresee(self, calls: Sequence[Call]) -> None:
        """Let the tables fetch together what calls will look at, where each look costs a journey."""
        if not self.tables.database.keeps:
            self.tables.foresee([(call.name, call.args, call.kwargs) for call in calls], self.audience.waiters)

    def prune(self, retention: Retention) -> int:
        """Remove a small part of what is not to be kept; return how many rollouts went."""
        return pruning.prune(self.tables, retention, self._ledger.moment())

    def give_back_space(self) -> bool:
        """Give back to the system a small part of the space that is free; tell whether there is more."""
        return self.tables.database.give_back_space(_SPACE_BYTES)

    def expire(self) -> None:
        """End every attempt that is overdue by now."""
        if self.seconds_to_deadline() == 0:
            super().expire()
            self._hand_out()

    def _call_off(self) -> None:
        for worker_id, claim_id in self.audience.called_off:
            for call in (self._claim_of.get(worker_id), self._new_claim_of.get(worker_id)):
                wait = None if call is None else self._wait_of(call)
                if call is not None and isinstance(wait, ClaimWait) and wait.is_called_off_by(worker_id, claim_id):
                    self._answers.setdefault(call, wait.end(self))
        self.audience.called_off.clear()

    def _wait_of(self, call: Call) -> Wait | None:
        return self._new.get(call) or self._waits.get(call)

    def _hand_out(self) -> None:
        """Give what is in the queue to those who wait, first come, first served."""
        if not self.audience.has_work:
            return
        self.audience.has_work = False
        if self._line is None:
            everybody = itertools.chain(self._waits.items(), self._new.items())
            self._line = deque(call for call, wait in everybody if isinstance(wait, ClaimWait))
        while self._line and self._ledger.queue.head() is not None:
            call = self._line.popleft()
            wait = self._wait_of(call)
            if call not in self._answers and not call.is_given_up and isinstance(wait, ClaimWait):
                self._answers[call] = wait.answer(self._ledger.take(wait.limit, wait.claimant))

    def finish(self) -> None:
        """Write everything, and answer those whose ends have come."""
        self.tables.flush(self._ledger.latest_moment)
        self._settle()

    def _settle(self) -> None:
        ended = self.audience.ended_ids
        if not ended:
            return
        for call, wait in [*self._waits.items(), *self._new.items()]:
            if call in self._answers:
                continue
            if isinstance(wait, EndsWait):
                if wait.missing <= ended:
                    self._answers[call] = wait.end(self)
            elif isinstance(wait, CompletionsWait) and self._ledger.finished.is_beyond(wait.after):
                self._answers[call] = wait.end(self)

    def committed(self) -> None:
        """Tell everybody what has come of the transaction."""
        self._has_to_look = False
        self._looked_at = self._seen_ends
        if self._has_looked_at_leases:
            self._has_to_look_at_leases = False
            self._next_look_at_leases = time.monotonic() + _SECONDS_BETWEEN_LEASES
        for wait in [*self._waits.values(), *self._new.values()]:
            if isinstance(wait, EndsWait):
                wait.missing -= self.audience.ended_ids
        for call, wait in self._new.items():
            self._enter(call, wait)
        for call, value in self._answers.items():
            self._leave(call)
            call.value = value
        # Before anybody hears of it: who asks next shall find it so.
        self.audience.waiters = sum(isinstance(wait, ClaimWait) for wait in self._waits.values())
        answer_together((call.ask, value) for call, value in self._answers.items() if call.ask is not None)
        self.begin()

    def rolled_back(self) -> None:
        """Forget the transaction."""
        self._ledger.alarms.roll_back()
        self.begin()

    def _enter(self, call: Call, wait: Wait) -> None:
        self._waits[call] = wait
        if wait.timeout is not None:
            heapq.heappush(self._deadlines, (call.received + wait.timeout, next(self._tickets), call))
        if worker_id := who_may_call_off(wait):
            self._claim_of[worker_id] = call

    def _leave(self, call: Call) -> None:
        # Who was answered in time shall not be kept until that is over.
        if len(self._deadlines) > 2 * len(self._waits) + 64:
            self._deadlines = [one for one in self._deadlines if one[2] in self._waits]
            heapq.heapify(self._deadlines)
        wait = self._waits.pop(call, None)
        if isinstance(wait, ClaimWait) and self._claim_of.get(wait.claimant.worker_id or "") is call:
            del self._claim_of[wait.claimant.worker_id or ""]

    # Those who wait

    @property
    def waiting(self) -> list[Call]:
        return list(self._waits)

    @property
    def next_timeout(self) -> float:
        """The moment at which the next wait is over, on the clock of `received`; infinite for never."""
        while self._deadlines and self._deadlines[0][2] not in self._waits:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else math.inf

    def overdue(self, now: float) -> list[Call]:
        """Let those go whose time is over, and return them: their answer can't be had."""
        due: list[Call] = []
        while self.next_timeout <= now:
            _, _, call = heapq.heappop(self._deadlines)
            self._leave(call)
            due.append(call)
        return due

    def time_out(self, now: float) -> None:
        """Answer those whose time is over."""
        due: list[tuple[float, int, Call]] = []
        while self.next_timeout <= now:
            due.append(heapq.heappop(self._deadlines))
        for one in due:
            # Should this transaction be rolled back, they are due again.
            heapq.heappush(self._deadlines, one)
            self._answers.setdefault(one[2], self._waits[one[2]].end(self))

    def give_up(self, call: Call) -> None:
        """Let a call go that nobody waits for any more; what it has claimed goes back."""
        if call in self._waits or call in self._new:
            self._answers[call] = None
        value = self._answers.get(call, call.value)
        claimed = value if isinstance(value, list) else [value]
        if call.name in ("dequeue_rollout", "dequeue_many_rollouts"):
            self._ledger.take_back([one for one in claimed if isinstance(one, AttemptedRollout)])
            self._hand_out()

    def look_around(self, now: float, *, others_wrote: bool) -> None:
        """See what others have done; what is rolled back, or comes too early for leases, is still to be done later."""
        if others_wrote:
            self.tables.forget()
            self._ledger.latest_moment = max(self._ledger.latest_moment, self.tables.latest_moment())
            self._has_to_look = self._has_to_look_at_leases = True
        if self._has_to_look:
            self._look()
        if now >= self.next_look_at_leases:
            self._has_looked_at_leases = True
            for entry in self.tables.rollouts.leased_elsewhere():
                self._ledger.watch(entry)

    @property
    def next_look_at_leases(self) -> float:
        """The moment at which to look for attempts that others have begun; infinite while there are none."""
        return self._next_look_at_leases if self._has_to_look_at_leases else math.inf

    def _look(self) -> None:
        self.audience.has_work = True
        self.tables.queue.wanted = max(1, self.audience.waiters)
        self.audience.ended_ids.update(self._ended_elsewhere())
        self._hand_out()

    def _ended_elsewhere(self) -> Iterable[str]:
        """Return the ids of rollouts that have ended, or gone, since the last look, if anybody waits for any."""
        counters = self.tables.counters
        before, self._seen_ends = self._looked_at, (counters["finished"], counters["pruned"])
        if before == self._seen_ends or not any(
            isinstance(w, (EndsWait, CompletionsWait)) for w in self._waits.values()
        ):
            return ()
        ended = self.tables.finished.ids_after(before[0])
        if before[1] == self._seen_ends[1]:
            return ended
        missing = {i for wait in self._waits.values() if isinstance(wait, EndsWait) for i in wait.missing}
        return {*ended, *(missing - self.tables.rollouts.open_among(missing))}

    # The methods that may wait

    @claims
    def dequeue_rollout(
        self, worker_id: str | None = None, timeout: float | None = 0, claim_id: str | None = None
    ) -> Eventually[AttemptedRollout | None]:
        claimed: AttemptedRollout | None = self._claim(1, worker_id, timeout, claim_id, is_single=True)
        return claimed

    @claims
    def dequeue_many_rollouts(
        self,
        limit: int = 1,
        worker_id: str | None = None,
        timeout: float | None = 0,
        claim_id: str | None = None,
    ) -> Eventually[list[AttemptedRollout]]:
        claimed: list[AttemptedRollout] = self._claim(limit, worker_id, timeout, claim_id, is_single=False)
        return claimed

    def _claim(
        self, limit: int, worker_id: str | None, timeout: float | None, claim_id: str | None, *, is_single: bool
    ) -> Any:
        may_wait = queries.check_timeout(timeout)
        claimant = arguments.claimant(worker_id, claim_id)
        wait = ClaimWait(limit, claimant, timeout, is_single=is_single)
        if checks.whole("limit", limit) <= 0:
            return wait.answer([])
        claimed = self._ledger.claim(limit, claimant)
        return wait.answer(claimed) if claimed or not may_wait else wait

    @watches
    def query_completions(self, after: int = 0, limit: int = 100, timeout: float | None = 0) -> Eventually[Completions]:
        checks.whole("after", after, least=0)
        checks.whole("limit", limit, least=-1)
        if not queries.check_timeout(timeout) or self._ledger.finished.is_beyond(after):
            return self.finished_after(after, limit)
        return _later(CompletionsWait(after, limit, timeout))

    @watches
    def wait_for_rollouts(
        self, *, rollout_ids: Sequence[str], timeout: float | None = None
    ) -> Eventually[list[Rollout]]:
        may_wait = queries.check_timeout(timeout)
        ids = list(dict.fromkeys(checks.texts("rollout_ids", rollout_ids)))
        self.tables.rollouts.prefetch(ids)
        missing = {rollout_id for rollout_id in ids if not self._ledger.entry(rollout_id).is_finished}
        return _later(EndsWait(ids, missing, timeout)) if may_wait and missing else self.finished_among(ids)

    def finished_among(self, rollout_ids: Sequence[str]) -> list[Rollout]:
        """Return those of the rollouts that are finished."""
        self.tables.rollouts.prefetch(rollout_ids)
        entries = (self._ledger.find(rollout_id) for rollout_id in rollout_ids)
        return [self._ledger.handed_out(entry) for entry in entries if entry is not None and entry.is_finished]


def _later(wait: Wait) -> Awaitable[Any]:
    """Return a wait in place of the answer that it will have."""
    return cast("Awaitable[Any]", wait)
