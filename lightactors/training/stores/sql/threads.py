"""The threads of the durable store: one that writes, in transactions of whatever has come, and some that read."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue

from lightactors.actors.mailbox import Failure, answer_together
from lightactors.errors import StoreError, StoreUnavailable
from lightactors.training.stores.sql.clerk import Clerk
from lightactors.training.stores.sql.database import Database, InDoubt, Interrupted
from lightactors.training.stores.sql.tables import SqlTables
from lightactors.training.stores.sql.waits import Call

logger = logging.getLogger("lightactors.store")

_MOST = 1000
"""Calls in one transaction at most."""

_SWEEP_SECONDS = 1.0
"""How often the writer looks for what others have written, when nobody tells it."""

_PAUSES = (0.05, 1.0)
"""Seconds between two attempts at a database that can't be had, at first and at most."""

_JOIN_SECONDS = 10.0

MakeClerk = Callable[[SqlTables], Clerk]


class _Closing(Exception):
    """The store is being closed while its database can't be had."""


class _Trial:
    """A transaction that is tried until it is committed, or its calls have waited for too long."""

    def __init__(self, calls: list[Call], patience: float) -> None:
        self.calls = calls
        self.deadline = (calls[0].received if calls else time.monotonic()) + patience
        self.pause = _PAUSES[0]
        self.is_in_doubt = False  # whether what was transacted is committed


class StoreThread:
    """A thread with a connection of its own, which carries out calls in the order in which they come."""

    is_reader = False

    def __init__(self, name: str, database: Database, make_clerk: MakeClerk, patience: float) -> None:
        self._database = database
        self._make_clerk = make_clerk
        self._patience = patience
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._closing = threading.Event()
        self._rests_until = 0.0  # from what comes up by itself, after it failed
        self._is_interrupted = False  # and the connection may not be fit for another transaction
        self._clerk: Clerk | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Call | None) -> None:
        """Take a call; None only wakes the thread. From any thread."""
        self._calls.put(call)
        if not self._thread.is_alive():
            self._refuse_rest()

    def close(self) -> None:
        """Carry out what has come, and end."""
        self.let_go()
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)

    def let_go(self) -> None:
        """Let the thread end, in its time."""
        self._closing.set()
        self._calls.put(None)

    @property
    def is_open(self) -> bool:
        """Whether the database has been opened once."""
        return self._clerk is not None

    @property
    def waiters(self) -> int:
        return 0 if self._clerk is None else self._clerk.audience.waiters

    # The thread

    def _run(self) -> None:
        try:
            while not (self._closing.is_set() and self._calls.empty()):
                self._serve_safely(self._collect())
        except _Closing:
            pass
        finally:
            self._refuse_rest()
            self._database.close()

    def _serve_safely(self, calls: list[Call]) -> None:
        """Serve; whatever goes wrong, the thread goes on, and nobody waits for an answer that does not come."""
        try:
            self._serve(calls)
        except Exception as error:
            self._roll_back()
            self._give_up(calls, error)
            self._rests_until = time.monotonic() + _SWEEP_SECONDS

    def _collect(self) -> list[Call]:
        """Wait for calls, as long as nothing else is to be done, and return them."""
        calls: list[Call] = []
        try:
            first = self._calls.get(timeout=self._idle_seconds())
            while True:
                if first is not None and not first.is_given_up:
                    calls.append(first)
                if len(calls) >= _MOST:
                    break
                first = self._calls.get_nowait()
        except Empty:
            pass
        return calls

    def _idle_seconds(self) -> float | None:
        return None

    def _serve(self, calls: list[Call]) -> None:
        raise NotImplementedError

    def _refuse_rest(self) -> None:
        calls = [] if self._clerk is None else self._clerk.waiting
        while not self._calls.empty():
            if (call := self._calls.get_nowait()) is not None:
                calls.append(call)
        _answer(calls, StoreUnavailable("the store has been closed; open it again"))

    def _insist(self, calls: list[Call], transact: Callable[[list[Call]], None]) -> None:
        """Run a transaction until it is committed; what fails altogether is done call by call."""
        trial = _Trial(calls, self._patience)
        while True:
            try:
                if not (self._is_interrupted and self._has_come_about(trial)):
                    if self._clerk is None:
                        self._open()
                    transact(calls)
                break
            except Interrupted as error:
                self._is_interrupted = True
                trial.is_in_doubt = trial.is_in_doubt or isinstance(error, InDoubt)
                if not self._may_go_on(trial, error):
                    return
                self._pause(trial, error)
            except Exception as error:
                self._fail(calls, error, transact)
                return
        # Not in what is tried again: it has happened.
        self._conclude()

    def _has_come_about(self, trial: _Trial) -> bool:
        """Make the connection fit again; tell whether the transaction was committed, though nobody knew."""
        self._database.recover()
        was_committed = trial.is_in_doubt and self._database.was_committed()
        if not was_committed:
            self._roll_back()
            trial.is_in_doubt = False
        self._is_interrupted = False
        return was_committed

    def _may_go_on(self, trial: _Trial, error: Interrupted) -> bool:
        """Tell whether an interrupted transaction is to be tried again; if not, its calls are given up."""
        if not trial.is_in_doubt:
            self._roll_back()
        if (trial.calls or trial.is_in_doubt) and time.monotonic() <= trial.deadline:
            return True
        since = f", and has been for {self._patience:g} s" if trial.calls else ""
        cure = "nobody knows whether this call was kept" if trial.is_in_doubt else "try again later"
        self._roll_back()
        self._give_up(trial.calls, StoreUnavailable(f"{error}{since}; {cure}"))
        return False

    def _pause(self, trial: _Trial, error: Interrupted) -> None:
        """Wait before the next attempt, each time longer; raise `_Closing` if the store is closed meanwhile."""
        if trial.pause == _PAUSES[0]:
            logger.warning("%s; trying again until it can be had", error)
        if self._closing.wait(trial.pause):
            _answer(trial.calls, StoreUnavailable(f"the store was closed while {error}"))
            raise _Closing from None
        trial.pause = min(2 * trial.pause, _PAUSES[1])

    def _fail(self, calls: list[Call], error: Exception, transact: Callable[[list[Call]], None]) -> None:
        """Find out which calls have made a transaction fail: each is tried alone."""
        self._roll_back()
        if len(calls) <= 1 or isinstance(error, StoreUnavailable):
            self._give_up(calls, error)
        else:
            for call in calls:
                self._insist([call], transact)

    def _give_up(self, calls: list[Call], error: Exception) -> None:
        if not calls or isinstance(error, StoreUnavailable):
            self._rests_until = time.monotonic() + _SWEEP_SECONDS
        if not isinstance(error, StoreError):
            logger.exception("the store failed at %s", calls, exc_info=error)
        _answer(calls, error)
        if self._clerk is not None and isinstance(error, StoreUnavailable):
            _answer(self._clerk.overdue(time.monotonic()), error)

    def _conclude(self) -> None:
        """Go on with what was committed, and tell those who wait for it."""
        assert self._clerk is not None
        self._clerk.tables.committed()
        self._clerk.committed()

    def _open(self) -> None:
        self._database.open()
        try:
            self._clerk = self._make_clerk(SqlTables(self._database, is_reader=self.is_reader))
        except BaseException:
            self._database.close()
            raise

    def _roll_back(self) -> None:
        self._database.rollback()
        if self._clerk is not None:
            self._clerk.tables.forget()
            self._clerk.rolled_back()


class Writer(StoreThread):
    """The thread that writes: whatever has come while the last transaction was being committed is the next one."""

    def _open(self) -> None:
        super()._open()
        self._database.watch(lambda: self.submit(None))

    def _idle_seconds(self) -> float | None:
        clerk = self._clerk
        if clerk is None:
            return None
        rest = self._rests_until - time.monotonic()
        if rest > 0:
            return rest
        deadline = clerk.seconds_to_deadline()
        moment = min(clerk.next_timeout, clerk.next_look_at_leases)
        return max(0.0, min(_SWEEP_SECONDS, moment - time.monotonic(), math.inf if deadline is None else deadline))

    def _serve(self, calls: list[Call]) -> None:
        if calls or self._has_duties():
            self._insist(calls, self._transact)

    def _has_duties(self) -> bool:
        """Tell whether there is something to be done that nobody has called for."""
        clerk = self._clerk
        if clerk is None or time.monotonic() < self._rests_until:
            return False
        if clerk.seconds_to_deadline() == 0 or min(clerk.next_timeout, clerk.next_look_at_leases) <= time.monotonic():
            return True
        try:
            return self._database.has_news()
        except Interrupted:
            return True
        except Exception as error:
            self._give_up([], error)
            return False

    def _transact(self, calls: list[Call]) -> None:
        clerk = self._clerk
        assert clerk is not None
        others_wrote = self._database.begin()
        clerk.begin()
        clerk.look_around(time.monotonic(), others_wrote=others_wrote)
        clerk.expire()
        clerk.foresee(calls)
        for call in calls:
            clerk.carry_out(call)
        clerk.time_out(time.monotonic())
        clerk.finish()
        if clerk.audience.is_news:
            self._database.tell_others()
        self._database.commit()


class Reader(StoreThread):
    """A thread that reads what is committed, and waits for no write."""

    is_reader = True

    def _serve(self, calls: list[Call]) -> None:
        if calls:
            self._insist(calls, self._look_up)

    def _look_up(self, calls: list[Call]) -> None:
        clerk = self._clerk
        assert clerk is not None
        self._database.begin_to_read()
        clerk.begin()
        clerk.tables.forget()
        for call in calls:
            clerk.carry_out(call)
        self._database.rollback()


def _answer(calls: Iterable[Call], error: Exception) -> None:
    answer_together((call.ask, Failure(error)) for call in calls if call.ask is not None)
