"""Rollouts go in and out of the queue."""

from __future__ import annotations

import anyio

from lightactors.errors import Conflict, FencedAttempt, InvalidTransition, NotFound
from lightactors.testing.store.moves import (
    NOBODY,
    RETRY,
    Waiting,
    claim,
    ids,
    refused,
    report,
    status_of,
    until_waiting,
)
from lightactors.training.records import (
    AttemptedRollout,
    EnqueueRolloutRequest,
    Rollout,
    RolloutConfig,
)
from lightactors.training.stores.contract import Store


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


async def check_all_that_a_worker_is_on_is_given_back(store: Store) -> None:
    queued = [await store.enqueue_rollout(number) for number in range(4)]
    await store.start_attempt(queued[3].rollout_id, "w")
    await store.dequeue_many_rollouts(2, "w", claim_id="c")
    theirs = await claim(store, worker_id="v", claim_id="c")
    assert ids(await store.give_back("w")) == [queued[0].rollout_id, queued[1].rollout_id, queued[3].rollout_id]
    assert await store.give_back("w") == []
    assert await status_of(store, theirs) == "preparing"


async def check_what_was_given_back_costs_no_attempt(store: Store) -> None:
    rollout = await store.enqueue_rollout(1, config=RETRY)
    for _ in range(2):
        await report(store, await claim(store, worker_id="w"), "running")
        await store.give_back("w")
    for after in ("requeuing", "failed"):
        await report(store, await claim(store, worker_id="w"), "failed")
        assert await status_of(store, rollout) == after
    attempts = await store.query_attempts(rollout.rollout_id)
    assert [attempt.status for attempt in attempts] == ["running", "running", "failed", "failed"]
    assert all(attempt.end_time is not None for attempt in attempts)


async def check_attempt_that_was_given_back_may_speak_again_before_the_next(store: Store) -> None:
    await store.enqueue_rollout(1)
    claimed = await claim(store, worker_id="w")
    await store.give_back("w")
    await report(store, claimed, "succeeded")
    assert await status_of(store, claimed) == "succeeded"
    assert await store.dequeue_rollout("v") is None


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
