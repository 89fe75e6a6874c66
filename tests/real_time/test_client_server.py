"""The client-server strategy with `role="both"`: real processes, and what became of the reference's faults."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import psutil
import pytest

import lightactors as la
from lightactors.errors import ConfigurationError, ExecutionError
from lightactors.training.events import ExecutionEvent
from lightactors.training.records import Rollout
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.strategies import Backend, ClientServerExecutionStrategy, MainProcess
from tests.real_time import plays

QUICK: Any = {"graceful_timeout": 1, "terminate_timeout": 1}


@pytest.fixture(params=["algorithm", "runner"])
def main_process(request: pytest.FixtureRequest) -> MainProcess:
    main_process: MainProcess = request.param
    return main_process


@pytest.fixture
def both(backend: Backend) -> Callable[..., ClientServerExecutionStrategy]:
    """Make a strategy for both sides, at any port."""

    def make(**arguments: Any) -> ClientServerExecutionStrategy:
        given: dict[str, Any] = {"role": "both", "server_port": 0, "backend": backend, **arguments}
        return ClientServerExecutionStrategy(**given)

    return make


Both = Callable[..., ClientServerExecutionStrategy]


def read(store: Store, backend: Backend) -> list[Rollout]:
    return anyio.run(lambda: store.query_rollouts(), backend=backend)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


# Running


def test_store_here_has_what_the_processes_did(both: Both, backend: Backend, main_process: MainProcess) -> None:
    store = MemoryStore()
    both(main_process=main_process).execute(plays.run_all, plays.run, store)
    rollouts = read(store, backend)
    assert [rollout.status for rollout in rollouts] == ["succeeded"] * plays.TASKS
    resources = anyio.run(lambda: store.get_latest_resources(), backend=backend)
    assert resources is not None
    assert (resources.resources["pid"] == str(os.getpid()).encode()) is (main_process == "algorithm")


def test_four_runners_share_the_work(both: Both, backend: Backend) -> None:
    store = MemoryStore()
    both(n_runners=4).execute(plays.run_all, plays.run, store)
    workers = anyio.run(lambda: store.query_workers(), backend=backend)
    assert {worker.worker_id for worker in workers} <= {f"runner-{number}" for number in range(4)}
    pids = {(worker.heartbeat_stats or {})["pid"] for worker in workers}
    assert len(pids) == len(workers)
    assert os.getpid() not in pids


def test_normal_end_raises_nothing_and_says_nothing(
    both: Both, main_process: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        both(main_process=main_process).execute(plays.run_all, plays.run, MemoryStore())
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_unmanaged_store_that_can_not_travel_is_refused(both: Both) -> None:
    with pytest.raises(la.errors.SpawnError, match="MemoryStore stays in its process"):
        both(managed_store=False).execute(plays.run_all, plays.run, MemoryStore())


def test_memory_store_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="stays in its process"):
        pickle.dumps(MemoryStore())


async def test_ref_of_a_store_is_passed_on() -> None:
    async with la.open_system() as system:
        store = await system.spawn(MemoryStore)
        await ClientServerExecutionStrategy("both", server_port=0).run(plays.run_all, plays.run, store)
        assert (await store.statistics()).total_rollouts == plays.TASKS


async def test_algorithm_can_not_serve_a_store_that_lives_elsewhere() -> None:
    async with la.open_system() as system:
        store = await system.spawn(MemoryStore)
        with pytest.raises(ConfigurationError, match="role='algorithm' serves the store, and <ref MemoryStore"):
            await ClientServerExecutionStrategy("algorithm", server_port=0).run(plays.run_all, plays.run, store)


# Ends


@pytest.mark.parametrize("runner", [plays.run, plays.wait_for_stop])
def test_failure_of_the_algorithm_is_raised_and_ends_the_runners(
    both: Both, main_process: MainProcess, runner: Any
) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match="no idea"):
        both(main_process=main_process).execute(plays.break_down, runner, MemoryStore())
    assert time.monotonic() - started < 5


def test_failure_of_a_runner_is_raised_and_ends_the_algorithm(both: Both, main_process: MainProcess) -> None:
    with pytest.raises(RuntimeError, match="runner 0 is broken"):
        both(main_process=main_process).execute(plays.wait_for_the_event, plays.fail, MemoryStore())


def test_algorithm_does_not_hang_when_all_runners_have_crashed(both: Both, backend: Backend) -> None:
    store = MemoryStore()
    with pytest.raises(ExceptionGroup) as caught:
        both(n_runners=2, **QUICK).execute(plays.wait_forever, plays.die_at_work, store)
    for number in range(2):
        assert caught.group_contains(ExecutionError, match=f"runner-{number}.* -9 is not among allowed_exit_codes")


def test_allowed_exit_of_the_last_runner_ends_the_algorithm_too(both: Both) -> None:
    with pytest.raises(ExecutionError, match=r"every runner has ended.* terminated by SIGTERM"):
        both(**QUICK).execute(plays.wait_forever, plays.be_terminated, MemoryStore())


def test_rollout_of_a_killed_runner_is_released(both: Both, backend: Backend) -> None:
    store = MemoryStore()
    with pytest.raises(ExecutionError, match=r"runner-0: process \d+ was killed by SIGKILL.*exit code -9 is not"):
        both(**QUICK).execute(plays.enqueue_one, plays.die_at_work, store)
    (rollout,) = read(store, backend)
    assert rollout.status == "failed"
    (attempt,) = anyio.run(store.query_attempts, rollout.rollout_id, backend=backend)
    assert attempt.status == "unresponsive"


def test_rollout_of_a_runner_that_exits_without_an_error_is_released_too(both: Both, backend: Backend) -> None:
    store = MemoryStore()
    both(**QUICK, n_runners=2).execute(plays.enqueue_one, plays.exit_at_work, store)
    (rollout,) = read(store, backend)
    assert rollout.status == "failed"


def test_other_runner_takes_the_rollout_of_a_killed_one(both: Both, backend: Backend) -> None:
    store = MemoryStore()
    strategy = both(n_runners=2, allowed_exit_codes=(0, -9))
    strategy.execute(plays.enqueue_one_with_a_retry, plays.die_at_the_first_attempt, store)
    (rollout,) = read(store, backend)
    attempts = anyio.run(store.query_attempts, rollout.rollout_id, backend=backend)
    assert [attempt.status for attempt in attempts] == ["unresponsive", "succeeded"]


def test_algorithm_that_exits_is_named_with_its_code_and_last_words(both: Both) -> None:
    with pytest.raises(ExecutionError, match=r"algorithm: process \d+ exited with code 3; its exit code 3") as caught:
        both(main_process="runner").execute(plays.leave_with_3, plays.run, MemoryStore())
    assert "out of ideas" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("algorithm", "how"),
    [(plays.leave_with_0, "exited with code 0"), (plays.terminate_itself, "terminated by SIGTERM")],
)
def test_algorithm_that_vanishes_is_an_error_whatever_its_code(both: Both, algorithm: Any, how: str) -> None:
    with pytest.raises(ExecutionError, match=rf"algorithm: .*{how}(?s:.*) before it returned"):
        both(main_process="runner", **QUICK).execute(algorithm, plays.wait_for_stop, MemoryStore())


def test_rollout_that_the_end_cut_short_goes_back_to_the_queue(both: Both, backend: Backend) -> None:
    store = MemoryStore()
    both(graceful_timeout=0.2, terminate_timeout=5).execute(plays.end_when_it_runs, plays.run_slowly, store)
    (rollout,) = read(store, backend)
    assert rollout.status == "requeuing"


def test_deaf_runner_is_killed_after_the_ladder(both: Both, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEAF", f"{tmp_path}/deaf")

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        while not (tmp_path / "deaf").exists():
            await anyio.lowlevel.checkpoint()
        ended.append(time.monotonic())

    ended: list[float] = []
    with pytest.raises(ExecutionError, match="exit code -9 is not among"):
        both(graceful_timeout=0.3, terminate_timeout=0.3).execute(algorithm, plays.be_deaf, MemoryStore())
    took = time.monotonic() - ended[0]
    assert 0.8 < took < 5
    assert not psutil.pid_exists(int((tmp_path / "deaf").read_text()))


def test_cancelled_run_leaves_no_process(both: Both, backend: Backend) -> None:
    before = children()

    async def main() -> None:
        async with la.open_system():  # the guardian and its forkserver are there before
            await la.stop(await la.options(place="process").spawn(MemoryStore))
        with anyio.move_on_after(2):
            await both(n_runners=2).run(plays.wait_forever, plays.run_slowly, MemoryStore())

    anyio.run(main, backend=backend)
    assert len(children() - before) <= 2


# Ports


def test_taken_port_is_no_matter_for_both(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("localhost", 0)) as taken, caplog.at_level(logging.INFO, "lightactors"):
        port = taken.getsockname()[1]
        strategy = ClientServerExecutionStrategy("both", server_port=port, backend=backend)
        strategy.execute(plays.run_all, plays.run, MemoryStore())
    assert "taking any port that is free" in caplog.text


def test_taken_port_is_named_to_an_algorithm_that_serves(backend: Backend) -> None:
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"{port}"):
            ClientServerExecutionStrategy("algorithm", server_port=port, backend=backend).execute(
                plays.run_all, plays.run, MemoryStore()
            )


# Arguments


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"role": "master"}, "role='master'; choose from"),
        ({"n_runners": 0}, "n_runners=0"),
        ({"n_runners": 2, "main_process": "runner"}, "main_process='runner' with n_runners=2"),
        ({"role": "algorithm", "main_process": "runner"}, "main_process='runner' with role='algorithm'"),
        ({"main_process": "main"}, "main_process='main'"),
        ({"server_port": 70000}, "server_port=70000 is no port"),
        ({"server_host": ""}, "server_host=''"),
        ({"graceful_timeout": -1}, "graceful_timeout=-1"),
        ({"terminate_timeout": "soon"}, "terminate_timeout='soon'"),
        ({"allowed_exit_codes": (0, "x")}, "allowed_exit_codes='x'"),
        ({"role": "runner"}, "role='runner' needs the token of its execution; set LIGHTACTORS_TOKEN_FILE"),
        ({"backend": "curio"}, "backend='curio'"),
    ],
)
def test_arguments_that_cannot_work_are_refused_by_name(
    arguments: dict[str, Any], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIGHTACTORS_TOKEN_FILE", raising=False)
    with pytest.raises(ConfigurationError, match=complaint):
        ClientServerExecutionStrategy(**arguments)


def test_environment_says_who_and_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGL_CURRENT_ROLE", "runner")
    monkeypatch.setenv("AGL_SERVER_HOST", "trainer")
    monkeypatch.setenv("AGL_SERVER_PORT", "5000")
    monkeypatch.setenv("LIGHTACTORS_TOKEN_FILE", str(tmp_path / "tokens"))
    monkeypatch.setenv("AGL_MANAGED_STORE", "off")
    strategy = ClientServerExecutionStrategy()
    assert (strategy.role, strategy.server_host, strategy.server_port) == ("runner", "trainer", 5000)
    assert (strategy.managed_store, strategy.token_file) == (False, tmp_path / "tokens")


def test_other_machines_need_more_than_a_token(backend: Backend) -> None:
    strategy = ClientServerExecutionStrategy("algorithm", "0.0.0.0", 0, backend=backend)
    with pytest.raises(ConfigurationError, match="can be reached from other machines, so it needs TLS"):
        strategy.execute(plays.run_all, plays.run, MemoryStore())


def test_bundle_that_can_not_travel_is_named(both: Both) -> None:
    lock = threading.Lock()

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        lock.acquire()

    with pytest.raises(la.errors.SpawnError, match="runner-0 can't live in a process: argument 1"):
        both().execute(plays.run_all, runner, MemoryStore())


def test_bundle_of_a_function_goes_by_value(both: Both, backend: Backend) -> None:
    pytest.importorskip("cloudpickle")
    answer_of_mine = 42.0

    async def runner(store: Store, number: int, event: ExecutionEvent) -> None:
        async def agent(task: object) -> float:
            return answer_of_mine

        await la.Runner(agent, store, worker_id="w").run(event)

    store = MemoryStore()
    both().execute(plays.run_all, runner, store)
    rollout = read(store, backend)[0]
    spans = anyio.run(store.query_spans, rollout.rollout_id, backend=backend)
    assert la.find_final_reward(spans) == answer_of_mine
