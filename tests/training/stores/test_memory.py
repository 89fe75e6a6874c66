"""What the memory store does beyond the contract: waiting, deadlines and its watchdog, times, ids."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import InvalidArgument
from lightactors.testing.store.moves import claim, ids, report, span, status_of
from lightactors.training.records import EnqueueRolloutRequest, RolloutConfig, Span
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore

SILENCE = RolloutConfig(unresponsive_seconds=5, max_attempts=2, retry_condition=["unresponsive"])


class Claims:
    """Waiting claims, and in which order who got what."""

    def __init__(self, store: Store, tg: anyio.abc.TaskGroup) -> None:
        self.got: list[tuple[str, Any]] = []
        self._store = store
        self._tg = tg

    async def wait(self, worker_id: str, seconds: float | None = None) -> anyio.CancelScope:
        """Let a worker wait; cancel the scope to make it give up."""
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                claimed = await self._store.dequeue_rollout(worker_id, seconds)
                self.got.append((worker_id, claimed and claimed.input))

        self._tg.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        return scope


async def test_who_waits_longest_is_served_first() -> None:
    store = MemoryStore()
    async with anyio.create_task_group() as tg:
        claims = Claims(store, tg)
        for worker_id in "abc":
            await claims.wait(worker_id)
        assert (await store.statistics()).waiters == 3
        for number in range(3):
            await store.enqueue_rollout(number)
            await anyio.wait_all_tasks_blocked()  # trio runs those who are waked together in any order
    assert claims.got == [("a", 0), ("b", 1), ("c", 2)]
    assert (await store.statistics()).waiters == 0


async def test_one_rollout_wakes_one_waiter() -> None:
    store = MemoryStore()
    async with anyio.create_task_group() as tg:
        claims = Claims(store, tg)
        for worker_id in "abc":
            await claims.wait(worker_id)
        await store.enqueue_rollout(1)
        await anyio.wait_all_tasks_blocked()
        assert claims.got == [("a", 1)]
        assert (await store.statistics()).waiters == 2
        tg.cancel_scope.cancel()


async def test_cancelled_waiter_passes_its_wake_up_on() -> None:
    store = MemoryStore()
    async with anyio.create_task_group() as tg:
        claims = Claims(store, tg)
        first = await claims.wait("a")
        await claims.wait("b")
        await store.enqueue_rollout(1)  # wakes a, which has not run yet
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        # Whether a comes to its claim before its cancellation is the loop's affair; the rollout is not lost.
        assert claims.got in ([("b", 1)], [("a", 1)])
        tg.cancel_scope.cancel()


async def test_waiter_cancelled_in_the_line_leaves_it() -> None:
    store = MemoryStore()
    async with anyio.create_task_group() as tg:
        claims = Claims(store, tg)
        first = await claims.wait("a")
        await claims.wait("b")
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        await store.enqueue_rollout(1)
    assert claims.got == [("b", 1)]


async def test_waiter_that_came_too_late_keeps_its_place() -> None:
    store = MemoryStore()
    async with anyio.create_task_group() as tg:
        claims = Claims(store, tg)
        await claims.wait("a")
        await claims.wait("b")
        await store.enqueue_rollout(1)  # wakes a, but this is quicker:
        await claim(store)
        await anyio.wait_all_tasks_blocked()
        for number in (2, 3):
            await store.enqueue_rollout(number)
            await anyio.wait_all_tasks_blocked()
    assert claims.got == [("a", 2), ("b", 3)]


async def test_waiters_give_up_after_their_time_outs() -> None:
    store = MemoryStore()
    async with anyio.create_task_group() as tg:
        claims = Claims(store, tg)
        await claims.wait("a", 3)
        await claims.wait("b", 2)
        started = anyio.current_time()
    assert claims.got == [("b", None), ("a", None)]
    assert anyio.current_time() - started == pytest.approx(3, abs=0.5)
    assert (await store.statistics()).waiters == 0


async def test_many_waiters_and_cancellations_lose_nothing() -> None:
    store = MemoryStore()
    chance = random.Random(7)
    claimed: Counter[int] = Counter()

    async def runner() -> None:
        while sum(claimed.values()) < 80:
            with anyio.move_on_after(chance.choice([0, 0.01, 0.02])):
                for rollout in await store.dequeue_many_rollouts(
                    chance.randint(1, 3), timeout=chance.choice([0.01, 1])
                ):
                    claimed[rollout.input] += 1

    with anyio.fail_after(1_000):
        async with anyio.create_task_group() as tg:
            for _ in range(20):
                tg.start_soon(runner)
            for number in range(0, 80, 2):
                await store.enqueue_many_rollouts([EnqueueRolloutRequest(number), EnqueueRolloutRequest(number + 1)])
                await anyio.sleep(chance.choice([0, 0.01]))
    assert claimed == Counter(range(80))


async def test_waiting_for_many_takes_what_is_there_when_it_is_waked() -> None:
    store = MemoryStore()
    got: list[Any] = []

    async def wait() -> None:
        got.extend(rollout.input for rollout in await store.dequeue_many_rollouts(5, timeout=None))

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await store.enqueue_many_rollouts([EnqueueRolloutRequest(number) for number in range(3)])
    assert got == [0, 1, 2]


async def test_wait_for_sixty_rollouts_ends_on_time() -> None:
    store = MemoryStore()
    rollouts = [await store.start_rollout(number) for number in range(60)]
    await report(store, rollouts[7], "succeeded")
    started = anyio.current_time()
    finished = await store.wait_for_rollouts(rollout_ids=ids(rollouts), timeout=0.5)
    assert anyio.current_time() - started == pytest.approx(0.5, abs=0.1)
    assert ids(finished) == [rollouts[7].rollout_id]


async def test_waiting_for_completions_ends_with_the_next_one() -> None:
    store = MemoryStore()
    rollout = await store.start_rollout(1)
    got: list[str] = []

    async def wait() -> None:
        got.extend(ids((await store.query_completions(timeout=None)).rollouts))

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await report(store, rollout, "succeeded")
    assert got == [rollout.rollout_id]
    assert (await store.query_completions(1, timeout=0.5)).rollouts == []


async def test_watchdog_retries_a_silent_attempt_on_time() -> None:
    async with la.open_system():
        store = await la.spawn(MemoryStore)
        rollout = await store.start_rollout(1, config=SILENCE)
        started = anyio.current_time()
        again = await claim(store, timeout=60)
        assert anyio.current_time() - started == pytest.approx(5, abs=0.5)
        assert (again.rollout_id, again.attempt.sequence_id) == (rollout.rollout_id, 2)
        first, _ = await store.query_attempts(rollout.rollout_id)
        assert first.status == "unresponsive"


async def test_watchdog_learns_of_an_earlier_deadline() -> None:
    async with la.open_system():
        store = await la.spawn(MemoryStore)
        late = await store.start_rollout(1, config=RolloutConfig(timeout_seconds=100))
        await anyio.sleep(1)
        early = await store.start_rollout(2, config=RolloutConfig(timeout_seconds=2))
        started = anyio.current_time()
        await store.wait_for_rollouts(rollout_ids=[early.rollout_id])
        assert anyio.current_time() - started == pytest.approx(2, abs=0.5)
        await store.wait_for_rollouts(rollout_ids=[late.rollout_id])
        assert anyio.current_time() - started == pytest.approx(99, abs=0.5)


async def test_signs_of_life_put_the_deadline_off() -> None:
    async with la.open_system():
        store = await la.spawn(MemoryStore)
        rollout = await store.start_rollout(1, config=SILENCE)
        for number in range(1, 4):
            await anyio.sleep(4)
            await store.add_span(span(rollout, number))
        await anyio.sleep(4)
        await store.update_attempt(rollout.rollout_id, "latest", last_heartbeat_time=1.0)
        await anyio.sleep(4)
        assert await status_of(store, rollout) == "running"
        await anyio.sleep(2)
        assert await status_of(store, rollout) == "requeuing"


class Clocks:
    """The two clocks of a store, each to be set by hand."""

    def __init__(self) -> None:
        self.monotonic = 50.0
        self.wall = 1_000.0

    def store(self, **options: Any) -> MemoryStore:
        return MemoryStore(clock=lambda: self.monotonic, now=lambda: self.wall, **options)


async def test_jump_of_the_wall_clock_ends_nothing() -> None:
    clocks = Clocks()
    store = clocks.store()
    rollout = await store.start_rollout(1, config=RolloutConfig(timeout_seconds=10, unresponsive_seconds=5))
    clocks.wall += 10_000
    store.expire()
    assert await status_of(store, rollout) == "preparing"
    clocks.monotonic += 5
    store.expire()
    assert await status_of(store, rollout) == "failed"


async def test_times_in_records_never_go_back() -> None:
    clocks = Clocks()
    store = clocks.store()
    first = await store.enqueue_rollout(1)
    clocks.wall -= 500
    second = await store.enqueue_rollout(2)
    assert (first.start_time, second.start_time) == (1_000.0, 1_000.0)


async def test_unresponsive_attempt_comes_back_before_somebody_claims() -> None:
    clocks = Clocks()
    store = clocks.store()
    rollout = await store.start_rollout(1, config=SILENCE, worker_id="w")
    clocks.monotonic += 5
    store.expire()
    assert await status_of(store, rollout) == "requeuing"
    await store.add_span(span(rollout))
    assert (await status_of(store, rollout), await store.dequeue_rollout()) == ("running", None)
    clocks.monotonic += 5
    store.expire()
    assert await status_of(store, rollout) == "requeuing"


async def test_overdue_attempts_end_in_the_order_of_their_deadlines() -> None:
    clocks = Clocks()
    store = clocks.store()
    heard, silent = [await store.start_rollout(number, config=SILENCE) for number in range(2)]
    clocks.monotonic += 1
    await store.add_span(span(heard))
    clocks.monotonic += 10
    store.expire()
    assert ids(await store.dequeue_many_rollouts(2)) == ids([silent, heard])


async def test_config_given_later_counts_from_the_start() -> None:
    clocks = Clocks()
    store = clocks.store()
    rollout = await store.start_rollout(1)
    clocks.monotonic += 8
    await store.update_rollout(rollout.rollout_id, config=RolloutConfig(timeout_seconds=10))
    store.expire()
    assert (await status_of(store, rollout), store.seconds_to_deadline()) == ("preparing", 2)
    clocks.monotonic += 2
    store.expire()
    assert (await status_of(store, rollout), store.seconds_to_deadline()) == ("failed", None)


async def test_finished_rollouts_have_no_deadline() -> None:
    clocks = Clocks()
    store = clocks.store()
    for _ in range(1_000):
        rollout = await store.start_rollout(1, config=SILENCE)
        await store.update_rollout(rollout.rollout_id, status="cancelled")
    assert store.seconds_to_deadline() is None


async def test_same_seed_gives_the_same_ids() -> None:
    async def made() -> list[str]:
        store = MemoryStore(random=random.Random(3))
        rollouts = [await store.start_rollout(number) for number in range(3)]
        return [name for rollout in rollouts for name in (rollout.rollout_id, rollout.attempt.attempt_id)]

    assert await made() == await made()


async def test_otel_span_takes_the_next_sequence_id() -> None:
    otel = pytest.importorskip("opentelemetry.sdk.trace")
    store = MemoryStore()
    rollout = await store.start_rollout(1)
    pair = (rollout.rollout_id, rollout.attempt.attempt_id)
    tracer = otel.TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("a") as first, tracer.start_as_current_span("b") as second:
        kept = [await store.add_otel_span(*pair, running) for running in (first, second)]
    assert [(one.name, one.sequence_id) for one in kept if one] == [("a", 1), ("b", 2)]
    assert await store.add_otel_span(*pair, second, 2) is None
    assert await store.query_spans(rollout.rollout_id) == kept
    assert isinstance(kept[0], Span)


async def test_array_as_input_may_be_sent_again() -> None:
    numpy = pytest.importorskip("numpy")
    store = MemoryStore()
    image = numpy.zeros((4, 4))
    first = await store.enqueue_rollout(image, rollout_id="mine")
    assert (await store.enqueue_rollout(image, rollout_id="mine")).input is first.input
    update = await store.add_resources({"weights": image, "blob": b"\x00"})
    assert update.resources["weights"] is image


async def test_config_is_a_config_and_no_dict() -> None:
    with pytest.raises(InvalidArgument, match="RolloutConfig"):
        await MemoryStore().enqueue_rollout(1, config={"max_attempts": 2})  # type: ignore[arg-type]
