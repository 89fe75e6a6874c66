"""What every store must do, as small checks that run against any store through any door.

```python
async def test_my_store() -> None:
    await check_store(open_my_store)  # an async context manager that yields a store, empty each time
```

`CHECKS` has them one by one, to parametrise a test with. None of them needs a clock that moves, nor a time-out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeAlias, cast

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from lightactors.errors import Conflict, FencedAttempt, InvalidArgument, InvalidTransition, NotFound, WrongCall
from lightactors.training.records import (
    LLM,
    AttemptedRollout,
    AttemptStatus,
    EnqueueRolloutRequest,
    PromptTemplate,
    Rollout,
    RolloutConfig,
    RolloutStatus,
    Span,
    TraceStatus,
)
from lightactors.training.stores.contract import Store

OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[Store]]
Check: TypeAlias = Callable[[Store], Awaitable[None]]

RETRY = RolloutConfig(max_attempts=2, retry_condition=["failed"])
NOBODY = "ro-000000000000"


async def check_store(open_store: OpenStore) -> None:
    """Run every check, each against a store of its own; the first that fails raises, with its name in a note."""
    for check in CHECKS:
        await check_rule(check, open_store)


async def check_rule(check: Check, open_store: OpenStore) -> None:
    """Run one check against a store of its own."""
    try:
        async with open_store() as store:
            await check(store)
    except Exception as error:
        error.add_note(f"check_store: {getattr(check, '__name__', check)}")
        raise


@contextmanager
def refused(kind: type[Exception], *words: str) -> Generator[None]:
    """Expect an error of this kind whose text holds each of the words."""
    text = None
    try:
        yield
    except kind as error:
        text = str(error)
    if text is None:
        raise AssertionError(f"{kind.__name__} was not raised")
    if missing := [word for word in words if word not in text]:
        raise AssertionError(f"{text!r} does not name {missing}")


def span(rollout: AttemptedRollout, sequence_id: int = 1, **fields: Any) -> Span:
    """Make a span of a rollout's latest attempt."""
    plain = Span(
        rollout_id=rollout.rollout_id,
        attempt_id=rollout.attempt.attempt_id,
        sequence_id=sequence_id,
        trace_id=f"{1:032x}",
        span_id=f"{sequence_id:016x}",
        name=f"step {sequence_id}",
    )
    return replace(plain, **fields)


async def claim(store: Store, **arguments: Any) -> AttemptedRollout:
    """Claim a rollout that must be there."""
    claimed = await store.dequeue_rollout(**arguments)
    assert claimed is not None, "the queue is empty"
    return claimed


async def report(store: Store, rollout: AttemptedRollout, status: AttemptStatus) -> None:
    """Say how a rollout's attempt goes."""
    await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status=status)


async def status_of(store: Store, rollout: Rollout) -> RolloutStatus:
    found = await store.get_rollout_by_id(rollout.rollout_id)
    assert found is not None
    return found.status


def ids(rollouts: Sequence[Rollout]) -> list[str]:
    return [rollout.rollout_id for rollout in rollouts]


class Waiting:
    """A worker that waits for work under the claim id "c", and the input that it got; None: nothing."""

    def __init__(self, store: Store, worker_id: str) -> None:
        self._store = store
        self._worker_id = worker_id
        self.input: object = None
        self.ended = anyio.Event()

    async def run(self) -> None:
        claimed = await self._store.dequeue_rollout(self._worker_id, timeout=None, claim_id="c")
        self.input = claimed and claimed.input
        self.ended.set()


async def until_waiting(store: Store, number: int) -> None:
    """Let those get in line who are on their way there: by any door, which may take its time."""
    while (await store.statistics()).waiters != number:
        await anyio.lowlevel.checkpoint()


# Rollouts in and out of the queue


async def check_started_rollout_passes_the_queue(store: Store) -> None:
    rollout = await store.start_rollout({"q": 1}, mode="train", worker_id="w")
    assert (rollout.status, rollout.attempt.status, rollout.attempt.sequence_id) == ("preparing", "preparing", 1)
    assert rollout.attempt.worker_id == "w"
    assert await store.dequeue_rollout() is None


async def check_enqueued_rollout_is_queuing_with_what_was_given(store: Store) -> None:
    config = RolloutConfig(timeout_seconds=1.5, max_attempts=3, retry_condition=["timeout"])
    rollout = await store.enqueue_rollout({"q": [1, "two"]}, "val", None, config, {"tag": "x"})
    assert (rollout.status, rollout.input, rollout.mode) == ("queuing", {"q": [1, "two"]}, "val")
    assert (rollout.config, rollout.metadata, rollout.end_time) == (config, {"tag": "x"}, None)
    assert await store.get_rollout_by_id(rollout.rollout_id) == rollout


async def check_ids_have_their_shapes(store: Store) -> None:
    rollout = await store.start_rollout(1)
    resources = await store.add_resources({})
    for value, prefix, digits in (
        (rollout.rollout_id, "ro-", 12),
        (rollout.attempt.attempt_id, "at-", 8),
        (resources.resources_id, "rs-", 12),
    ):
        assert value.startswith(prefix)
        assert len(bytes.fromhex(value.removeprefix(prefix))) * 2 == digits


async def check_queue_is_first_in_first_out(store: Store) -> None:
    queued = [await store.enqueue_rollout(number) for number in range(3)]
    assert [(await claim(store)).rollout_id for _ in queued] == ids(queued)
    assert await store.dequeue_rollout() is None


async def check_claim_makes_the_next_attempt(store: Store) -> None:
    queued = await store.enqueue_rollout(1, config=RETRY)
    first = await claim(store, worker_id="w")
    assert (first.status, first.attempt.status, first.attempt.sequence_id) == ("preparing", "preparing", 1)
    assert (first.rollout_id, first.attempt.rollout_id) == (queued.rollout_id, queued.rollout_id)
    await report(store, first, "failed")
    second = await claim(store)
    assert second.attempt.sequence_id == 2
    assert second.attempt.attempt_id != first.attempt.attempt_id


async def check_many_are_enqueued_in_order(store: Store) -> None:
    queued = await store.enqueue_many_rollouts([EnqueueRolloutRequest(number, "train") for number in range(3)])
    assert [rollout.input for rollout in queued] == [0, 1, 2]
    assert ids(await store.dequeue_many_rollouts(limit=10)) == ids(queued)


async def check_many_are_enqueued_all_or_none(store: Store) -> None:
    bad = EnqueueRolloutRequest(2, resources_id="rs-000000000000")
    with refused(NotFound, "rs-000000000000"):
        await store.enqueue_many_rollouts([EnqueueRolloutRequest(1), bad])
    assert await store.query_rollouts() == []


async def check_many_are_claimed_up_to_the_limit(store: Store) -> None:
    queued = await store.enqueue_many_rollouts([EnqueueRolloutRequest(number) for number in range(3)])
    assert ids(await store.dequeue_many_rollouts(2)) == ids(queued)[:2]
    assert ids(await store.dequeue_many_rollouts(2)) == ids(queued)[2:]
    assert await store.dequeue_many_rollouts(2) == []


async def check_a_limit_of_nothing_claims_nothing(store: Store) -> None:
    await store.enqueue_rollout(1)
    assert await store.dequeue_many_rollouts(0) == await store.dequeue_many_rollouts(-1) == []
    await claim(store)


async def check_own_id_makes_enqueue_repeatable(store: Store) -> None:
    first = await store.enqueue_rollout({"q": 1}, rollout_id="mine")
    assert await store.enqueue_rollout({"q": 1}, rollout_id="mine") == first
    await claim(store)
    again = await store.enqueue_rollout({"q": 1}, rollout_id="mine")
    assert again.status == "preparing"
    assert await store.dequeue_rollout() is None
    requests = [EnqueueRolloutRequest(2, rollout_id="other")] * 2
    assert ids(await store.enqueue_many_rollouts(requests)) == ["other", "other"]
    assert ids(await store.query_rollouts()) == ["mine", "other"]


async def check_own_id_is_not_taken_by_another_task(store: Store) -> None:
    await store.enqueue_rollout({"q": 1}, rollout_id="mine")
    with refused(Conflict, "mine", "input"):
        await store.enqueue_rollout({"q": 2}, rollout_id="mine")
    with refused(Conflict, "mine", "mode"):
        await store.enqueue_many_rollouts([EnqueueRolloutRequest({"q": 1}, "test", rollout_id="mine")])
    assert len(await store.query_rollouts()) == 1


async def check_what_left_the_queue_is_not_claimed(store: Store) -> None:
    cancelled, running, left = [await store.enqueue_rollout(number) for number in range(3)]
    await store.update_rollout(cancelled.rollout_id, status="cancelled")
    await store.update_rollout(running.rollout_id, status="running")
    assert ids(await store.dequeue_many_rollouts(10)) == [left.rollout_id]


async def check_waiting_claim_gets_what_comes(store: Store) -> None:
    claimed: list[AttemptedRollout | None] = []

    async def wait() -> None:
        claimed.append(await store.dequeue_rollout("w", timeout=30))

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await store.enqueue_rollout("late")
    assert [one and one.input for one in claimed] == ["late"]


async def check_waiting_claim_ends_in_vain(store: Store) -> None:
    assert await store.dequeue_rollout(timeout=0.01) is None
    assert await store.dequeue_many_rollouts(2, timeout=0.01) == []


async def check_claim_asked_again_is_the_same(store: Store) -> None:
    first, second = [await store.enqueue_rollout(number) for number in range(2)]
    claimed = await claim(store, worker_id="w", claim_id="c1")
    assert claimed.rollout_id == first.rollout_id
    assert await claim(store, worker_id="w", claim_id="c1") == claimed
    await report(store, claimed, "running")
    again = await claim(store, worker_id="w", claim_id="c1")
    assert (again.attempt.attempt_id, again.status) == (claimed.attempt.attempt_id, "running")
    assert (await claim(store, worker_id="w", claim_id="c2")).rollout_id == second.rollout_id


async def check_claim_that_is_over_is_not_repeated(store: Store) -> None:
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(1, config=RETRY), EnqueueRolloutRequest(2)])
    claimed = await claim(store, worker_id="w", claim_id="c")
    await report(store, claimed, "failed")
    assert (await claim(store, worker_id="w", claim_id="c")).input == 2


async def check_claim_ids_are_each_workers_own(store: Store) -> None:
    queued = [await store.enqueue_rollout(number) for number in range(2)]
    claimed = [await claim(store, worker_id=worker_id, claim_id="c") for worker_id in ("v", "w")]
    assert ids(claimed) == ids(queued)


async def check_claim_of_many_asked_again_is_what_is_left_of_it(store: Store) -> None:
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(number) for number in range(4)])
    claimed = await store.dequeue_many_rollouts(3, "w", claim_id="c")
    assert await store.dequeue_many_rollouts(3, "w", claim_id="c") == claimed
    await report(store, claimed[1], "succeeded")
    assert ids(await store.dequeue_many_rollouts(3, "w", claim_id="c")) == ids([claimed[0], claimed[2]])


async def check_asking_again_ends_the_wait_before(store: Store) -> None:
    first, second = Waiting(store, "w"), Waiting(store, "w")
    async with anyio.create_task_group() as tg:
        tg.start_soon(first.run)
        await until_waiting(store, 1)
        tg.start_soon(second.run)
        await first.ended.wait()
        await until_waiting(store, 1)
        await store.enqueue_rollout(1)
    assert (first.input, second.input) == (None, 1)


async def check_claim_that_nobody_works_on_is_given_back(store: Store) -> None:
    first = await store.enqueue_rollout(1)
    second = await store.enqueue_rollout(2)
    await claim(store, worker_id="w", claim_id="c")
    assert ids(await store.give_back("w", "c")) == [first.rollout_id]
    assert await status_of(store, first) == "requeuing"
    assert await store.give_back("w", "c") == []
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert (worker.status, worker.current_rollout_id) == ("idle", None)
    assert ids(await store.dequeue_many_rollouts(10)) == [second.rollout_id, first.rollout_id]
    assert await store.give_back("w", "c") == []


async def check_giving_back_ends_the_wait(store: Store) -> None:
    waiting = Waiting(store, "w")
    async with anyio.create_task_group() as tg:
        tg.start_soon(waiting.run)
        await until_waiting(store, 1)
        assert await store.give_back("w", "another") == []
        assert (await store.statistics()).waiters == 1
        assert await store.give_back("w", "c") == []
    assert waiting.input is None
    rollout = await store.enqueue_rollout(1)
    assert (await claim(store)).rollout_id == rollout.rollout_id


async def check_work_for_a_wait_that_ends_goes_to_the_next(store: Store) -> None:
    first, second = Waiting(store, "v"), Waiting(store, "w")
    given_back: list[Rollout] = []
    async with anyio.create_task_group() as tg:
        for number, waiting in enumerate((first, second), 1):
            tg.start_soon(waiting.run)
            await until_waiting(store, number)
        await store.enqueue_rollout(1)
        given_back += await store.give_back("v", "c")
    # Either was quicker, the worker that had been waked or who gave its claim back: the other one has the work.
    assert (first.input, second.input) == (given_back[0].input if given_back else None, 1)


async def check_manual_attempt_passes_queue_and_limit(store: Store) -> None:
    queued = await store.enqueue_rollout(1)
    first = await store.start_attempt(queued.rollout_id, "w")
    assert (first.status, first.attempt.sequence_id, first.attempt.worker_id) == ("preparing", 1, "w")
    assert await store.dequeue_rollout() is None
    second = await store.start_attempt(queued.rollout_id)
    assert second.attempt.sequence_id == 2
    with refused(FencedAttempt, first.attempt.attempt_id):
        await report(store, first, "succeeded")


async def check_manual_attempt_needs_an_open_rollout(store: Store) -> None:
    with refused(NotFound, NOBODY):
        await store.start_attempt(NOBODY)
    rollout = await store.start_rollout(1)
    await report(store, rollout, "succeeded")
    with refused(InvalidTransition, rollout.rollout_id):
        await store.start_attempt(rollout.rollout_id)
    assert len(await store.query_attempts(rollout.rollout_id)) == 1


# Statuses


async def check_rollout_follows_its_attempt(store: Store) -> None:
    for status in ("running", "succeeded"):
        rollout = await store.start_rollout(1)
        await report(store, rollout, status)
        assert await status_of(store, rollout) == status


async def check_failures_are_retried_only_where_asked(store: Store) -> None:
    for status in ("failed", "timeout", "unresponsive"):
        final = await store.start_rollout(1)
        retried = await store.start_rollout(1, config=RolloutConfig(max_attempts=2, retry_condition=[status]))
        for rollout in (final, retried):
            await report(store, rollout, status)
        assert (await status_of(store, final), await status_of(store, retried)) == ("failed", "requeuing")


async def check_attempts_run_out(store: Store) -> None:
    rollout = await store.start_rollout(1, config=RETRY)
    await report(store, rollout, "failed")
    await report(store, await claim(store), "failed")
    assert await status_of(store, rollout) == "failed"
    assert await store.dequeue_rollout() is None


async def check_retry_goes_to_the_tail_once(store: Store) -> None:
    rollout = await store.start_rollout(1, config=RETRY)
    other = await store.enqueue_rollout(2)
    await report(store, rollout, "failed")
    assert ids(await store.dequeue_many_rollouts(10)) == [other.rollout_id, rollout.rollout_id]


async def check_the_end_is_final(store: Store) -> None:
    rollout = await store.enqueue_rollout(1)
    ended = await store.update_rollout(rollout.rollout_id, status="cancelled")
    assert ended.end_time is not None
    with refused(InvalidTransition, rollout.rollout_id, "cancelled"):
        await store.update_rollout(rollout.rollout_id, status="queuing", metadata={"changed": True})
    again = await store.update_rollout(rollout.rollout_id, status="cancelled", metadata={"why": "no budget"})
    assert (again.end_time, again.metadata) == (ended.end_time, {"why": "no budget"})


async def check_entering_the_queue_twice_queues_once(store: Store) -> None:
    rollout = await store.start_rollout(1)
    for _ in range(2):
        await store.update_rollout(rollout.rollout_id, status="queuing")
    await store.update_rollout(rollout.rollout_id, status="requeuing")
    assert ids(await store.dequeue_many_rollouts(10)) == [rollout.rollout_id]


async def check_only_what_is_given_is_updated(store: Store) -> None:
    resources = await store.add_resources({})
    rollout = await store.enqueue_rollout(1, "train", metadata={"a": 1})
    updated = await store.update_rollout(rollout.rollout_id, mode=None, config=RETRY)
    assert (updated.input, updated.mode, updated.metadata, updated.config) == (1, None, {"a": 1}, RETRY)
    assert updated.resources_id == resources.resources_id
    cleared = await store.update_rollout(rollout.rollout_id, input=None, resources_id=None, metadata=None)
    assert (cleared.input, cleared.resources_id, cleared.metadata) == (None, None, None)


async def check_ended_attempt_is_fenced(store: Store) -> None:
    rollout = await store.start_rollout(1, config=RolloutConfig(max_attempts=2, retry_condition=["timeout"]))
    await report(store, rollout, "timeout")
    for status in ("succeeded", "running"):
        with refused(FencedAttempt, rollout.attempt.attempt_id, "timeout"):
            await report(store, rollout, status)
    with refused(FencedAttempt):
        await store.add_span(span(rollout))
    assert await status_of(store, rollout) == "requeuing"
    assert (await store.statistics()).fenced == 3


async def check_replaced_attempt_is_fenced(store: Store) -> None:
    first = await store.start_rollout(1, config=RolloutConfig(max_attempts=2, retry_condition=["unresponsive"]))
    await report(store, first, "unresponsive")
    second = await claim(store)
    with refused(FencedAttempt, first.attempt.attempt_id, second.attempt.attempt_id):
        await report(store, first, "succeeded")
    with refused(FencedAttempt):
        await store.add_many_spans([span(second), span(first)])
    assert await store.query_spans(first.rollout_id) == []
    assert await status_of(store, second) == "preparing"


async def check_attempt_of_a_cancelled_rollout_is_fenced(store: Store) -> None:
    rollout = await store.start_rollout(1)
    await store.update_rollout(rollout.rollout_id, status="cancelled")
    with refused(FencedAttempt, "cancelled"):
        await report(store, rollout, "succeeded")
    assert await status_of(store, rollout) == "cancelled"


async def check_end_may_be_said_twice(store: Store) -> None:
    rollout = await store.start_rollout(1, config=RETRY)
    await report(store, rollout, "failed")
    await report(store, rollout, "failed")
    second = await claim(store)
    await report(store, rollout, "failed")
    assert await status_of(store, rollout) == "preparing"
    await report(store, second, "succeeded")


async def check_unresponsive_attempt_is_welcome_back(store: Store) -> None:
    rollout = await store.start_rollout(1, config=RolloutConfig(max_attempts=2, retry_condition=["unresponsive"]))
    await report(store, rollout, "unresponsive")
    assert await status_of(store, rollout) == "requeuing"
    await store.update_attempt(rollout.rollout_id, "latest", last_heartbeat_time=1.0)
    attempt = await store.get_latest_attempt(rollout.rollout_id)
    assert attempt is not None
    assert (attempt.status, attempt.last_heartbeat_time, await status_of(store, rollout)) == ("running", 1.0, "running")
    assert await store.dequeue_rollout() is None


async def check_attempt_never_prepares_again(store: Store) -> None:
    rollout = await store.start_rollout(1)
    await report(store, rollout, "running")
    with refused(InvalidTransition, rollout.attempt.attempt_id, "running", "preparing"):
        await report(store, rollout, "preparing")


async def check_attempt_end_has_a_time(store: Store) -> None:
    for status in ("succeeded", "failed", "timeout"):
        rollout = await store.start_rollout(1)
        attempt = await store.update_attempt(rollout.rollout_id, "latest", status=status)
        assert attempt.end_time is not None
        assert attempt.end_time >= attempt.start_time


async def check_attempt_is_annotated_at_any_time(store: Store) -> None:
    rollout = await store.start_rollout(1)
    await report(store, rollout, "succeeded")
    attempt = await store.update_attempt(rollout.rollout_id, "latest", metadata={"note": 1})
    assert (attempt.metadata, attempt.status) == ({"note": 1}, "succeeded")


# Waiting for ends


async def check_wait_returns_the_finished_ones(store: Store) -> None:
    rollouts = [await store.start_rollout(number) for number in range(3)]
    await report(store, rollouts[2], "succeeded")
    await report(store, rollouts[0], "failed")
    finished = await store.wait_for_rollouts(rollout_ids=ids(rollouts), timeout=0)
    assert ids(finished) == [rollouts[0].rollout_id, rollouts[2].rollout_id]
    assert ids(await store.wait_for_rollouts(rollout_ids=ids(rollouts), timeout=0.01)) == ids(finished)


async def check_wait_ends_with_the_last_one(store: Store) -> None:
    rollouts = [await store.start_rollout(number) for number in range(2)]
    finished: list[Rollout] = []

    async def wait() -> None:
        finished.extend(await store.wait_for_rollouts(rollout_ids=ids(rollouts)))

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await report(store, rollouts[1], "succeeded")
        await anyio.wait_all_tasks_blocked()
        assert not finished
        await store.update_rollout(rollouts[0].rollout_id, status="cancelled")
    assert [rollout.status for rollout in finished] == ["cancelled", "succeeded"]


async def check_wait_needs_known_ids(store: Store) -> None:
    with refused(NotFound, NOBODY):
        await store.wait_for_rollouts(rollout_ids=[NOBODY], timeout=0)


async def check_completions_come_once_in_their_order(store: Store) -> None:
    rollouts = [await store.start_rollout(number) for number in range(3)]
    for rollout in (rollouts[1], rollouts[0]):
        await report(store, rollout, "succeeded")
    first = await store.query_completions(limit=1)
    second = await store.query_completions(first.cursor)
    assert ids([*first.rollouts, *second.rollouts]) == [rollouts[1].rollout_id, rollouts[0].rollout_id]
    third = await store.query_completions(second.cursor)
    assert (third.rollouts, third.cursor) == ([], second.cursor)


# Reading


async def check_attempted_rollouts_come_with_their_attempt(store: Store) -> None:
    queued = await store.enqueue_rollout(1)
    assert type(await store.get_rollout_by_id(queued.rollout_id)) is Rollout
    claimed = await claim(store)
    assert await store.get_rollout_by_id(queued.rollout_id) == claimed
    assert await store.query_rollouts() == [claimed]
    assert await store.get_latest_attempt(queued.rollout_id) == claimed.attempt


async def check_what_is_absent_is_none(store: Store) -> None:
    assert await store.get_rollout_by_id(NOBODY) is None
    assert await store.get_latest_attempt(NOBODY) is None
    assert await store.get_resources_by_id("rs-000000000000") is None
    assert await store.get_latest_resources() is None
    assert await store.get_worker_by_id("nobody") is None
    rollout = await store.enqueue_rollout(1)
    assert await store.get_latest_attempt(rollout.rollout_id) is None


async def check_rollouts_are_filtered(store: Store) -> None:
    rollouts = [await store.start_rollout(number) for number in range(4)]
    await report(store, rollouts[1], "failed")
    await report(store, rollouts[3], "succeeded")
    first, second, third, fourth = ids(rollouts)
    for wanted, found in (
        ({"status_in": ["failed", "succeeded"]}, [second, fourth]),
        ({"status_in": []}, []),
        ({"rollout_id_in": [third, first, NOBODY]}, [first, third]),
        ({"rollout_id_contains": second[4:]}, [second]),
        ({"status_in": ["failed"], "rollout_id_in": [first, second]}, [second]),
        ({"status_in": ["failed"], "rollout_id_in": [first], "filter_logic": "or"}, [first, second]),
        ({"status_in": ["failed"], "rollout_id_contains": first, "filter_logic": "or"}, [first, second]),
        ({"rollout_id_contains": first, "status_in": ["failed"]}, []),
        ({"filter_logic": "or"}, [first, second, third, fourth]),
    ):
        assert ids(await store.query_rollouts(**cast("dict[str, Any]", wanted))) == found, wanted


async def check_rollouts_are_sorted_and_paged(store: Store) -> None:
    made = ids([await store.enqueue_rollout(number) for number in range(5)])
    assert ids(await store.query_rollouts()) == made
    assert ids(await store.query_rollouts(sort_by="start_time", sort_order="desc")) == made[::-1]
    assert ids(await store.query_rollouts(sort_by="rollout_id")) == sorted(made)
    assert ids(await store.query_rollouts(sort_by="status", sort_order="desc")) == made[::-1]
    assert ids(await store.query_rollouts(limit=2, offset=1)) == made[1:3]
    assert ids(await store.query_rollouts(status_in=["queuing"], limit=2, offset=2)) == made[2:4]
    assert ids(await store.query_rollouts(limit=0)) == ids(await store.query_rollouts(offset=9)) == []


async def check_none_comes_before_every_value(store: Store) -> None:
    modes: Sequence[Any] = ("val", None, "train", None)
    for mode in modes:
        await store.enqueue_rollout(1, mode)
    ascending = await store.query_rollouts(sort_by="mode")
    assert [rollout.mode for rollout in ascending] == [None, None, "train", "val"]
    assert await store.query_rollouts(sort_by="mode", sort_order="desc") == ascending[::-1]


async def check_attempts_are_listed(store: Store) -> None:
    rollout = await store.start_rollout(1)
    for _ in range(2):
        await store.start_attempt(rollout.rollout_id)
    attempts = await store.query_attempts(rollout.rollout_id)
    assert [attempt.sequence_id for attempt in attempts] == [1, 2, 3]
    assert await store.query_attempts(rollout.rollout_id, sort_order="desc", limit=1) == attempts[2:]
    with refused(NotFound, NOBODY):
        await store.query_attempts(NOBODY)


# Spans


async def check_span_is_a_heartbeat(store: Store) -> None:
    rollout = await store.start_rollout(1)
    kept = span(rollout, attributes={"tokens": 3}, status=TraceStatus("OK"))
    assert await store.add_span(kept) == kept
    attempt = await store.get_latest_attempt(rollout.rollout_id)
    assert attempt is not None
    assert (attempt.status, await status_of(store, rollout)) == ("running", "running")
    assert attempt.last_heartbeat_time is not None
    assert await store.query_spans(rollout.rollout_id) == [kept]


async def check_duplicate_spans_are_left_out(store: Store) -> None:
    rollout = await store.start_rollout(1)
    first, second = span(rollout, 1), span(rollout, 2)
    assert await store.add_span(first) == first
    assert await store.add_span(first) is None
    assert await store.add_many_spans([first, second, second]) == [second]
    await report(store, rollout, "succeeded")
    assert await store.add_many_spans([first, second]) == []
    assert (await store.statistics()).total_spans == 2


async def check_spans_of_several_rollouts_come_together(store: Store) -> None:
    one, other = await store.start_rollout(1), await store.start_rollout(2)
    spans = [span(one), span(other), span(one, 2)]
    assert await store.add_many_spans(spans) == spans
    assert await store.query_spans(one.rollout_id) == [spans[0], spans[2]]
    assert await status_of(store, other) == "running"


async def check_spans_need_their_attempt(store: Store) -> None:
    rollout = await store.start_rollout(1)
    with refused(NotFound, NOBODY):
        await store.add_span(span(rollout, rollout_id=NOBODY))
    with refused(NotFound, "latest"):
        await store.add_many_spans([span(rollout), span(rollout, attempt_id="latest")])
    assert await store.query_spans(rollout.rollout_id) == []
    assert await status_of(store, rollout) == "preparing"


async def check_sequence_ids_increase(store: Store) -> None:
    rollout = await store.start_rollout(1)
    pair = (rollout.rollout_id, rollout.attempt.attempt_id)
    assert [await store.get_next_span_sequence_id(*pair) for _ in range(2)] == [1, 2]
    await store.add_span(span(rollout, 7))
    assert await store.get_many_span_sequence_ids([pair, pair]) == [8, 9]
    with refused(NotFound, "at-00000000"):
        await store.get_many_span_sequence_ids([pair, (rollout.rollout_id, "at-00000000")])
    assert await store.get_next_span_sequence_id(*pair) == 10


async def check_spans_are_filtered(store: Store) -> None:
    rollout = await store.start_rollout(1)
    first = span(rollout, 1, name="plan")
    second = span(rollout, 2, name="act", parent_id=first.span_id)
    third = span(rollout, 3, name="act again", trace_id=f"{2:032x}", parent_id=first.span_id)
    await store.add_many_spans([third, first, second])
    for wanted, found in (
        ({}, [first, second, third]),
        ({"name": "act"}, [second]),
        ({"name_contains": "act"}, [second, third]),
        ({"trace_id": third.trace_id}, [third]),
        ({"parent_id": first.span_id, "name": "act"}, [second]),
        ({"span_id": first.span_id, "name": "act", "filter_logic": "or"}, [first, second]),
        ({"span_id_contains": "3"}, [third]),
        ({"parent_id_contains": "1", "trace_id_contains": "2"}, [third]),
        ({"sort_order": "desc", "limit": 1}, [third]),
        ({"sort_by": "name", "limit": 2}, [second, third]),
    ):
        assert await store.query_spans(rollout.rollout_id, **cast("dict[str, Any]", wanted)) == found, wanted


async def check_spans_are_listed_by_attempt(store: Store) -> None:
    rollout = await store.enqueue_rollout(1)
    assert await store.query_spans(rollout.rollout_id, "latest") == []
    first = await store.start_attempt(rollout.rollout_id)
    early = span(first)
    await store.add_span(early)
    second = await store.start_attempt(rollout.rollout_id)
    late = span(second, 2)
    await store.add_span(late)
    assert await store.query_spans(rollout.rollout_id) == [early, late]
    assert await store.query_spans(rollout.rollout_id, first.attempt.attempt_id) == [early]
    assert await store.query_spans(rollout.rollout_id, "latest") == [late]
    assert await store.query_spans(rollout.rollout_id, "latest", name=early.name, filter_logic="or") == []
    with refused(NotFound, "at-00000000"):
        await store.query_spans(rollout.rollout_id, "at-00000000")


# Resources


async def check_resources_have_versions(store: Store) -> None:
    prompt = PromptTemplate("Say {word}")
    first = await store.add_resources({"prompt": prompt, "llm": LLM("http://localhost", "m")})
    assert (first.version, first.resources["prompt"], first.create_time) == (1, prompt, first.update_time)
    second = await store.update_resources(first.resources_id, {"prompt": PromptTemplate("Shout {word}")})
    assert (second.version, second.create_time) == (2, first.create_time)
    assert await store.get_resources_by_id(first.resources_id) == second
    own = await store.update_resources("default", {})
    assert own.version == 1
    assert await store.query_resources() == [second, own]
    assert await store.query_resources(resources_id_contains="defa") == [own]
    assert await store.query_resources(resources_id=first.resources_id, sort_by="version") == [second]


async def check_rollouts_take_the_latest_resources(store: Store) -> None:
    assert (await store.enqueue_rollout(1)).resources_id is None
    first, second = await store.add_resources({}), await store.add_resources({})
    assert await store.get_latest_resources() == second
    queued = await store.enqueue_rollout(1)
    assert queued.resources_id == second.resources_id
    await store.update_resources(first.resources_id, {})
    assert (await store.start_rollout(1)).resources_id == first.resources_id
    again = await store.get_rollout_by_id(queued.rollout_id)
    assert again is not None
    assert again.resources_id == second.resources_id
    assert (await store.enqueue_rollout(1, resources_id=second.resources_id)).resources_id == second.resources_id


# Workers


async def check_worker_follows_its_attempts(store: Store) -> None:
    after: dict[AttemptStatus, str] = {
        "running": "busy",
        "succeeded": "idle",
        "failed": "idle",
        "timeout": "unknown",
        "unresponsive": "unknown",
    }
    for status, expected in after.items():
        rollout = await store.start_rollout(1, worker_id=status)
        await report(store, rollout, status)
        worker = await store.get_worker_by_id(status)
        assert worker is not None
        assert worker.status == expected
        current = (rollout.rollout_id, rollout.attempt.attempt_id) if expected == "busy" else (None, None)
        assert (worker.current_rollout_id, worker.current_attempt_id) == current
        assert (worker.last_busy_time is None, worker.last_idle_time is None) == (False, expected == "busy")


async def check_worker_that_moved_on_stays_busy(store: Store) -> None:
    old, new = await store.start_rollout(1, worker_id="w"), await store.start_rollout(2, worker_id="w")
    await report(store, old, "timeout")
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert (worker.status, worker.current_rollout_id) == ("busy", new.rollout_id)


async def check_worker_without_work_is_idle(store: Store) -> None:
    assert await store.dequeue_rollout("w") is None
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert (worker.status, worker.current_rollout_id) == ("idle", None)
    assert worker.last_dequeue_time is not None


async def check_worker_heartbeat_is_only_that(store: Store) -> None:
    worker = await store.update_worker("w", {"load": 0.5})
    assert (worker.status, worker.heartbeat_stats) == ("unknown", {"load": 0.5})
    assert worker.last_heartbeat_time is not None
    rollout = await store.start_rollout(1, worker_id="w")
    again = await store.update_worker("w")
    assert (again.status, again.current_rollout_id) == ("busy", rollout.rollout_id)
    assert again.heartbeat_stats == {"load": 0.5}


async def check_workers_are_listed(store: Store) -> None:
    await store.start_rollout(1, worker_id="b1")
    await store.dequeue_rollout("a1")
    await store.update_worker("a2")

    async def listed(**wanted: Any) -> list[str]:
        return [worker.worker_id for worker in await store.query_workers(**wanted)]

    assert await listed() == ["b1", "a1", "a2"]
    assert await listed(status_in=["busy", "idle"]) == ["b1", "a1"]
    assert await listed(worker_id_contains="a", status_in=["idle"]) == ["a1"]
    assert await listed(worker_id_contains="2", status_in=["idle"], filter_logic="or") == ["a1", "a2"]
    assert await listed(sort_by="worker_id", limit=2) == ["a1", "a2"]
    assert await listed(sort_order="desc", offset=2) == ["b1"]


async def check_attempts_of_a_released_worker_are_unresponsive(store: Store) -> None:
    config = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"])
    retried, final = await store.enqueue_rollout(1, config=config), await store.enqueue_rollout(2)
    other = await store.enqueue_rollout(3)
    done = await store.start_rollout(4, worker_id="w")
    await report(store, done, "succeeded")
    await store.dequeue_many_rollouts(2, "w")
    await claim(store, worker_id="v")
    released = await store.release_worker("w")
    assert [(attempt.rollout_id, attempt.status) for attempt in released] == [
        (retried.rollout_id, "unresponsive"),
        (final.rollout_id, "unresponsive"),
    ]
    statuses = [await status_of(store, rollout) for rollout in (retried, final, other, done)]
    assert statuses == ["requeuing", "failed", "preparing", "succeeded"]
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert (worker.status, worker.current_rollout_id) == ("unknown", None)
    assert await store.release_worker("w") == []
    assert (await claim(store, worker_id="w")).rollout_id == retried.rollout_id


async def check_released_worker_waits_no_more(store: Store) -> None:
    waiting = Waiting(store, "w")
    async with anyio.create_task_group() as tg:
        tg.start_soon(waiting.run)
        await until_waiting(store, 1)
        assert await store.release_worker("w") == []
    assert waiting.input is None
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert worker.status == "unknown"


async def check_releasing_a_worker_that_was_never_heard_of_does_nothing(store: Store) -> None:
    assert await store.release_worker("nobody") == []
    assert await store.get_worker_by_id("nobody") is None


# What is handed out, what is refused


async def check_snapshots_are_the_callers_own(store: Store) -> None:
    metadata = {"tags": ["a"]}
    rollout = await store.enqueue_rollout(1, metadata=metadata)
    metadata["tags"].append("changed after the call")
    cast("dict[str, Any]", rollout.metadata)["more"] = True
    claimed = await claim(store, worker_id="w")
    assert claimed.metadata == {"tags": ["a"]}
    await store.update_attempt(rollout.rollout_id, "latest", metadata={"a": [1]})
    attempt = await store.get_latest_attempt(rollout.rollout_id)
    assert attempt is not None
    assert attempt.metadata is not None
    attempt.metadata["a"].append(2)
    stats: dict[str, Any] = {"load": [1]}
    await store.update_worker("w", stats)
    stats["load"].append(2)
    assert (await store.query_attempts(rollout.rollout_id))[0].metadata == {"a": [1]}
    assert (await store.query_workers())[0].heartbeat_stats == {"load": [1]}


async def check_reads_change_nothing(store: Store) -> None:
    rollout = await store.enqueue_rollout(1)
    before = await store.get_rollout_by_id(rollout.rollout_id)
    await store.query_spans(rollout.rollout_id)
    await store.query_attempts(rollout.rollout_id)
    await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=0)
    await store.query_workers()
    assert await store.get_rollout_by_id(rollout.rollout_id) == before
    assert (await claim(store)).rollout_id == rollout.rollout_id


async def check_statistics_count(store: Store) -> None:
    rollout = await store.start_rollout(1, worker_id="w")
    await store.enqueue_rollout(2)
    await store.add_span(span(rollout))
    await store.add_resources({})
    counted = await store.statistics()
    totals = (counted.total_rollouts, counted.total_attempts, counted.total_spans)
    assert totals == (2, 1, 1)
    assert (counted.total_resources, counted.total_workers, counted.queue_length) == (1, 1, 1)
    assert (counted.waiters, counted.fenced, counted.evicted) == (0, 0, 0)
    assert counted.total_span_bytes > 0
    assert counted.uptime >= 0


Call: TypeAlias = Callable[[Any, AttemptedRollout], Awaitable[object]]

BAD_CALLS: tuple[tuple[Call, tuple[str, ...]], ...] = (
    (lambda s, r: s.enqueue_rollout(1, mode="banana"), ("mode", "banana", "train")),
    (lambda s, r: s.enqueue_rollout(1, metadata="x"), ("metadata", "'x'")),
    (lambda s, r: s.enqueue_rollout(1, rollout_id=""), ("rollout_id", "''")),
    (lambda s, r: s.enqueue_many_rollouts([1]), ("requests", "EnqueueRolloutRequest")),
    (lambda s, r: s.start_rollout(1, worker_id=7), ("worker_id", "7")),
    (lambda s, r: s.dequeue_rollout(timeout="soon"), ("timeout", "soon")),
    (lambda s, r: s.dequeue_rollout(worker_id=7), ("worker_id", "7")),
    (lambda s, r: s.dequeue_rollout(claim_id="c"), ("worker_id", "'c'")),
    (lambda s, r: s.dequeue_many_rollouts(worker_id="w", claim_id=7), ("claim_id", "7")),
    (lambda s, r: s.dequeue_many_rollouts(limit="10"), ("limit", "'10'")),
    (lambda s, r: s.give_back("w", ""), ("claim_id", "''")),
    (lambda s, r: s.give_back(7, "c"), ("worker_id", "7")),
    (lambda s, r: s.release_worker(None), ("worker_id", "None")),
    (lambda s, r: s.query_rollouts(limit=-2), ("limit", "-2")),
    (lambda s, r: s.query_rollouts(limit="10"), ("limit", "'10'")),
    (lambda s, r: s.query_rollouts(offset=-1), ("offset", "-1")),
    (lambda s, r: s.query_rollouts(sort_by="input"), ("sort_by", "input", "start_time")),
    (lambda s, r: s.query_rollouts(sort_by="metadata"), ("sort_by", "metadata", "rollout_id")),
    (lambda s, r: s.query_rollouts(sort_order="up"), ("sort_order", "up", "desc")),
    (lambda s, r: s.query_rollouts(filter_logic="xor"), ("filter_logic", "xor", "or")),
    (lambda s, r: s.query_rollouts(status_in="failed"), ("status_in", "failed", "list")),
    (lambda s, r: s.query_rollouts(status_in=["x"]), ("status_in", "'x'", "failed")),
    (lambda s, r: s.query_rollouts(rollout_id_in=[7]), ("rollout_id_in", "7")),
    (lambda s, r: s.query_rollouts(rollout_id_contains=7), ("rollout_id_contains", "7")),
    (lambda s, r: s.query_completions(-1), ("after", "-1")),
    (lambda s, r: s.wait_for_rollouts(rollout_ids="ro-1"), ("rollout_ids", "ro-1")),
    (lambda s, r: s.update_rollout(r.rollout_id, status="x"), ("status", "'x'", "queuing")),
    (lambda s, r: s.update_rollout(r.rollout_id, input=2, mode="x"), ("mode", "'x'")),
    (lambda s, r: s.update_rollout(r.rollout_id, config=None), ("config", "None")),
    (lambda s, r: s.update_attempt(r.rollout_id, "latest", status="cancelled"), ("status", "cancelled")),
    (lambda s, r: s.update_attempt(r.rollout_id, "latest", worker_id=None), ("worker_id", "None")),
    (lambda s, r: s.update_attempt(r.rollout_id, "latest", last_heartbeat_time="now"), ("now",)),
    (lambda s, r: s.add_span({"name": "x"}), ("span", "Span")),
    (lambda s, r: s.add_span(replace(span(r), sequence_id="1")), ("sequence_id", "'1'")),
    (lambda s, r: s.add_many_spans(span(r)), ("spans",)),
    (lambda s, r: s.get_many_span_sequence_ids(["ro"]), ("pairs", "ro")),
    (lambda s, r: s.query_spans(r.rollout_id, name=1), ("name", "1")),
    (lambda s, r: s.query_spans(r.rollout_id, sort_by="attributes"), ("sort_by", "attributes")),
    (lambda s, r: s.add_resources(["x"]), ("resources", "x")),
    (lambda s, r: s.update_resources("", {}), ("resources_id", "''")),
    (lambda s, r: s.query_workers(status_in=["lazy"]), ("status_in", "lazy", "busy")),
    (lambda s, r: s.update_worker("w", None), ("heartbeat_stats", "None")),
)


async def check_bad_values_are_named_and_change_nothing(store: Store) -> None:
    rollout = await store.start_rollout(1)
    for call, words in BAD_CALLS:
        try:
            with refused(InvalidArgument, *words):
                await call(store, rollout)
        except WrongCall as error:  # a link has refused it before the store saw it, by the annotations
            assert words[0] in str(error)  # noqa: PT017 (it is no pytest that runs this)
    assert await store.query_rollouts() == [rollout]
    counted = await store.statistics()
    assert (counted.total_spans, counted.total_resources, counted.total_workers) == (0, 0, 0)


CALLS_WITH_UNKNOWN_IDS: tuple[tuple[Call, str], ...] = (
    (lambda s, r: s.update_rollout(NOBODY, mode=None), NOBODY),
    (lambda s, r: s.update_rollout(r.rollout_id, resources_id="rs-1", mode="val"), "rs-1"),
    (lambda s, r: s.update_attempt(NOBODY, "latest", status="running"), NOBODY),
    (lambda s, r: s.update_attempt(r.rollout_id, "at-1", status="running"), "at-1"),
    (lambda s, r: s.get_next_span_sequence_id(NOBODY, "at-1"), NOBODY),
    (lambda s, r: s.query_spans(NOBODY), NOBODY),
    (lambda s, r: s.enqueue_rollout(1, resources_id="rs-1"), "rs-1"),
    (lambda s, r: s.start_rollout(1, resources_id="rs-1"), "rs-1"),
)


async def check_unknown_ids_are_named(store: Store) -> None:
    rollout = await store.start_rollout(1)
    for call, name in CALLS_WITH_UNKNOWN_IDS:
        with refused(NotFound, name):
            await call(store, rollout)
    assert await store.query_rollouts() == [rollout]


CHECKS: tuple[Check, ...] = tuple(
    check
    for name, check in list(globals().items())
    if name.startswith("check_") and name not in ("check_store", "check_rule")
)
