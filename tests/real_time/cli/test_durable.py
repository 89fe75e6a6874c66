"""A store in a file, served from the command line: killed, started again, and looked at meanwhile."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.real_time.cli.client import Clients
from tests.real_time.cli.command import lightactors, running


@pytest.fixture
def address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"grpc://127.0.0.1:{server.getsockname()[1]}"


def statuses(project: Path) -> dict[str, int]:
    done = lightactors("store", "show", "run.db", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return {status: count for status, count in facts["statuses"].items() if count}


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_store_says_where_it_keeps_its_rollouts(project: Path, address: str) -> None:
    with running("store", "run.db", "--listen", address, cwd=project) as store:
        store.says(r"serves a store in run\.db, and ")
        assert store.stop() == 0
    assert statuses(project) == {}


@pytest.mark.timeout(120)
def test_runner_that_lives_keeps_its_rollout_when_its_store_is_killed(
    project: Path, address: str, client: Clients
) -> None:
    serve = ("store", "run.db", "--listen", address)
    with running("runner", "--store", address, "--agent", "crew.agents:compute", cwd=project) as runner:
        with running(*serve, cwd=project) as store:
            runner.says("run.* crew.agents:compute")
            client(address).enqueue(4.0)
            client(address).wait_until_one_runs()
            store.process.send_signal(signal.SIGKILL)
            store.process.wait()
        with running(*serve, cwd=project) as store:
            store.says("Ctrl-C stops it")
            until(lambda: statuses(project) == {"succeeded": 1})
            rollouts = json.loads(lightactors("store", "show", "run.db", "--rollouts", "--json", cwd=project).stdout)
            assert [rollout["attempt"]["sequence_id"] for rollout in rollouts] == [1]
            assert "in the queue again" not in store.errors
            assert runner.stop() == 0


@pytest.mark.timeout(120)
def test_rollout_of_runners_that_were_killed_with_their_store_is_run_again(
    project: Path, address: str, client: Clients
) -> None:
    serve = ("store", "run.db", "--listen", address)
    join = ("runner", "--store", address, "--agent", "crew.agents:compute")
    with running(*serve, cwd=project) as store, running(*join, cwd=project) as runner:
        runner.says("run.* crew.agents:compute")
        client(address).enqueue(2.0)
        client(address).wait_until_one_runs()
        children = psutil.Process(runner.process.pid).children(recursive=True)
        for process in (store.process, runner.process):
            process.send_signal(signal.SIGKILL)
            process.wait()
        psutil.wait_procs(children, 10)
    assert sum(statuses(project).values()) == 1
    with running(*serve, cwd=project) as store:
        store.says("is in the queue again")
        with running(*join, cwd=project) as runner:
            until(lambda: statuses(project) == {"succeeded": 1})
            assert runner.stop() == 0


@pytest.mark.timeout(120)
def test_rollout_of_killed_runners_is_run_by_those_that_are_started_next(
    project: Path, address: str, client: Clients
) -> None:
    join = ("runner", "--store", address, "--agent", "crew.agents:compute", "--name", "crew")
    with running("store", "run.db", "--listen", address, cwd=project):
        with running(*join, cwd=project) as runner:
            runner.says("runs crew.agents:compute")
            client(address).enqueue(2.0)
            client(address).wait_until_one_runs()
            runner.process.send_signal(signal.SIGKILL)
            runner.process.wait()
        with running(*join, cwd=project) as runner:
            until(lambda: statuses(project) == {"succeeded": 1})
            assert runner.stop() == 0
