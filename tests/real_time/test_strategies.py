"""The shared-memory strategy, with its real threads."""

import importlib.util
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import ConfigurationError, ExecutionError, StoreUnavailable
from lightactors.training.events import ExecutionEvent
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.strategies import Backend, MainThread, SharedMemoryExecutionStrategy

QUICK: Any = {"graceful_delay": 0.2, "join_timeout": 0.2}


@pytest.fixture(params=["algorithm", "runner"])
def main_thread(request: pytest.FixtureRequest) -> MainThread:
    main_thread: MainThread = request.param
    return main_thread


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("actor")]


async def serve(store: Store, number: int, event: ExecutionEvent) -> None:
    """A runner that succeeds with whatever it gets, until it is asked to stop."""
    while not event.is_set():
        claimed = await store.dequeue_rollout(worker_id=f"w{number}", timeout=0.05)
        if claimed is not None:
            await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")


async def wait_for_stop(store: Store, number: int, event: ExecutionEvent) -> None:
    await event


def test_execution_ends_when_the_algorithm_has_ended(backend: Backend, main_thread: MainThread) -> None:
    store = MemoryStore()
    finished: list[str] = []

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        rollouts = [await store.enqueue_rollout(number) for number in range(20)]
        ids = [rollout.rollout_id for rollout in rollouts]
        finished.extend(rollout.status for rollout in await store.wait_for_rollouts(rollout_ids=ids))

    SharedMemoryExecutionStrategy(main_thread=main_thread, backend=backend).execute(algorithm, serve, store)

    assert finished == ["succeeded"] * 20
    assert threads_of_ours() == []


def test_four_runners_share_the_work(backend: Backend) -> None:
    workers: set[str | None] = set()

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        rollouts = [await store.enqueue_rollout(number) for number in range(200)]
        await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id for rollout in rollouts])
        for rollout in rollouts:
            attempt = await store.get_latest_attempt(rollout.rollout_id)
            assert attempt is not None
            assert attempt.status == "succeeded"
            workers.add(attempt.worker_id)

    strategy = SharedMemoryExecutionStrategy(n_runners=4, main_thread="algorithm", backend=backend)
    strategy.execute(algorithm, serve, MemoryStore())

    assert workers <= {"w0", "w1", "w2", "w3"}
    assert len(workers) > 1


def test_chosen_part_has_the_main_thread(backend: Backend, main_thread: MainThread) -> None:
    where: dict[str, threading.Thread] = {}

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        where["algorithm"] = threading.current_thread()

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        where["runner"] = threading.current_thread()
        await event

    SharedMemoryExecutionStrategy(main_thread=main_thread, backend=backend).execute(algorithm, runner, MemoryStore())

    assert where.pop(main_thread) is threading.main_thread()
    assert threading.main_thread() not in where.values()


def test_store_stays_usable_after_the_execution(backend: Backend) -> None:
    store = MemoryStore()

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        await store.enqueue_rollout("task")

    SharedMemoryExecutionStrategy(backend=backend, **QUICK).execute(algorithm, wait_for_stop, store)

    assert [rollout.input for rollout in anyio.run(lambda: store.query_rollouts(), backend=backend)] == ["task"]


@pytest.mark.parametrize(("managed", "is_same"), [(True, False), (False, True)])
def test_managed_store_is_reached_through_a_mailbox(backend: Backend, managed: bool, is_same: bool) -> None:
    store = MemoryStore()
    seen: list[bool] = []

    async def algorithm(given: Store, event: ExecutionEvent) -> None:
        seen.append(given is store)

    strategy = SharedMemoryExecutionStrategy(backend=backend, managed_store=managed, **QUICK)
    strategy.execute(algorithm, wait_for_stop, store)

    assert seen == [is_same]


def test_failure_of_the_algorithm_is_raised_and_stops_the_runners(backend: Backend, main_thread: MainThread) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        raise ValueError("no idea")

    strategy = SharedMemoryExecutionStrategy(main_thread=main_thread, backend=backend)
    with pytest.raises(ValueError, match="no idea"):
        strategy.execute(algorithm, wait_for_stop, MemoryStore())
    assert threads_of_ours() == []


def test_failures_of_several_parts_are_raised_as_a_group(backend: Backend) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        await event
        raise ValueError("algorithm")

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        raise RuntimeError(f"runner {number}")

    strategy = SharedMemoryExecutionStrategy(2, "algorithm", backend=backend)
    with pytest.raises(ExceptionGroup) as caught:
        strategy.execute(algorithm, runner, MemoryStore())
    assert {str(error) for error in caught.value.exceptions} == {"algorithm", "runner 0", "runner 1"}


def test_sys_exit_in_a_bundle_is_an_error(backend: Backend, main_thread: MainThread) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        raise SystemExit(3)

    strategy = SharedMemoryExecutionStrategy(main_thread=main_thread, backend=backend)
    with pytest.raises(ExecutionError, match=r"sys\.exit\(3\)"):
        strategy.execute(algorithm, wait_for_stop, MemoryStore())


def test_runner_on_the_main_thread_may_end_before_the_algorithm(backend: Backend) -> None:
    done: list[str] = []

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        rollout = await store.enqueue_rollout("task")
        await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id])
        await anyio.sleep(0.05)
        done.append("algorithm")

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        claimed = await store.dequeue_rollout(timeout=None)
        assert claimed is not None
        await store.update_attempt(claimed.rollout_id, "latest", status="succeeded")
        done.append("runner")

    SharedMemoryExecutionStrategy(backend=backend).execute(algorithm, runner, MemoryStore())

    assert done == ["runner", "algorithm"]


def test_runner_that_goes_on_is_cancelled_after_its_grace(backend: Backend) -> None:
    ends: list[str] = []

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        pass

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cancelled")

    started = time.monotonic()
    strategy = SharedMemoryExecutionStrategy(2, "algorithm", backend=backend, **QUICK)
    strategy.execute(algorithm, runner, MemoryStore())

    assert ends == ["cancelled"] * 2
    assert 0.2 <= time.monotonic() - started < 5


def test_thread_that_blocks_is_reported_and_left_behind(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        pass

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        release.wait()

    started = time.monotonic()
    strategy = SharedMemoryExecutionStrategy(1, "algorithm", backend=backend, **QUICK)
    with caplog.at_level(logging.ERROR, "lightactors"):
        strategy.execute(algorithm, runner, MemoryStore())
    assert time.monotonic() - started < 5

    assert "actor execution/runner-0 does not react" in caplog.text
    assert "release.wait()" in caplog.text

    release.set()
    for thread in [thread for thread in threading.enumerate() if thread.name.startswith("actor")]:
        thread.join(5)
    assert threads_of_ours() == []


def test_stop_is_seen_everywhere_within_milliseconds(backend: Backend) -> None:
    set_at: list[float] = []
    seen_at: list[float] = []

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        await anyio.sleep(0.05)
        set_at.append(time.perf_counter())
        event.set()

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        await event
        seen_at.append(time.perf_counter())

    SharedMemoryExecutionStrategy(4, "algorithm", backend=backend).execute(algorithm, runner, MemoryStore())

    assert len(seen_at) == 4
    assert max(seen_at) - set_at[0] < 0.1  # measured: below a millisecond on an idle machine


def interrupted(work: Callable[[], None], *delays: float) -> float:
    """Run `work` while Ctrl-C is pressed after those seconds; return how long it took to come out."""
    timers = [threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)) for delay in delays]
    for timer in timers:
        timer.start()
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        for timer in timers:
            timer.cancel()
    return time.monotonic() - started


def test_ctrl_c_asks_everybody_to_stop_and_comes_out(backend: Backend, main_thread: MainThread) -> None:
    ends: list[str] = []

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        await event
        ends.append("algorithm")

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        await event
        ends.append("runner")

    strategy = SharedMemoryExecutionStrategy(main_thread=main_thread, backend=backend)
    before = signal.getsignal(signal.SIGINT)

    took = interrupted(lambda: strategy.execute(algorithm, runner, MemoryStore()), 0.2)

    assert sorted(ends) == ["algorithm", "runner"]
    assert took < 5
    assert signal.getsignal(signal.SIGINT) is before
    assert threads_of_ours() == []


def test_second_ctrl_c_does_not_wait_for_the_grace(backend: Backend) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        await anyio.sleep_forever()

    strategy = SharedMemoryExecutionStrategy(1, "algorithm", graceful_delay=30, backend=backend)

    assert interrupted(lambda: strategy.execute(algorithm, wait_for_stop, MemoryStore()), 0.2, 0.4) < 5


def test_second_ctrl_c_cancels_many_runners_at_once(backend: Backend) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        await event

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        await anyio.sleep_forever()

    strategy = SharedMemoryExecutionStrategy(16, "algorithm", graceful_delay=30, backend=backend)

    assert interrupted(lambda: strategy.execute(algorithm, runner, MemoryStore()), 0.3, 0.4) < 1.4


def test_algorithm_that_is_left_alone_is_told_of(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        await anyio.sleep(0.1)

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        return

    with caplog.at_level(logging.WARNING, "lightactors"):
        SharedMemoryExecutionStrategy(backend=backend).execute(algorithm, runner, MemoryStore())

    assert "every runner has ended" in caplog.text


def test_cancelling_a_run_stops_everybody(backend: Backend) -> None:
    ends: list[str] = []

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("algorithm")

    async def main() -> None:
        with anyio.move_on_after(0.1):
            await SharedMemoryExecutionStrategy(backend=backend, **QUICK).run(algorithm, wait_for_stop, MemoryStore())

    anyio.run(main, backend=backend)

    assert ends == ["algorithm"]
    assert threads_of_ours() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"n_runners": 0}, "n_runners=0"),
        ({"n_runners": "four"}, "n_runners='four'"),
        ({"n_runners": 2}, "main_thread='runner' with n_runners=2"),
        ({"main_thread": "main"}, "main_thread='main'"),
        ({"graceful_delay": -1}, "graceful_delay=-1"),
        ({"join_timeout": "soon"}, "join_timeout='soon'"),
        ({"backend": "curio"}, "backend='curio'"),
    ],
)
def test_arguments_that_cannot_work_are_refused_by_name(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        SharedMemoryExecutionStrategy(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("word", "managed"), [("1", True), ("Yes", True), ("off", False), ("FALSE", False)])
@pytest.mark.parametrize("variable", ["LIGHTACTORS_MANAGED_STORE", "AGL_MANAGED_STORE"])
def test_environment_says_whether_the_store_is_managed(
    monkeypatch: pytest.MonkeyPatch, variable: str, word: str, managed: bool
) -> None:
    monkeypatch.setenv(variable, word)
    assert SharedMemoryExecutionStrategy().managed_store is managed
    assert SharedMemoryExecutionStrategy(managed_store=not managed).managed_store is not managed


def test_environment_in_another_language_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGL_MANAGED_STORE", "perhaps")
    with pytest.raises(ConfigurationError, match="AGL_MANAGED_STORE='perhaps'"):
        SharedMemoryExecutionStrategy()


def test_backend_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'lightactors\[trio\]'"):
        SharedMemoryExecutionStrategy(backend="trio")


@pytest.mark.parametrize("strategy", ["shm", "cs"])
def test_store_that_cannot_be_opened_fails_as_itself(strategy: str, tmp_path: Path) -> None:
    port = 0 if strategy == "cs" else None
    trainer = la.Trainer(agent=abs, store=tmp_path / "none/run.db", strategy=strategy, port=port)
    with pytest.raises(StoreUnavailable, match="there is no folder") as caught:
        trainer.run([1])
    assert caught.value.__suppress_context__
