"""Runners claim, run and report; they stop when asked, and lose nothing when cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from opentelemetry.sdk.trace import TracerProvider

from lightactors.actors import open_system, stop
from lightactors.errors import ConfigurationError, ContractError, InvalidArgument
from lightactors.testing import Gate
from lightactors.training.events import ExecutionEvent
from lightactors.training.lifecycle import was_given_back
from lightactors.training.records import (
    Attempt,
    AttemptedRollout,
    EnqueueRolloutRequest,
    PromptTemplate,
    Resources,
    Rollout,
    RolloutConfig,
    Span,
    Worker,
)
from lightactors.training.runners.runner import Runner, run_context
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.waiting import Claimant
from lightactors.training.tracing import semconv
from lightactors.training.tracing.rewards import find_final_reward
from lightactors.training.tracing.trace import emit_message, emit_reward
from tests.training.runners.running import running

Agent = Callable[..., Awaitable[Any]]


async def answer(task: Any) -> float:
    return 1.0


@pytest.fixture
def event() -> ExecutionEvent:
    return ExecutionEvent()


async def finished(store: Store, *rollouts: Rollout) -> list[Rollout]:
    return await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id for rollout in rollouts])


async def spans_of(store: Store, rollout: Rollout) -> list[Span]:
    return await store.query_spans(rollout.rollout_id)


async def attempts_of(store: Store, rollout: Rollout) -> list[str]:
    return [attempt.status for attempt in await store.query_attempts(rollout.rollout_id)]


# Running


async def test_rollouts_are_run_in_order_and_reported(event: ExecutionEvent) -> None:
    order: list[int] = []

    async def note(task: int) -> int:
        order.append(task)
        return task

    store = MemoryStore()
    rollouts = await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in range(3)])
    async with running(Runner(note, store, worker_id="w"), event):
        ended = await finished(store, *rollouts)
    assert order == [0, 1, 2]
    assert [rollout.status for rollout in ended] == ["succeeded"] * 3
    assert [find_final_reward(await spans_of(store, rollout)) for rollout in ended] == [0, 1, 2]


async def test_idle_runner_is_waked_by_work(event: ExecutionEvent) -> None:
    store = MemoryStore()
    async with running(Runner(answer, store, worker_id="w"), event):
        await anyio.sleep(3600)
        before = anyio.current_time()
        await finished(store, await store.enqueue_rollout("task"))
        assert anyio.current_time() == before


async def test_no_more_than_max_rollouts_are_run(event: ExecutionEvent) -> None:
    store = MemoryStore()
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in range(3)])
    assert await Runner(answer, store, worker_id="w", max_rollouts=2).run(event) == 2
    assert [rollout.status for rollout in await store.query_rollouts()] == ["succeeded", "succeeded", "queuing"]


async def test_agent_gets_task_resources_and_rollout(event: ExecutionEvent) -> None:
    got: list[Any] = []

    async def look(task: str, rollout: AttemptedRollout, prompt_template: PromptTemplate) -> None:
        got.append((task, rollout.attempt.worker_id, prompt_template.template))

    store = MemoryStore()
    await store.add_resources({"main": PromptTemplate("{question}")})
    rollout = await store.enqueue_rollout("task", mode="val")
    async with running(Runner(look, store, worker_id="w"), event):
        await finished(store, rollout)
    assert got == [("task", "w", "{question}")]


async def test_emitted_reward_counts_where_nothing_is_returned(event: ExecutionEvent) -> None:
    async def emit(task: str) -> None:
        emit_reward(0.25)
        emit_reward(0.75)

    store = MemoryStore()
    rollout = await store.enqueue_rollout("task")
    async with running(Runner(emit, store, worker_id="w"), event):
        await finished(store, rollout)
    spans = await spans_of(store, rollout)
    assert [span.sequence_id for span in spans] == [1, 2]
    assert find_final_reward(spans) == 0.75


async def test_spans_that_an_agent_returns_are_its_attempts(event: ExecutionEvent) -> None:
    otel = TracerProvider().get_tracer("test").start_span("otel")
    otel.end()

    async def make(task: str) -> Any:
        ours = Span(rollout_id="?", attempt_id="?", sequence_id=1, trace_id="t", span_id="s", name="ours")
        return [ours, otel]

    store = MemoryStore()
    rollout = await store.enqueue_rollout("task")
    async with running(Runner(make, store, worker_id="w"), event):
        await finished(store, rollout)
    assert [span.name for span in await spans_of(store, rollout)] == ["ours", "otel"]


# Failing


async def test_failing_agent_fails_its_attempt_and_nothing_else(event: ExecutionEvent) -> None:
    async def divide(task: int) -> float:
        return 1 / task

    store = MemoryStore()
    rollouts = await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in (0, 1)])
    async with running(Runner(divide, store, worker_id="w"), event):
        failed, succeeded = await finished(store, *rollouts)
    assert (failed.status, succeeded.status) == ("failed", "succeeded")
    (span,) = await spans_of(store, failed)
    assert span.name == semconv.EXCEPTION
    assert span.attributes["exception.type"] == "ZeroDivisionError"
    assert "return 1 / task" in str(span.attributes["exception.stacktrace"])


@pytest.mark.parametrize("result", ["0.5", {"reward": 1}, [1.0], float("nan"), object()])
async def test_nonsense_result_fails_the_attempt(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def confused(task: str) -> Any:
        return result

    store = MemoryStore()
    async with run_context(confused, store) as runner:
        with pytest.raises((ContractError, InvalidArgument), match=r"agent confused returned a|reward is nan"):
            await runner.step("task")
    (rollout,) = await store.query_rollouts()
    assert rollout.status == "failed"


async def test_failed_attempt_is_tried_again_where_the_config_says_so(event: ExecutionEvent) -> None:
    tries: list[int] = []

    async def second_time_lucky(task: str, rollout: AttemptedRollout) -> float:
        tries.append(rollout.attempt.sequence_id)
        return 1 / (rollout.attempt.sequence_id - 1)

    store = MemoryStore()
    config = RolloutConfig(max_attempts=2, retry_condition=["failed"])
    rollout = await store.enqueue_rollout("task", config=config)
    async with running(Runner(second_time_lucky, store, worker_id="w"), event):
        (ended,) = await finished(store, rollout)
    assert tries == [1, 2]
    assert ended.status == "succeeded"


async def test_missing_resources_fail_the_attempt_with_a_clear_message(event: ExecutionEvent) -> None:
    async def play(task: str, policy: bytes) -> None: ...

    store = MemoryStore()
    await store.add_resources({"template": PromptTemplate("")})
    async with running(Runner(play, store, worker_id="w"), event):
        (ended,) = await finished(store, await store.enqueue_rollout("task"))
    (span,) = await spans_of(store, ended)
    assert ended.status == "failed"
    assert "asks for 'policy'" in str(span.attributes["exception.message"])


async def test_spans_that_the_store_refuses_fail_the_attempt(event: ExecutionEvent) -> None:
    async def make(task: str) -> Any:
        return [Span(rollout_id="?", attempt_id="?", sequence_id=1, trace_id="t", span_id="", name="nameless")]

    store = MemoryStore()
    async with running(Runner(make, store, worker_id="w"), event):
        (ended,) = await finished(store, await store.enqueue_rollout("task"))
    (span,) = await spans_of(store, ended)
    assert ended.status == "failed"
    assert "span_id" in str(span.attributes["exception.message"])


def test_cancellation_that_an_agent_lets_escape_fails_its_attempt_only(event: ExecutionEvent) -> None:
    async def careless(task: int) -> None:
        if task == 0:
            raise anyio.get_cancelled_exc_class()

    async def main() -> None:
        store = MemoryStore()
        rollouts = await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in (0, 1)])
        async with running(Runner(careless, store, worker_id="w"), event):
            failed, succeeded = await finished(store, *rollouts)
        assert (failed.status, succeeded.status) == ("failed", "succeeded")

    anyio.run(main, backend="asyncio")  # trio lets nobody make a cancellation


# Stopping


async def test_stop_ends_the_wait_for_work_at_once(event: ExecutionEvent) -> None:
    runner = Runner(answer, MemoryStore(), worker_id="w")
    done: list[int] = []

    async def run() -> None:
        done.append(await runner.run(event))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.sleep(100)
        event.set()
    assert done == [0]
    assert anyio.current_time() == pytest.approx(100)


async def test_stop_that_came_before_the_start_is_seen(event: ExecutionEvent) -> None:
    store = MemoryStore()
    await store.enqueue_rollout("task")
    event.set()
    assert await Runner(answer, store, worker_id="w").run(event) == 0


async def test_rollout_under_way_is_finished_before_the_stop(event: ExecutionEvent) -> None:
    gate = Gate()

    async def wait(task: int) -> None:
        await gate.wait()

    store = MemoryStore()
    first, second = await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in range(2)])
    async with running(Runner(wait, store, worker_id="w"), event):
        await gate.reached()
        event.set()
        gate.open()
    assert await attempts_of(store, first) == ["succeeded"]
    assert await attempts_of(store, second) == []


async def test_cancelled_rollout_goes_back_to_the_queue_and_never_succeeds(event: ExecutionEvent) -> None:
    gate = Gate()

    async def wait(task: str) -> float:
        emit_message("before")
        await gate.wait()
        return 1.0

    store = MemoryStore()
    rollout = await store.enqueue_rollout("task")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Runner(wait, store, worker_id="w").run, event)
        await gate.reached()
        tasks.cancel_scope.cancel()
    gate.open()
    (attempt,) = await store.query_attempts(rollout.rollout_id)
    assert was_given_back(attempt)
    assert (await store.query_rollouts())[0].status == "requeuing"
    message, exception = await spans_of(store, rollout)
    assert message.name == semconv.MESSAGE
    assert "Cancelled" in str(exception.attributes["exception.type"])


async def test_rollout_that_had_ended_before_the_cancellation_keeps_its_end(event: ExecutionEvent) -> None:
    gate = Gate()

    class Slow(MemoryStore):
        def _add_spans(self, spans: Sequence[Span]) -> list[Span]:
            gate.open()
            return super()._add_spans(spans)

    store = Slow()
    rollout = await store.enqueue_rollout("task")
    async with anyio.create_task_group() as tasks:

        async def cancel() -> None:
            await gate.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(cancel)
        tasks.start_soon(Runner(answer, store, worker_id="w").run, event)
    assert await attempts_of(store, rollout) == ["succeeded"]


async def test_last_words_of_a_cancelled_runner_are_bounded_in_time(
    event: ExecutionEvent, caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf:
        """A store that takes nothing back."""

        def __init__(self, store: MemoryStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def give_back(self, *args: Any, **kwargs: Any) -> list[Rollout]:
            await anyio.sleep_forever()
            raise AssertionError

    gate = Gate()

    async def wait(task: str) -> None:
        await gate.wait()

    store: Any = Deaf(MemoryStore())
    await store.enqueue_rollout("task")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Runner(wait, store, worker_id="w").run, event)
        await gate.reached()
        tasks.cancel_scope.cancel()
    assert anyio.current_time() == 2
    assert "could not give back what it may have claimed within 2.0 s" in caplog.text


# Claims


class LosesClaims(MemoryStore):
    """A store whose answers to claims never arrive."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def dequeue_rollout(  # type: ignore[override]
        self, worker_id: str | None = None, timeout: float | None = 0, claim_id: str | None = None
    ) -> Any:
        self._ledger.claim(1, Claimant(worker_id, claim_id))
        return self._never()

    async def _never(self) -> None:
        await self._gate.wait()
        await anyio.sleep_forever()


async def test_claim_that_crossed_the_stop_goes_back_to_the_queue(event: ExecutionEvent) -> None:
    gate = Gate()
    store = LosesClaims(gate)
    rollout = await store.enqueue_rollout("task")
    gate.open()
    async with running(Runner(answer, store, worker_id="w"), event):
        await gate.reached()
    assert (await store.query_rollouts(status_in=["requeuing"]))[0].rollout_id == rollout.rollout_id


async def test_claim_that_crossed_the_cancellation_goes_back_to_the_queue(event: ExecutionEvent) -> None:
    gate = Gate()
    store = LosesClaims(gate)
    rollout = await store.enqueue_rollout("task")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Runner(answer, store, worker_id="w").run, event)
        await gate.reached()
        tasks.cancel_scope.cancel()
    again = await store.get_rollout_by_id(rollout.rollout_id)
    assert again is not None
    assert again.status == "requeuing"


async def status_after(event: ExecutionEvent, turns: int, end: Callable[[TaskGroup], None]) -> str:
    """Enqueue work for an idle runner, end the runner some turns of the loop later; return the rollout's status."""
    async with open_system() as system:
        store = await system.adopt(MemoryStore())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Runner(answer, store, worker_id="w").run, event)
            await anyio.sleep(1)
            rollout = await store.enqueue_rollout("task")
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            end(tasks)
        ended = await store.get_rollout_by_id(rollout.rollout_id)
        assert ended is not None
        return ended.status


@pytest.mark.parametrize("turns", range(6))
async def test_stop_and_work_at_the_same_moment_lose_no_claim(event: ExecutionEvent, turns: int) -> None:
    status = await status_after(event, turns, lambda tasks: event.set())
    assert status in ("queuing", "requeuing", "succeeded")


@pytest.mark.parametrize("turns", range(6))
async def test_cancellation_and_work_at_the_same_moment_lose_no_claim(event: ExecutionEvent, turns: int) -> None:
    status = await status_after(event, turns, lambda tasks: tasks.cancel_scope.cancel())
    assert status in ("queuing", "requeuing", "succeeded", "failed")


# Time


async def test_agent_is_cancelled_when_its_time_is_up(event: ExecutionEvent) -> None:
    async def wait(task: str) -> None:
        if task == "slow":
            await anyio.sleep_forever()

    async with open_system() as system:
        store = await system.adopt(MemoryStore())
        slow = await store.enqueue_rollout("slow", config=RolloutConfig(timeout_seconds=7))
        quick = await store.enqueue_rollout("quick")
        async with running(Runner(wait, store, worker_id="w"), event):
            ended = await finished(store, slow, quick)
        assert anyio.current_time() == pytest.approx(7)
        assert [rollout.status for rollout in ended] == ["failed", "succeeded"]
        assert await attempts_of(store, slow) == ["timeout"]


async def test_timeout_is_reported_to_a_store_that_does_not_watch(event: ExecutionEvent) -> None:
    async def wait(task: str) -> None:
        await anyio.sleep_forever()

    store = MemoryStore()
    rollout = await store.enqueue_rollout("task", config=RolloutConfig(timeout_seconds=7))
    async with running(Runner(wait, store, worker_id="w"), event):
        await finished(store, rollout)
    assert await attempts_of(store, rollout) == ["timeout"]


async def test_agent_is_cancelled_when_its_rollout_is(event: ExecutionEvent) -> None:
    gate = Gate()

    async def wait(task: str) -> None:
        if task == "unwanted":
            await gate.wait()
            await anyio.sleep_forever()

    store = MemoryStore()
    unwanted = await store.enqueue_rollout("unwanted")
    gate.open()
    async with running(Runner(wait, store, worker_id="w", heartbeat_interval=10), event):
        await gate.reached()
        await anyio.sleep(1)
        await store.update_rollout(unwanted.rollout_id, status="cancelled")
        await finished(store, await store.enqueue_rollout("next"))
    assert anyio.current_time() == pytest.approx(10)
    (ended,) = await store.query_rollouts(rollout_id_in=[unwanted.rollout_id])
    assert ended.status == "cancelled"


class CountsBeats(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.beats: list[float] = []

    def update_worker(self, worker_id: str, heartbeat_stats: Any = None) -> Any:  # type: ignore[override]
        return self._beat(worker_id, heartbeat_stats)

    async def _beat(self, worker_id: str, heartbeat_stats: Any) -> Worker:
        self.beats.append(anyio.current_time())
        worker: Worker = MemoryStore.update_worker.function(self, worker_id, heartbeat_stats)
        return worker


async def test_worker_beats_on_its_own_clock(event: ExecutionEvent) -> None:
    store = CountsBeats()
    await finished_while_beating(store, event)
    assert store.beats == pytest.approx([0, 10, 20, 30, 35])
    worker = await store.get_worker_by_id("w")
    assert worker is not None
    assert worker.heartbeat_stats is not None
    assert worker.heartbeat_stats["failed"] == 0
    assert worker.heartbeat_stats["succeeded"] == 1  # told at the very end


async def finished_while_beating(store: MemoryStore, event: ExecutionEvent) -> None:
    async def wait(task: str) -> None:
        await anyio.sleep(35)

    rollout = await store.enqueue_rollout("task")
    async with running(Runner(wait, store, worker_id="w", heartbeat_interval=10), event):
        await finished(store, rollout)


async def test_attempt_under_way_is_running_after_its_first_heartbeat(event: ExecutionEvent) -> None:
    async def wait(task: str) -> None:
        await anyio.sleep(35)

    store = MemoryStore()
    rollout = await store.enqueue_rollout("task")
    async with running(Runner(wait, store, worker_id="w"), event):
        await anyio.sleep(11)
        attempt = await store.get_latest_attempt(rollout.rollout_id)
        assert attempt is not None
        assert attempt.status == "running"
        assert attempt.last_heartbeat_time is not None


async def test_heartbeats_keep_up_with_an_impatient_config(event: ExecutionEvent) -> None:
    async def wait(task: str) -> None:
        await anyio.sleep(35)

    async with open_system() as system:
        store = await system.adopt(MemoryStore())
        rollout = await store.enqueue_rollout("task", config=RolloutConfig(unresponsive_seconds=3))
        async with running(Runner(wait, store, worker_id="w", heartbeat_interval=10), event):
            (ended,) = await finished(store, rollout)
        assert ended.status == "succeeded"


async def test_full_batch_of_spans_is_sent_before_the_end(event: ExecutionEvent) -> None:
    async def talk(task: str) -> None:
        for _ in range(100):
            emit_message("word")
        await anyio.sleep(5)

    store = MemoryStore()
    rollout = await store.enqueue_rollout("task")
    async with running(Runner(talk, store, worker_id="w"), event):
        await anyio.sleep(1)
        assert len(await spans_of(store, rollout)) == 100


# The store


class Broken(MemoryStore):
    """A store whose reports raise something."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error: Exception | None = error

    def update_attempt(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        return self._report(*args, **kwargs)

    async def _report(self, *args: Any, **kwargs: Any) -> Attempt:
        error, self.error = self.error, None
        if error is not None:
            raise error
        attempt: Attempt = MemoryStore.update_attempt.function(self, *args, **kwargs)
        return attempt


async def test_report_that_the_store_refuses_is_logged(event: ExecutionEvent, caplog: pytest.LogCaptureFixture) -> None:
    store = Broken(InvalidArgument("no such thing"))
    _, second = await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in range(2)])
    async with running(Runner(answer, store, worker_id="w"), event):
        await finished(store, second)
    assert "the store refused that agent answer on rollout" in caplog.text


async def test_broken_store_ends_the_run(event: ExecutionEvent) -> None:
    store = Broken(ConnectionError("gone"))
    await store.enqueue_rollout("task")
    with pytest.raises(ConnectionError, match="gone"):
        await Runner(answer, store, worker_id="w").run(event)


async def test_broken_heartbeat_ends_the_run_and_gives_its_rollout_back(event: ExecutionEvent) -> None:
    async def wait(task: str) -> None:
        await anyio.sleep_forever()

    store = Broken(ConnectionError("gone"))
    rollout = await store.enqueue_rollout("task")
    with pytest.raises(ConnectionError, match="gone"):
        await Runner(wait, store, worker_id="w").run(event)
    (attempt,) = await store.query_attempts(rollout.rollout_id)
    assert was_given_back(attempt)


class CountsFetches(MemoryStore):
    def __init__(self) -> None:
        self.ticks = 0.0
        super().__init__(now=self._tick)
        self.fetches = 0

    def _tick(self) -> float:
        self.ticks += 1
        return self.ticks

    def get_resources_by_id(self, resources_id: str) -> Any:  # type: ignore[override]
        return self._fetch(resources_id)

    async def _fetch(self, resources_id: str) -> Any:
        self.fetches += 1
        return MemoryStore.get_resources_by_id.function(self, resources_id)


async def test_resources_are_fetched_once_for_rollouts_of_one_batch(event: ExecutionEvent) -> None:
    store = CountsFetches()
    await store.add_resources({"policy": b"1"})
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in range(20)])
    await Runner(answer, store, worker_id="w", max_rollouts=20).run(event)
    assert store.fetches == 1


async def test_new_version_of_resources_is_seen_by_the_rollouts_after_it(event: ExecutionEvent) -> None:
    seen: list[Any] = []

    async def look(task: str, resources: Resources) -> None:
        seen.append(resources["policy"])

    store = CountsFetches()
    published = await store.add_resources({"policy": b"1"})
    async with running(Runner(look, store, worker_id="w"), event):
        await finished(store, await store.enqueue_rollout("task", resources_id=published.resources_id))
        await store.update_resources(published.resources_id, {"policy": b"2"})
        await finished(store, await store.enqueue_rollout("task", resources_id=published.resources_id))
    assert seen == [b"1", b"2"]


# Step by step


async def test_step_runs_one_rollout_past_the_queue() -> None:
    store = MemoryStore()

    async def look(task: str, resources: Resources, rollout: AttemptedRollout) -> float:
        assert (task, rollout.mode, rollout.attempt.worker_id) == ("task", "val", "debug")
        assert resources == {"policy": b"1"}
        return 0.5

    queued = await store.enqueue_rollout("queued")
    async with run_context(look, store) as runner:
        rollout = await runner.step("task", resources={"policy": b"1"}, mode="val")
    assert (rollout.status, rollout.mode) == ("succeeded", "val")
    assert find_final_reward(await spans_of(store, rollout)) == 0.5
    assert await attempts_of(store, queued) == []


async def test_step_raises_what_the_agent_raised() -> None:
    async def fail(task: str) -> None:
        raise LookupError(task)

    store = MemoryStore()
    async with run_context(fail, store) as runner:
        with pytest.raises(LookupError, match="task"):
            await runner.step("task")
    (rollout,) = await store.query_rollouts()
    assert rollout.status == "failed"


# As an actor


async def test_runner_is_an_actor() -> None:
    event = ExecutionEvent()
    async with open_system() as system:
        store = await system.adopt(MemoryStore())
        runner = await system.spawn(Runner, answer, store, worker_id="w")
        async with running(runner, event):
            (ended,) = await finished(store, await store.enqueue_rollout("task"))
            stepped = await runner.step("task")
        assert ended.status == stepped.status == "succeeded"


async def test_stopped_runner_gives_back_what_it_was_doing() -> None:
    gate = Gate()

    async def wait(task: str) -> None:
        await gate.wait()

    store = MemoryStore()
    rollout = await store.enqueue_rollout("task")
    async with open_system(grace=0.5) as system:
        runner = await system.spawn(Runner, wait, store, worker_id="w")
        await runner.run.tell(ExecutionEvent())
        await gate.reached()
        await stop(runner)
    assert [one.rollout_id for one in await store.query_rollouts(status_in=["requeuing"])] == [rollout.rollout_id]


async def test_several_runners_share_the_work(event: ExecutionEvent) -> None:
    workers: set[str | None] = set()

    class Noting:
        async def rollout_async(self, task: int, rollout: AttemptedRollout) -> float:
            workers.add(rollout.attempt.worker_id)
            await anyio.sleep(1)
            return task

    async with open_system() as system:
        store = await system.adopt(MemoryStore())
        rollouts = await store.enqueue_many_rollouts([EnqueueRolloutRequest(task) for task in range(40)])
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                runner = await system.spawn(Runner, Noting, store, worker_id=f"w-{number}")
                tasks.start_soon(runner.run, event)
            ended = await finished(store, *rollouts)
            event.set()
        assert {rollout.status for rollout in ended} == {"succeeded"}
        assert [find_final_reward(await spans_of(store, rollout)) for rollout in ended] == list(range(40))
        assert len(workers) == 4


# Declared wrongly


@pytest.mark.parametrize("wrong", [{"heartbeat_interval": 0}, {"max_rollouts": 0}])
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Runner(answer, MemoryStore(), worker_id="w", **wrong)


def test_what_is_no_agent_is_refused() -> None:
    with pytest.raises(ContractError, match="is no agent"):
        Runner(5, MemoryStore(), worker_id="w")


async def test_stop_of_a_runner_ends_its_wait_for_work_at_once() -> None:
    async with open_system() as system, anyio.create_task_group() as tasks:
        store = await system.spawn(MemoryStore)
        runner = await system.spawn(Runner, answer, store, worker_id="w")
        tasks.start_soon(runner.run)
        await anyio.sleep(1)
        await stop(runner)

        assert anyio.current_time() == pytest.approx(1, abs=0.001)


async def test_stop_of_a_runner_lets_it_finish_its_rollout() -> None:
    async def answer_slowly(task: Any) -> float:
        await anyio.sleep(3)
        return 1.0

    async with open_system() as system, anyio.create_task_group() as tasks:
        store = await system.spawn(MemoryStore)
        runner = await system.spawn(Runner, answer_slowly, store, worker_id="w")
        rollout = await store.enqueue_rollout("task")
        tasks.start_soon(runner.run)
        await anyio.sleep(1)
        await stop(runner)

        assert anyio.current_time() == pytest.approx(3, abs=0.001)
        (ended,) = await finished(store, rollout)
        assert ended.status == "succeeded"
