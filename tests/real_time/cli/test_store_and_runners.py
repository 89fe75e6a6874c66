"""A store and its runners, each started as a user starts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from lightactors.cli.exits import Exit
from lightactors.training.records import RolloutConfig
from tests.real_time.cli.client import Clients
from tests.real_time.cli.command import HASTY, Command, lightactors, running, surroundings
from tests.real_time.programs import left_of, time_until_nothing_is_left_of

JOINED = r"run(s)? crew\.agents:\w+ for grpc://"


def status_of(address: str, cwd: Path) -> dict[str, Any]:
    done = lightactors("status", address, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def runners_of(address: str, agent: str, *options: str) -> list[str]:
    return ["runner", "--store", address, "--agent", f"crew.agents:{agent}", *options]


def test_runners_join_a_store_and_run_its_rollouts(client: Clients, address: str, project: Path) -> None:
    with running(*runners_of(address, "answer", "-n", "2", "--name", "crew"), cwd=project) as runners:
        assert client(address).rewards(1, 2, 3) == [2.0, 4.0, 6.0]
        facts = status_of(address, project)

        assert facts["store"]["total_rollouts"] == 3
        assert [worker["worker_id"] for worker in facts["workers"]] == ["crew-0", "crew-1"]
        assert runners.stop() == Exit.OK
    assert "Traceback" not in runners.errors
    time_until_nothing_is_left_of(runners.tag)


@pytest.mark.parametrize("place", ["thread", "task"])
def test_runners_may_share_a_process(client: Clients, address: str, project: Path, place: str) -> None:
    with running(*runners_of(address, "doze", "-n", "3", "--place", place), cwd=project) as runners:
        began = time.monotonic()
        assert client(address).rewards(*[0.5] * 3) == [1.0] * 3
        assert len(left_of(runners.tag)) == 1
        assert runners.stop(signal.SIGINT) == Exit.OK
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_rollout_under_way_is_finished_before_the_end(
    client: Clients, address: str, project: Path, number: signal.Signals
) -> None:
    with running(*runners_of(address, "compute"), cwd=project) as runners:
        client(address).enqueue(0.5)
        client(address).wait_until_one_runs()
        assert runners.stop(number) == Exit.OK
    assert client(address).statuses() == ["succeeded"]


def test_rollout_that_takes_longer_than_the_grace_goes_back_to_the_queue(
    client: Clients, address: str, project: Path
) -> None:
    with running(*runners_of(address, "doze", "--grace", "0.2"), cwd=project) as runners:
        client(address).enqueue(60)
        client(address).wait_until_one_runs()
        assert runners.stop() == Exit.OK
    assert client(address).statuses() == ["requeuing"]


def test_runners_end_after_their_rollouts(client: Clients, address: str, project: Path) -> None:
    with running(*runners_of(address, "answer", "-n", "2", "--max-rollouts", "2"), cwd=project) as runners:
        assert client(address).rewards(1, 2, 3, 4) == [2.0, 4.0, 6.0, 8.0]
        assert runners.process.wait(10) == Exit.OK


def test_runner_that_dies_is_started_again(client: Clients, address: str, project: Path) -> None:
    with running(*runners_of(address, "die_once"), cwd=project) as runners:
        config = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"])
        assert client(address).rewards(str(project / "been here"), config=config) == [1.0]
        assert runners.process.poll() is None


def test_runners_that_die_again_and_again_end_the_command(client: Clients, address: str, project: Path) -> None:
    client(address).enqueue(*range(10))
    done = lightactors(*runners_of(address, "die", "--name", "w"), cwd=project, seconds=40)
    assert done.returncode == Exit.FAILED
    assert "exited with code 3" in done.stderr.splitlines()[-1]


def test_killed_runners_leave_nothing(address: str, project: Path) -> None:
    with running(*runners_of(address, "answer", "-n", "3"), cwd=project) as runners:
        runners.says(JOINED)
        assert len(left_of(runners.tag)) >= 4
        runners.process.kill()
        runners.process.wait()
        time_until_nothing_is_left_of(runners.tag)


def test_runners_wait_for_a_store_that_is_not_there_yet(client: Clients, project: Path) -> None:
    socket = f"unix:{project}/s"
    with running(*runners_of(socket, "answer", "-n", "2"), cwd=project) as runners:
        assert str(socket) in runners.says("waiting for the store: .*")[0]
        with running("store", "--listen", socket, cwd=project):
            assert client(socket).rewards(1) == [2.0]
        assert runners.errors.count("waiting for the store") == 1


def test_runners_go_on_when_the_store_comes_again(client: Clients, project: Path) -> None:
    socket = f"unix:{project}/s"
    with running("store", "--listen", socket, cwd=project) as store:
        store.says("Ctrl-C stops it")
        with running(*runners_of(socket, "answer", "-n", "2"), cwd=project) as runners:
            assert client(socket).rewards(1, 2) == [2.0, 4.0]
            store.process.kill()
            store.process.wait()
            with running("store", "--listen", socket, cwd=project):
                assert client(socket).rewards(3, 4, 5) == [6.0, 8.0, 10.0]
                assert runners.process.poll() is None
                pids = set(left_of(runners.tag))
                assert runners.stop() == Exit.OK
            assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("once", [False, True])
def test_runners_wait_for_the_next_store_when_theirs_is_stopped_unless_told_otherwise(
    client: Clients, project: Path, once: bool
) -> None:
    socket = f"unix:{project}/s"
    options = ["--once"] if once else []
    with (
        running("store", "--listen", socket, cwd=project) as store,
        running(*runners_of(socket, "answer", "-n", "2", *options), cwd=project) as runners,
    ):
        assert client(socket).rewards(1, 2) == [2.0, 4.0]
        began = time.monotonic()
        assert store.stop() == Exit.OK
        assert time.monotonic() - began < 10
        if once:
            assert runners.process.wait(10) == Exit.OK
        else:
            with running("store", "--listen", socket, cwd=project):
                assert client(socket).rewards(3, 4, 5, 6) == [6.0, 8.0, 10.0, 12.0]
                assert runners.stop() == Exit.OK
        assert "Traceback" not in runners.errors


def test_store_that_is_stopped_lets_runners_finish(
    client: Clients, address: str, store: Command, project: Path
) -> None:
    with running(*runners_of(address, "note", "--once"), cwd=project) as runners:
        client(address).enqueue(str(project / "finished"))
        client(address).wait_until_one_runs()
        assert store.stop() == Exit.OK
        assert runners.process.wait(10) == Exit.OK
        assert (project / "finished").exists()
        assert "could not be reported" not in runners.errors


def test_rollout_of_a_runner_that_had_to_be_killed_goes_back_to_the_queue(
    client: Clients, address: str, project: Path
) -> None:
    with running(*runners_of(address, "stubborn", "--grace", "0.1"), cwd=project, program=HASTY) as runners:
        client(address).enqueue(30)
        client(address).wait_until_one_runs()
        assert runners.stop(seconds=30) == Exit.OK
        assert client(address).statuses() == ["requeuing"]


def test_runners_stop_at_once_while_there_is_no_store(project: Path) -> None:
    with running(*runners_of(f"unix:{project}/s", "answer"), cwd=project) as runners:
        runners.says("waiting for the store")
        assert runners.stop(seconds=3) == Exit.OK


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_store_stops_in_order(store: Command, address: str, number: signal.Signals) -> None:
    assert store.stop(number) == Exit.OK
    assert "Traceback" not in store.errors
    assert not left_of(store.tag)


def test_ctrl_c_after_the_end_changes_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LATE], env=surroundings(), cwd=tmp_path, timeout=20, check=False)
    assert done.returncode == Exit.OK


LATE = """
import os, signal
import anyio
from lightactors.cli.running import until_stopped
until_stopped(anyio.lowlevel.checkpoint)
os.kill(os.getpid(), signal.SIGINT)
"""
