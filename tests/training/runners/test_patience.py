"""A runner outlives its store: whichever call is lost, before it ran or after, its rollouts are run once."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
import pytest

from lightactors.errors import AccessDenied, ActorNotRunning, ConnectFailed, LinkLost, StoreUnavailable
from lightactors.training.events import ExecutionEvent
from lightactors.training.patience import insist
from lightactors.training.records import AttemptedRollout, EnqueueRolloutRequest, Resources, RolloutConfig
from lightactors.training.runners.runner import Runner
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.tracing.trace import emit_message

TASKS = 3
CALLS = 21
"""As many as the runner makes for its tasks, so that every one of them is lost once."""


class Far:
    """A store behind a link that can be lost: `lose(number, name)` says when, and what is raised then."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: list[str] = []
        self.request_is_lost: Callable[[int], bool] = lambda _: False
        self.reply_is_lost: Callable[[int], bool] = lambda _: False
        self.error: type[Exception] = LinkLost

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            number = len(self.calls)
            self.calls.append(name)
            if self.request_is_lost(number):
                raise self.error(f"{name} was lost")
            reply = await getattr(self.store, name)(*args, **kwargs)
            if self.reply_is_lost(number):
                raise self.error(f"the reply to {name} was lost")
            return reply

        return call


class Seen:
    """An agent that notes what it was run on."""

    def __init__(self) -> None:
        self.tasks: list[object] = []

    async def rollout_async(self, task: object, resources: Resources, rollout: AttemptedRollout) -> float:
        self.tasks.append(task)
        await anyio.sleep(1.5)  # long enough for a heartbeat
        emit_message(f"on {task}, {rollout.attempt.sequence_id}")
        return 1.0


@asynccontextmanager
async def running(far: Far, agent: object) -> AsyncGenerator[ExecutionEvent]:
    event = ExecutionEvent()
    runner = Runner(agent, cast("Store", far), worker_id="w", heartbeat_interval=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run, event)
        yield event
        event.set()


async def enqueue(store: Store, count: int = TASKS) -> list[str]:
    await store.add_resources({"secret": b"7"})
    requests = [EnqueueRolloutRequest(task) for task in range(count)]
    return [rollout.rollout_id for rollout in await store.enqueue_many_rollouts(requests)]


async def check_each_ran_once(store: Store, agent: Seen, ids: list[str]) -> None:
    ended = await store.wait_for_rollouts(rollout_ids=ids, timeout=60)
    assert [rollout.status for rollout in ended] == ["succeeded"] * len(ids)
    assert agent.tasks == list(range(len(ids)))
    for rollout_id in ids:
        assert [attempt.status for attempt in await store.query_attempts(rollout_id)] == ["succeeded"]
        spans = await store.query_spans(rollout_id)
        assert len({span.span_id for span in spans}) == len(spans) == 2


@pytest.mark.parametrize("lost", ["request", "reply"])
@pytest.mark.parametrize("at", range(CALLS))
async def test_no_lost_call_loses_or_repeats_a_rollout(at: int, lost: str) -> None:
    store = MemoryStore()
    far, agent = Far(store), Seen()
    setattr(far, f"{lost}_is_lost", at.__eq__)
    ids = await enqueue(store)
    async with running(far, agent):
        await check_each_ran_once(store, agent, ids)
    assert len(far.calls) > at


@pytest.mark.parametrize("seed", range(3))
async def test_most_calls_may_be_lost(seed: int) -> None:
    store, chance = MemoryStore(), random.Random(seed)
    far, agent = Far(store), Seen()
    far.request_is_lost = far.reply_is_lost = lambda _: chance.random() < 0.4
    ids = await enqueue(store)
    async with running(far, agent):
        await check_each_ran_once(store, agent, ids)


@pytest.mark.parametrize("error", [ConnectFailed, StoreUnavailable])
async def test_store_that_is_away_for_a_minute_is_waited_for(error: type[Exception]) -> None:
    store = MemoryStore()
    far, agent = Far(store), Seen()
    far.error = error
    back = anyio.current_time() + 60
    far.request_is_lost = lambda _: anyio.current_time() < back
    ids = await enqueue(store)
    async with running(far, agent):
        await anyio.sleep(59)
        assert agent.tasks == []
        await anyio.sleep(2)
        assert agent.tasks == [0]
        await check_each_ran_once(store, agent, ids)
    assert len(far.calls) < 300


async def test_rollout_under_way_is_reported_when_the_store_is_back() -> None:
    store = MemoryStore()
    far = Far(store)
    (rollout_id,) = await enqueue(store, 1)

    async def work(task: object) -> float:
        far.request_is_lost = lambda _: True
        await anyio.sleep(30)
        return 1.0

    async with running(far, work):
        await anyio.sleep(100)
        far.request_is_lost = lambda _: False
        (ended,) = await store.wait_for_rollouts(rollout_ids=[rollout_id], timeout=2)
        assert ended.status == "succeeded"


async def test_attempt_that_the_store_gave_up_meanwhile_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """The link was away for longer than the store had patience: another attempt has the rollout now."""
    store = MemoryStore()
    far = Far(store)
    tries: list[int] = []
    config = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"])
    rollout = await store.enqueue_rollout(1, config=config)

    async def work(task: object, rollout: AttemptedRollout) -> float:
        tries.append(rollout.attempt.sequence_id)
        if len(tries) == 1:
            far.request_is_lost = lambda _: True
            await anyio.sleep(10)
        return 1.0

    async with running(far, work):
        await anyio.sleep(5)
        await store.release_worker("w")
        await anyio.sleep(10)
        far.request_is_lost = lambda _: False
        other = await store.dequeue_rollout("other")
        assert other is not None
        await store.update_attempt(rollout.rollout_id, "latest", status="succeeded")
        following = await store.enqueue_rollout(2)
        (ended,) = await store.wait_for_rollouts(rollout_ids=[following.rollout_id], timeout=10)
    assert ended.status == "succeeded"
    assert [attempt.status for attempt in await store.query_attempts(rollout.rollout_id)] == [
        "unresponsive",
        "succeeded",
    ]
    assert "too late" in caplog.text


async def test_store_that_comes_back_empty_is_served_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    first, second = MemoryStore(), MemoryStore()
    far = Far(first)
    await enqueue(first, 1)
    cancelled = anyio.Event()

    async def work(task: object) -> float:
        if far.store is second:
            return 1.0
        far.store = second
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        return 0.0

    async with running(far, work):
        await cancelled.wait()
        ids = await enqueue(second, 1)
        (ended,) = await second.wait_for_rollouts(rollout_ids=ids, timeout=10)
    assert ended.status == "succeeded"
    assert "there is no rollout" in caplog.text


@pytest.mark.parametrize("first", range(3))
async def test_runner_is_stopped_while_the_store_is_away(first: int) -> None:
    far = Far(MemoryStore())
    far.request_is_lost = lambda number: number >= first
    async with running(far, Seen()) as event:
        await anyio.sleep(10)
        before = anyio.current_time()
        event.set()
    assert anyio.current_time() <= before + 2


@pytest.mark.parametrize("error", [AccessDenied, ActorNotRunning])
async def test_what_no_patience_helps_against_ends_the_run(error: type[Exception]) -> None:
    far = Far(MemoryStore())
    far.error = error
    far.request_is_lost = lambda _: True
    with pytest.raises(error):
        await Runner(Seen(), cast("Store", far), worker_id="w").run()


async def test_store_that_refuses_us_at_its_return_is_named_as_the_reason() -> None:
    async def ask() -> None:
        raise ActorNotRunning("the store stopped before it handled this") from AccessDenied("no such token")

    with pytest.raises(AccessDenied, match="no such token"):
        await insist(ask)
