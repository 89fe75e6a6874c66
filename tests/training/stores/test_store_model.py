"""The memory store does what a small model made of dicts does, whatever is asked of it in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, Protocol

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import lightactors as la
from lightactors.errors import FencedAttempt, InvalidTransition, StoreError
from lightactors.training.records import ATTEMPT_STATUSES, ROLLOUT_STATUSES, RolloutConfig, Span
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore

TERMINAL = {"succeeded", "failed", "cancelled"}
QUEUEING = {"queuing", "requeuing"}
TIMEOUT, SILENCE = 100.0, 30.0


class Model:
    """What a store is, in a few dicts and lists; written without a look at the store's own tables."""

    def __init__(self) -> None:
        self.rollouts: dict[str, dict[str, Any]] = {}
        self.queue: list[str] = []
        self.finished: list[str] = []
        self.workers: dict[str, tuple[str, str | None]] = {}
        self.fenced = 0
        self.now = 0.0

    def add(self, rollout_id: str, config: RolloutConfig, status: str) -> None:
        self.rollouts[rollout_id] = {"config": config, "status": "new", "attempts": [], "spans": []}
        self.move(rollout_id, status)

    def move(self, rollout_id: str, status: str) -> None:
        rollout = self.rollouts[rollout_id]
        if rollout["status"] in TERMINAL and status != rollout["status"]:
            raise InvalidTransition
        if status in TERMINAL and rollout["status"] != status:
            self.finished.append(rollout_id)
        if status in QUEUEING and rollout_id not in self.queue:
            self.queue.append(rollout_id)
        if status not in QUEUEING and rollout_id in self.queue:
            self.queue.remove(rollout_id)
        rollout["status"] = status

    def begin(self, rollout_id: str, attempt_id: str, worker: str | None, claim_id: str | None = None) -> None:
        attempt = {
            "id": attempt_id,
            "status": "preparing",
            "worker": worker,
            "claim": claim_id,
            "start": self.now,
            "heard": self.now,
            "was_given_back": False,
        }
        self.rollouts[rollout_id]["attempts"].append(attempt)
        if worker:
            self.workers[worker] = "busy", attempt_id
        self.move(rollout_id, "preparing")

    def check_start(self, rollout_id: str) -> None:
        if self.rollouts[rollout_id]["status"] in TERMINAL:
            raise InvalidTransition

    def claim(self, worker: str | None) -> str | None:
        if worker and not self.queue:
            self.workers[worker] = "idle", None
        return self.queue[0] if self.queue else None

    def held(self, worker: str, claim_id: str | None = None) -> list[str]:
        """Return what a worker is on, because of that claim or any."""
        return [
            rollout_id
            for rollout_id, rollout in self.rollouts.items()
            if rollout["status"] in {"preparing", "running"}
            for attempt in rollout["attempts"][-1:]
            if attempt["status"] in {"preparing", "running"} and attempt["worker"] == worker
            if claim_id is None or attempt["claim"] == claim_id
        ]

    def give_back(self, worker: str, claim_id: str | None) -> None:
        for rollout_id in self.held(worker, claim_id):
            self.rollouts[rollout_id]["attempts"][-1]["was_given_back"] = True
            self.workers[worker] = "idle", None
            self.move(rollout_id, "requeuing")

    def release(self, worker: str) -> None:
        for rollout_id in self.held(worker):
            self.become(rollout_id, "unresponsive")
        if worker in self.workers:
            self.workers[worker] = "unknown", None

    def report(self, rollout_id: str, index: int, status: str | None) -> None:
        """`status` None is a heartbeat."""
        rollout = self.rollouts[rollout_id]
        attempt = rollout["attempts"][index]
        over = attempt["status"] in {"succeeded", "failed", "timeout"}
        if over and status == attempt["status"]:
            return
        if over or rollout["status"] in TERMINAL or attempt is not rollout["attempts"][-1]:
            self.fenced += 1
            raise FencedAttempt
        if status is None:
            status = "running" if attempt["status"] == "unresponsive" else attempt["status"]
        if status == "preparing" != attempt["status"]:
            raise InvalidTransition
        attempt["heard"] = self.now
        self.become(rollout_id, status)

    def become(self, rollout_id: str, status: str) -> None:
        rollout = self.rollouts[rollout_id]
        attempt, config = rollout["attempts"][-1], rollout["config"]
        if status != attempt["status"]:
            self.follow(attempt, status)
        attempt["status"], attempt["was_given_back"] = status, False
        if status in {"failed", "timeout", "unresponsive"}:
            tries = sum(not attempt["was_given_back"] for attempt in rollout["attempts"])
            again = status in config.retry_condition and tries < config.max_attempts
            status = "requeuing" if again else "failed"
        self.move(rollout_id, status)

    def follow(self, attempt: dict[str, Any], status: str) -> None:
        worker = attempt["worker"]
        if worker and status in {"preparing", "running"}:
            self.workers[worker] = "busy", attempt["id"]
        elif worker and self.workers[worker][1] in (None, attempt["id"]):
            self.workers[worker] = "idle" if status in {"succeeded", "failed"} else "unknown", None

    def span(self, rollout_id: str, index: int, key: tuple[int, str]) -> bool:
        rollout = self.rollouts[rollout_id]
        if (index, key) in rollout["spans"]:
            return False
        if rollout["attempts"][index]["status"] in {"succeeded", "failed", "timeout"}:
            self.fenced += 1
            raise FencedAttempt
        self.report(rollout_id, index, "running")
        rollout["spans"].append((index, key))
        return True

    def expire(self) -> None:
        due = []
        for rollout_id, rollout in self.rollouts.items():
            alive = rollout["attempts"] and rollout["attempts"][-1]["status"] in {"preparing", "running"}
            if alive and rollout["status"] in {"preparing", "running"} and rollout["config"].timeout_seconds:
                attempt = rollout["attempts"][-1]
                late = min(attempt["start"] + TIMEOUT, attempt["heard"] + SILENCE)
                status = "timeout" if attempt["start"] + TIMEOUT <= self.now else "unresponsive"
                due += [(late, list(self.rollouts).index(rollout_id), rollout_id, status)] if late <= self.now else []
        for *_, rollout_id, status in sorted(due):
            self.become(rollout_id, status)


def outcome(call: Callable[[], Any]) -> tuple[Any, type[StoreError] | None]:
    """Return what the call returns and the kind of error that it raises; one of them is None."""
    try:
        return call(), None
    except StoreError as error:
        return None, type(error)


class Door(Protocol):
    """A way to call a store that waits for the answer."""

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any: ...


class DirectDoor:
    """The store itself: its handlers answer without a loop, as none of them waits here."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        answer = getattr(self._store, method)(*args, **kwargs)
        try:
            answer.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError(f"{method} waits")


class MailboxDoor:
    """A ref of the store, asked from another thread."""

    def __init__(self, portal: BlockingPortal, ref: Store) -> None:
        self._portal = portal
        self._ref = ref

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        async def ask() -> Any:
            return await getattr(self._ref, method)(*args, **kwargs)

        return self._portal.call(ask)


CONFIGS = st.builds(
    lambda timed, most, retry: RolloutConfig(
        timeout_seconds=TIMEOUT if timed else None,
        unresponsive_seconds=SILENCE if timed else None,
        max_attempts=most,
        retry_condition=sorted(retry),
    ),
    st.booleans(),
    st.integers(1, 3),
    st.sets(st.sampled_from(["failed", "timeout", "unresponsive"])),
)
WORKERS = st.sampled_from([None, "a", "b"])
NAMED = st.sampled_from(["a", "b"])
CLAIM_IDS = st.sampled_from(["c", "d"])
ANY = st.integers(0, 1_000)  # which of those that there are


class StoreMachine(RuleBasedStateMachine):
    """The same calls to the store and to the model: same answers, same errors, same order."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.stack = ExitStack()
        self.door = self.open()

    def open(self) -> Door:
        self.store = MemoryStore(clock=lambda: self.model.now, now=lambda: self.model.now)
        return DirectDoor(self.store)

    def teardown(self) -> None:
        order = [rollout.rollout_id for rollout in self.door.call("dequeue_many_rollouts", 1_000)]
        assert order == self.model.queue
        self.stack.close()

    def both(self, modelled: Callable[[], Any], method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask the store, then the model; return the store's answer, or None where both refuse in the same way."""
        answer, refusal = outcome(lambda: self.door.call(method, *args, **kwargs))
        _, expected = outcome(modelled)
        assert refusal is expected
        return answer

    def attempted(self, which: int) -> tuple[str, int, str]:
        """Choose an attempt: its rollout, its place and its id."""
        attempts = [
            (rollout_id, index, attempt["id"])
            for rollout_id, rollout in self.model.rollouts.items()
            for index, attempt in enumerate(rollout["attempts"])
        ]
        return attempts[which % len(attempts)]

    def any_rollout(self, which: int) -> str:
        return list(self.model.rollouts)[which % len(self.model.rollouts)]

    has_rollouts = precondition(lambda self: self.model.rollouts)
    has_attempts = precondition(lambda self: any(r["attempts"] for r in self.model.rollouts.values()))

    @rule(config=CONFIGS)
    def enqueue(self, config: RolloutConfig) -> None:
        self.model.add(self.door.call("enqueue_rollout", 1, config=config).rollout_id, config, "queuing")

    @rule(config=CONFIGS, worker=WORKERS)
    def start(self, config: RolloutConfig, worker: str | None) -> None:
        started = self.door.call("start_rollout", 1, config=config, worker_id=worker)
        self.model.add(started.rollout_id, config, "preparing")
        self.model.begin(started.rollout_id, started.attempt.attempt_id, worker)

    @rule(worker=WORKERS)
    def claim(self, worker: str | None) -> None:
        claimed = self.door.call("dequeue_rollout", worker)
        expected = self.model.claim(worker)
        assert (claimed and claimed.rollout_id) == expected
        if claimed:
            self.model.begin(claimed.rollout_id, claimed.attempt.attempt_id, worker)

    @rule(worker=NAMED, claim_id=CLAIM_IDS)
    def claim_under_an_id(self, worker: str, claim_id: str) -> None:
        claimed = self.door.call("dequeue_rollout", worker, claim_id=claim_id)
        if held := self.model.held(worker, claim_id):
            assert claimed.rollout_id in held
            assert claimed.attempt.attempt_id == self.model.rollouts[claimed.rollout_id]["attempts"][-1]["id"]
            return
        expected = self.model.claim(worker)
        assert (claimed and claimed.rollout_id) == expected
        if claimed:
            self.model.begin(claimed.rollout_id, claimed.attempt.attempt_id, worker, claim_id)

    @rule(worker=NAMED, claim_id=CLAIM_IDS | st.none())
    def give_back(self, worker: str, claim_id: str | None) -> None:
        held = self.model.held(worker, claim_id)
        given_back = self.door.call("give_back", worker, claim_id)
        assert sorted(rollout.rollout_id for rollout in given_back) == sorted(held)
        self.model.give_back(worker, claim_id)

    @rule(worker=NAMED)
    def release(self, worker: str) -> None:
        held = self.model.held(worker)
        released = self.door.call("release_worker", worker)
        assert [attempt.status for attempt in released] == ["unresponsive"] * len(held)
        assert sorted(attempt.rollout_id for attempt in released) == sorted(held)
        self.model.release(worker)

    @has_rollouts
    @rule(which=ANY, worker=WORKERS)
    def start_attempt(self, which: int, worker: str | None) -> None:
        rollout_id = self.any_rollout(which)
        if started := self.both(lambda: self.model.check_start(rollout_id), "start_attempt", rollout_id, worker):
            self.model.begin(rollout_id, started.attempt.attempt_id, worker)

    @has_attempts
    @rule(which=ANY, status=st.sampled_from(ATTEMPT_STATUSES))
    def report(self, which: int, status: str) -> None:
        rollout_id, index, attempt_id = self.attempted(which)
        modelled = partial(self.model.report, rollout_id, index, status)
        self.both(modelled, "update_attempt", rollout_id, attempt_id, status=status)

    @has_attempts
    @rule(which=ANY, moment=st.floats(1, 10))
    def beat(self, which: int, moment: float) -> None:
        rollout_id, index, attempt_id = self.attempted(which)
        modelled = partial(self.model.report, rollout_id, index, None)
        last = self.door.call("query_attempts", rollout_id)[index].last_heartbeat_time
        if last != moment:  # what an ended attempt has said already it may say again
            self.both(modelled, "update_attempt", rollout_id, attempt_id, last_heartbeat_time=moment)

    @has_attempts
    @rule(which=ANY, key=st.tuples(st.integers(0, 2), st.sampled_from("xy")))
    def span(self, which: int, key: tuple[int, str]) -> None:
        rollout_id, index, attempt_id = self.attempted(which)
        sequence_id, span_id = key
        span = Span(
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            sequence_id=sequence_id,
            trace_id="t",
            span_id=span_id,
            name="n",
        )
        added = self.both(partial(self.model.span, rollout_id, index, key), "add_span", span)
        assert added is None or self.model.rollouts[rollout_id]["spans"][-1] == (index, key)

    @has_rollouts
    @rule(which=ANY, status=st.sampled_from(ROLLOUT_STATUSES))
    def set_status(self, which: int, status: str) -> None:
        rollout_id = self.any_rollout(which)
        self.both(lambda: self.model.move(rollout_id, status), "update_rollout", rollout_id, status=status)

    def pass_time(self) -> None:
        """Let the store see what is overdue by now."""
        self.store.expire()

    time_moves = precondition(lambda self: not isinstance(self, MailboxMachine))

    @time_moves
    @rule(seconds=st.sampled_from([1.0, 29.0, 31.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.model.now += seconds
        self.pass_time()
        self.model.expire()

    @invariant()
    def same_rollouts(self) -> None:
        listed = [(r.rollout_id, r.status, r.end_time is None) for r in self.door.call("query_rollouts")]
        assert listed == [(i, r["status"], r["status"] not in TERMINAL) for i, r in self.model.rollouts.items()]
        for rollout_id, rollout in self.model.rollouts.items():
            attempts = self.door.call("query_attempts", rollout_id)
            assert [(a.attempt_id, a.status) for a in attempts] == [(a["id"], a["status"]) for a in rollout["attempts"]]

    @invariant()
    def same_statuses(self) -> None:
        for status in ROLLOUT_STATUSES:
            found = self.door.call("query_rollouts", status_in=[status], sort_order="desc")
            expected = [i for i, r in self.model.rollouts.items() if r["status"] == status]
            assert [rollout.rollout_id for rollout in found] == expected[::-1]

    @invariant()
    def same_counts(self) -> None:
        counted = self.door.call("statistics")
        spans = sum(len(rollout["spans"]) for rollout in self.model.rollouts.values())
        expected = (len(self.model.queue), self.model.fenced, spans, len(self.model.workers))
        assert (counted.queue_length, counted.fenced, counted.total_spans, counted.total_workers) == expected

    @invariant()
    def same_ends_and_workers(self) -> None:
        completed = self.door.call("query_completions", limit=-1).rollouts
        assert [rollout.rollout_id for rollout in completed] == self.model.finished
        workers = {w.worker_id: (w.status, w.current_attempt_id) for w in self.door.call("query_workers")}
        assert workers == self.model.workers


class MailboxMachine(StoreMachine):
    """The same through a mailbox; time stands still."""

    backend = "asyncio"
    place: Literal["task", "thread"] = "task"

    def open(self) -> Door:
        portal = self.stack.enter_context(start_blocking_portal(self.backend))
        self.stack.enter_context(portal.wrap_async_context_manager(la.open_system()))
        return MailboxDoor(portal, portal.call(la.options(place=self.place).spawn, MemoryStore))


class ThreadMachine(MailboxMachine):
    """The same with the store in a thread of its own."""

    place = "thread"


def run(machine: type[StoreMachine], examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(machine, settings=chosen)


def test_store_does_what_the_model_does() -> None:
    run(StoreMachine, examples=100, steps=40)


@pytest.mark.parametrize("machine", [MailboxMachine, ThreadMachine])
def test_mailbox_and_thread_change_nothing(machine: type[MailboxMachine], anyio_backend_name: str) -> None:
    run(on(machine, anyio_backend_name), examples=8, steps=20)


def on(machine: type[StoreMachine], backend: str) -> type[StoreMachine]:
    """The machine on that loop."""
    return type(machine.__name__, (machine,), {"backend": backend})


@pytest.mark.stress
@pytest.mark.timeout(1_800)
def test_store_does_what_the_model_does_for_long() -> None:
    run(StoreMachine, examples=600, steps=50)


@pytest.mark.stress
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("machine", [MailboxMachine, ThreadMachine])
def test_mailbox_and_thread_change_nothing_for_long(machine: type[MailboxMachine], anyio_backend_name: str) -> None:
    run(on(machine, anyio_backend_name), examples=60, steps=50)
