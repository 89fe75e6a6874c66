"""Programs that are killed or interrupted, and run again on the same store, go on where they were."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from lightactors.training.records import AttemptedRollout
from lightactors.training.stores.sql.archive import Archive
from tests.real_time.programs import ROOT

TRAINING = """
import os, sys, time, logging
import lightactors as la

logging.basicConfig(format="%(message)s", level=logging.INFO)

@la.agent
def note(task: int) -> float:
    with open("log", "a") as log:
        log.write(f"{task}\\n")
    time.sleep(float(os.environ.get("seconds", 0)))
    if task == 5 and "hold" in os.environ and not os.path.exists("held"):
        open("held", "w").close()
        time.sleep(60)
    return float(task)

@la.algorithm
async def step_by_step(store: la.Store, train: la.Dataset[int]) -> None:
    for step in range(2):
        published = await store.add_resources({"step": bytes([step])})
        results = await la.run_tasks(store, train, resources_id=published.resources_id, key=f"step-{step}")
        print(step, sum(result.reward for result in results), flush=True)

if __name__ == "__main__":
    how, strategy = sys.argv[1:]
    trainer = la.Trainer(algorithm=step_by_step, agent=note, store="run.db", n_runners=2, strategy=strategy, port=PORT)
    if how == "fit":
        trainer.fit(range(10))
    else:
        print([result.reward for result in trainer.run(range(10))])
"""


@pytest.fixture(params=["shm", "cs"])
def strategy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def folder(tmp_path: Path, strategy: str) -> Path:
    (tmp_path / "train.py").write_text(TRAINING.replace("PORT", "0" if strategy == "cs" else "None"))
    return tmp_path


def command(folder: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return {"args": [sys.executable, "train.py", *arguments], "cwd": folder, "env": environment, "text": True}


def log_of(folder: Path) -> list[int]:
    log = folder / "log"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextmanager
def held_in_the_middle(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program until nothing but the task that is held is left."""
    with subprocess.Popen(
        **command(folder, *arguments, hold="1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        until(lambda: run.poll() is not None or len(set(log_of(folder))) == 10)
        assert run.poll() is None, run.communicate()
        time.sleep(0.3)  # the others are reported
        try:
            yield run
        finally:
            run.kill()


def again(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(**command(folder, *arguments), capture_output=True, timeout=60, check=True)


def attempts(folder: Path) -> dict[Any, tuple[str, int]]:
    with Archive(str(folder / "run.db")) as archive:
        rollouts = archive.rollouts()
    assert all(isinstance(rollout, AttemptedRollout) for rollout in rollouts)
    return {rollout.input: (rollout.status, rollout.attempt.sequence_id) for rollout in rollouts}  # type: ignore[attr-defined]


def test_killed_run_goes_on_where_it_was(folder: Path, strategy: str) -> None:
    with held_in_the_middle(folder, "run", strategy) as run:
        children = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGKILL)
        run.wait()
        psutil.wait_procs(children, 10)
    (folder / "log").unlink()
    done = again(folder, "run", strategy)
    assert done.stdout.strip() == str([float(task) for task in range(10)])
    assert "is in the queue again: worker runner-" in done.stderr
    assert log_of(folder) == [5]
    assert attempts(folder) == {task: ("succeeded", 2 if task == 5 else 1) for task in range(10)}


def test_interrupted_run_goes_on_where_it_was(folder: Path, strategy: str) -> None:
    with held_in_the_middle(folder, "run", strategy) as run:
        run.send_signal(signal.SIGINT)
        time.sleep(0.5)
        run.send_signal(signal.SIGINT)  # at once, and not after the grace
        run.wait(30)
    (folder / "log").unlink()
    again(folder, "run", strategy)
    assert log_of(folder) == [5]
    assert attempts(folder) == {task: ("succeeded", 2 if task == 5 else 1) for task in range(10)}


def test_interrupted_run_waits_for_no_more_than_the_rollouts_under_way(folder: Path, strategy: str) -> None:
    with subprocess.Popen(**command(folder, "run", strategy, seconds="0.5"), stderr=subprocess.PIPE) as run:
        until(lambda: len(log_of(folder)) > 2)
        run.send_signal(signal.SIGINT)
        begin = time.monotonic()
        _, errors = run.communicate(timeout=30)
    assert time.monotonic() - begin < 4  # the grace is 5
    assert "note-run was stopped; what has finished is kept: run it again to go on" in errors
    assert "did not finish" not in errors


def test_algorithm_with_keys_of_its_own_goes_on_where_it_was(folder: Path, strategy: str) -> None:
    with held_in_the_middle(folder, "fit", strategy) as run:
        run.kill()
        run.wait()
    (folder / "log").unlink()
    done = again(folder, "fit", strategy)
    assert done.stdout.splitlines() == ["0 45.0", "1 45.0"]
    assert sorted(log_of(folder)) == sorted([5, *range(10)])


@pytest.mark.parametrize("strategy", ["cs"])
def test_runner_of_another_program_keeps_its_rollout(folder: Path, strategy: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = f"{free.getsockname()[1]}"
    (folder / "train.py").write_text(TRAINING.replace("PORT", "None").replace("time.sleep(60)", "time.sleep(5)"))
    shared = {"LIGHTACTORS_TOKEN_FILE": "tokens", "LIGHTACTORS_SERVER_PORT": port}
    algorithm = command(folder, "fit", "cs", **shared, LIGHTACTORS_CURRENT_ROLE="algorithm")
    runner = command(folder, "fit", "cs", **shared, LIGHTACTORS_CURRENT_ROLE="runner", hold="1")
    with subprocess.Popen(**algorithm) as first, subprocess.Popen(**runner, stderr=subprocess.PIPE) as runners:
        try:
            until(lambda: len(set(log_of(folder))) == 10)
            first.kill()
            first.wait()
            second = subprocess.run(**algorithm, capture_output=True, timeout=60, check=False)
            assert second.returncode == 0, second.stderr
            assert "in the queue again" not in second.stderr
            assert runners.wait(30) == 0
        finally:
            first.kill()
            runners.kill()
    with Archive(str(folder / "run.db")) as archive:
        tried = [(rollout.status, rollout.attempt.sequence_id) for rollout in archive.rollouts()]  # type: ignore[attr-defined]
    assert tried == [("succeeded", 1)] * 20


def test_run_that_is_finished_is_not_run_again(folder: Path, strategy: str) -> None:
    first = again(folder, "run", strategy)
    (folder / "log").unlink()
    second = again(folder, "run", strategy)
    assert second.stdout == first.stdout
    assert "note-run-0: all 10 tasks were finished before; for new rollouts give another key or store" in second.stderr
    assert log_of(folder) == []


def test_second_program_on_the_same_store_takes_nothing_from_the_first(folder: Path, strategy: str) -> None:
    with held_in_the_middle(folder, "run", strategy) as run:
        other = command(folder, "fit", strategy)
        second = subprocess.run(**other, capture_output=True, timeout=60, check=False)
        assert second.returncode == 0, second.stderr
        assert second.stdout.splitlines() == ["0 45.0", "1 45.0"]
        assert "in the queue again" not in second.stderr
        assert run.poll() is None
        with Archive(str(folder / "run.db")) as archive:
            (held,) = archive.rollouts(["running", "preparing"])
            names = {worker.worker_id.partition(".")[0] for worker in archive.workers()}
        assert held.input == 5
        assert names == {"runner-0", "runner-1"}
