"""Plain functions as agents run in worker threads, and the loop goes on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from lightactors.actors import open_system
from lightactors.training.events import ExecutionEvent
from lightactors.training.records import EnqueueRolloutRequest, RolloutConfig
from lightactors.training.runners.runner import Runner
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.tracing.rewards import find_final_reward
from lightactors.training.tracing.trace import emit_message, operation
from tests.training.runners.running import running


class Blocking:
    """An agent that blocks its thread until it is released."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.release = threading.Event()
        self.ended = threading.Event()

    def rollout(self, task: str) -> float:
        self.started.set()
        self.release.wait()
        emit_message("after the release")
        self.ended.set()
        return 1.0

    async def is_started(self) -> None:
        await anyio.to_thread.run_sync(self.started.wait)


@pytest.fixture
def agent() -> Generator[Blocking]:
    # Released whatever happens: on asyncio a thread that stays blocked keeps the whole test run from ending.
    blocking = Blocking()
    yield blocking
    blocking.release.set()


async def test_plain_function_traces_and_is_rewarded() -> None:
    def answer(task: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        with operation("think"):
            emit_message("hm")
        return task

    store, event = MemoryStore(), ExecutionEvent()
    rollouts = await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in range(3)])
    async with running(Runner(answer, store, worker_id="w"), event):
        await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id for rollout in rollouts])
    spans = [await store.query_spans(rollout.rollout_id) for rollout in rollouts]
    assert [find_final_reward(some) for some in spans] == [0, 1, 2]
    for message, thinking, _ in spans:
        assert message.parent_id == thinking.span_id


async def test_plain_function_that_fails_fails_its_attempt() -> None:
    def stop_iteration(task: str) -> None:
        raise StopIteration("of the agent")

    store, event = MemoryStore(), ExecutionEvent()
    rollout = await store.enqueue_rollout("task")
    async with running(Runner(stop_iteration, store, worker_id="w"), event):
        (ended,) = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id])
    assert ended.status == "failed"


async def test_heartbeats_go_on_while_a_plain_function_blocks(agent: Blocking) -> None:
    event = ExecutionEvent()
    async with open_system() as system:
        store = await system.adopt(MemoryStore())
        rollout = await store.enqueue_rollout("task", config=RolloutConfig(unresponsive_seconds=0.2))
        async with running(Runner(agent, store, worker_id="w"), event):
            await agent.is_started()
            await anyio.sleep(0.6)
            attempt = await store.get_latest_attempt(rollout.rollout_id)
            assert attempt is not None
            assert attempt.status == "running"
            agent.release.set()
            (ended,) = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id])
        assert ended.status == "succeeded"


async def test_function_that_is_given_up_is_reported_with_its_stack(
    agent: Blocking, caplog: pytest.LogCaptureFixture
) -> None:
    event, store = ExecutionEvent(), MemoryStore()
    late = await store.enqueue_rollout("late", config=RolloutConfig(timeout_seconds=0.1))
    async with running(Runner(agent, store, worker_id="w"), event):
        with anyio.fail_after(5):
            (ended,) = await store.wait_for_rollouts(rollout_ids=[late.rollout_id])
    assert ended.status == "failed"
    (record,) = [record for record in caplog.records if "left behind" in record.getMessage()]
    assert f"agent Blocking on rollout {late.rollout_id}" in record.getMessage()
    assert "self.release.wait()" in record.getMessage()
    agent.release.set()
    await anyio.to_thread.run_sync(agent.ended.wait)
    assert await store.query_spans(late.rollout_id, name="agentlightning.message") == []


async def test_cancelled_runner_leaves_a_blocking_function_and_gives_its_rollout_back(agent: Blocking) -> None:
    store = MemoryStore()
    rollout = await store.enqueue_rollout("task")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Runner(agent, store, worker_id="w").run, ExecutionEvent())
        await agent.is_started()
        tasks.cancel_scope.cancel()
    assert await store.query_rollouts(status_in=["requeuing"], rollout_id_in=[rollout.rollout_id]) != []
    agent.release.set()
    await anyio.to_thread.run_sync(agent.ended.wait)


async def test_plain_function_may_ask_whether_it_was_cancelled() -> None:
    asked = threading.Event()
    ended = threading.Event()

    def patient(task: str) -> None:
        try:
            while True:
                asked.set()
                anyio.from_thread.check_cancelled()
        finally:
            ended.set()

    store = MemoryStore()
    await store.enqueue_rollout("task")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Runner(patient, store, worker_id="w").run, ExecutionEvent())
        await anyio.to_thread.run_sync(asked.wait)
        tasks.cancel_scope.cancel()
    await anyio.to_thread.run_sync(ended.wait, 5)
    assert ended.is_set()


@pytest.mark.parametrize("place", ["task", "thread"])
async def test_store_in_another_thread_serves_runners_anywhere(place: Any) -> None:
    def answer(task: int) -> int:
        return task

    event = ExecutionEvent()
    async with open_system() as system:
        store = await system.options(place="thread").adopt(MemoryStore())
        rollouts = await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in range(50)])
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                runner = await system.options(place=place).spawn(Runner, answer, store, worker_id=f"w-{number}")
                tasks.start_soon(runner.run, event)
            ended = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id for rollout in rollouts])
            event.set()
        assert {rollout.status for rollout in ended} == {"succeeded"}
        assert [find_final_reward(await store.query_spans(rollout.rollout_id)) for rollout in ended] == list(range(50))


@pytest.mark.parametrize("ending", ["stop", "cancel"])
async def test_no_claim_is_lost_when_work_and_end_cross_between_threads(ending: str) -> None:
    async def answer(task: str) -> float:
        return 1.0

    async with open_system() as system:
        store = await system.options(place="thread").adopt(MemoryStore())
        for _ in range(200):
            event = ExecutionEvent()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Runner(answer, store, worker_id="w").run, event)
                while not (await store.statistics()).waiters:
                    await anyio.lowlevel.checkpoint()
                store.enqueue_rollout.tell_nowait("task")
                if ending == "stop":
                    event.set()
                else:
                    tasks.cancel_scope.cancel()
        left = await store.query_rollouts(status_in=["preparing", "running"])
        assert left == []
