"""Statuses follow the table of transitions."""

from __future__ import annotations

from lightactors.errors import FencedAttempt, InvalidTransition
from lightactors.testing.store.moves import (
    RETRY,
    claim,
    ids,
    refused,
    report,
    span,
    status_of,
)
from lightactors.training.records import (
    RolloutConfig,
)
from lightactors.training.stores.contract import Store


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
