"""Executions on both sides of a network: runners join, leave, come back, are told of the end, and leave nothing."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

import lightactors as la
from lightactors.training.algorithms.tasks import run_tasks
from lightactors.training.events import ExecutionEvent
from lightactors.training.records import RolloutConfig
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.strategies import Backend, ClientServerExecutionStrategy, Side
from tests.real_time import plays, programs
from tests.real_time.marks import chiefly_on
from tests.real_time.programs import kill_what_is_left_of, time_until_nothing_is_left_of
from tests.real_time.remote.proxy import open_proxy
from tests.remote.certificates import Authority

END = 20
"""Seconds that a program may take to end."""


class Sides:
    """The sides of one execution: one may be here, the others are programs."""

    def __init__(self, backend: Backend, folder: Path) -> None:
        self.backend = backend
        self.tag = f"{uuid.uuid4()}"
        self.token_file = folder / "tokens"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        la.Tokens.new().save(self.token_file)
        self._folder = folder
        self.programs: list[subprocess.Popen[bytes]] = []

    def here(self, role: Side = "algorithm", **arguments: Any) -> ClientServerExecutionStrategy:
        """Return a strategy for this process."""
        given: dict[str, Any] = {
            "server_port": self.port,
            "token_file": self.token_file,
            "graceful_timeout": 2,
            "terminate_timeout": 1,
            "backend": self.backend,
            **arguments,
        }
        return ClientServerExecutionStrategy(role, **given)

    def program(
        self,
        role: str = "runner",
        algorithm: str = "run_all",
        runner: str = "run",
        n_runners: int = 1,
        port: int | None = None,
        more: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a side as a program; `port`: where it connects to, if not to the execution itself."""
        command = [sys.executable, "-m", "tests.real_time.side", role, algorithm, runner, str(n_runners), self.backend]
        environment = {
            **programs.environment(self.tag),
            "LIGHTACTORS_SERVER_PORT": str(port or self.port),
            "LIGHTACTORS_TOKEN_FILE": str(self.token_file),
            **(more or {}),
        }
        with (self._folder / f"log-{len(self.programs)}").open("wb") as log:
            program = subprocess.Popen(command, cwd=programs.ROOT, env=environment, stdout=log, stderr=log)
        self.programs.append(program)
        return program

    def log(self, number: int = 0) -> str:
        return (self._folder / f"log-{number}").read_text()

    def end(self) -> None:
        for program in self.programs:
            program.kill()
            program.wait()
        kill_what_is_left_of(self.tag)


@pytest.fixture
def sides(backend: Backend, tmp_path: Path) -> Iterator[Sides]:
    sides = Sides(backend, tmp_path)
    yield sides
    sides.end()


def until(is_so: Callable[[], object], seconds: float = 30) -> None:
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)


async def workers(store: Store, count: int) -> list[str]:
    """Wait until that many workers have been heard of."""
    with anyio.fail_after(20):
        while len(known := await store.query_workers()) < count:
            await anyio.lowlevel.checkpoint()
    return [worker.worker_id for worker in known]


# Joining and leaving


def test_runner_joins_runs_and_is_told_of_the_end(sides: Sides) -> None:
    runner = sides.program()
    sides.here().execute(plays.run_all, plays.run, MemoryStore())
    assert runner.wait(END) == 0
    assert "the execution at" in sides.log()
    assert "Traceback" not in sides.log()


def test_runners_that_came_first_wait_for_the_algorithm(sides: Sides) -> None:
    runner = sides.program(n_runners=2)
    until(lambda: "can't be reached" in sides.log())

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        await plays.run_all(store, event)
        joined.extend(await workers(store, 2))

    joined: list[str] = []
    sides.here().execute(algorithm, plays.run, MemoryStore())
    assert len(set(joined)) == 2
    assert runner.wait(END) == 0


def test_runner_joins_an_execution_that_has_its_own(sides: Sides) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        runner.append(sides.program(runner="run_elsewhere"))
        joined.extend(await workers(store, 3))
        await plays.run_all(store, event)

    runner: list[subprocess.Popen[bytes]] = []
    joined: list[str] = []
    sides.here("both", n_runners=2, main_process="algorithm").execute(algorithm, plays.run, MemoryStore())
    assert {"runner-0", "runner-1"} < set(joined)
    assert runner[0].wait(END) == 0


def test_runners_leave_and_others_come(sides: Sides) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        for number in range(1, 3):
            runner = sides.program(runner="run_elsewhere")
            await workers(store, number)
            await run_tasks(store, range(3))
            runner.terminate()
            codes.append(await anyio.to_thread.run_sync(runner.wait))

    codes: list[int] = []
    sides.here().execute(algorithm, plays.run, MemoryStore())
    assert codes == [128 + signal.SIGTERM] * 2


def test_work_of_a_killed_runner_on_this_machine_is_released(sides: Sides) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        sides.program(runner="die_at_the_first_attempt", n_runners=2)
        await plays.enqueue_one_with_a_retry(store, event)

    sides.here().execute(algorithm, plays.run, MemoryStore())


def test_end_does_not_wait_for_ever_for_who_takes_its_time(sides: Sides) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        runner.append(sides.program(runner="run_slowly"))
        await plays.end_when_it_runs(store, event)
        ended.append(time.monotonic())

    runner: list[subprocess.Popen[bytes]] = []
    ended: list[float] = []
    store = MemoryStore()
    sides.here(graceful_timeout=3).execute(algorithm, plays.run, store)
    assert time.monotonic() - ended[0] < 6
    assert runner[0].wait(END) == 0
    (rollout,) = anyio.run(lambda: store.query_rollouts(), backend=sides.backend)
    assert rollout.status == "requeuing"  # the runner gave it back after its second


def test_failure_of_a_runner_far_away_is_its_own(sides: Sides) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        assert await anyio.to_thread.run_sync(sides.program(runner="fail").wait) == 1
        sides.program()
        await plays.run_all(store, event)

    sides.here().execute(algorithm, plays.run, MemoryStore())
    assert "runner 0 is broken" in sides.log()


def test_runner_that_waits_for_its_execution_can_be_stopped(sides: Sides) -> None:
    runner = sides.program(n_runners=2)
    until(lambda: sides.log().count("trying again") == 2)
    started = time.monotonic()
    runner.send_signal(signal.SIGINT)
    assert runner.wait(END) in (-signal.SIGINT, 128 + signal.SIGINT)
    assert time.monotonic() - started < 2


# Whom it concerns


def test_runner_of_another_execution_is_refused(sides: Sides, tmp_path: Path) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        sides.token_file = tmp_path / "others"
        la.Tokens.new().save(sides.token_file)
        assert await anyio.to_thread.run_sync(sides.program().wait) == 1
        assert await store.query_workers() == []

    sides.here().execute(algorithm, plays.run, MemoryStore())
    assert "AccessDenied" in sides.log()


def test_two_executions_that_want_one_port_do_not_mix(sides: Sides, tmp_path: Path) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        other = sides.program("both")
        assert await anyio.to_thread.run_sync(other.wait) == 0
        assert await store.query_workers() == []

    sides.here().execute(algorithm, plays.run, MemoryStore())
    assert "taking any port that is free" in sides.log()


def test_token_file_is_made_named_and_taken_away(sides: Sides, caplog: pytest.LogCaptureFixture) -> None:
    made = sides.token_file.with_name("made")

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        assert made.stat().st_mode & 0o777 == 0o600
        sides.token_file = made
        sides.program()
        await plays.run_all(store, event)

    sides.here(token_file=made).execute(algorithm, plays.run, MemoryStore())
    assert not made.exists()


def test_algorithm_alone_says_aloud_how_to_join(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None: ...

    ClientServerExecutionStrategy("algorithm", server_port=0, backend=backend).execute(
        algorithm, plays.run, MemoryStore()
    )
    (said,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert re.fullmatch(r"runners join with LIGHTACTORS_TOKEN_FILE=/.*/tokens", said)


@pytest.mark.parametrize("is_believed", [True, False])
def test_sides_trust_each_other_by_their_certificates(sides: Sides, tmp_path: Path, is_believed: bool) -> None:
    authority, stranger = Authority(tmp_path, "ours"), Authority(tmp_path, "strangers")

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        with anyio.move_on_after(10 if is_believed else 2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other_side)
                await plays.run_all(store, event)
                done.append("all")
                tasks.cancel_scope.cancel()

    async def other_side() -> None:
        tls = la.Tls(ca=(authority if is_believed else stranger).ca)
        await sides.here("runner", tls=tls).run(plays.run_all, plays.run, MemoryStore())

    done: list[str] = []
    sides.here(tls=authority.sign("server")).execute(algorithm, plays.run, MemoryStore())
    assert bool(done) is is_believed


# Losses


def test_runner_outlives_the_algorithm_and_serves_the_next(sides: Sides) -> None:
    first = sides.program("algorithm", "wait_forever")
    runner = sides.program()
    until(lambda: "has joined" in sides.log(0))
    first.kill()
    first.wait()
    time.sleep(0.5)
    sides.here().execute(plays.run_all, plays.run, MemoryStore())
    assert runner.wait(END) == 0


@pytest.mark.parametrize(
    ("is_known", "reason"), [(True, "was started again, without"), (False, "refused: give a valid token")]
)
@pytest.mark.parametrize("runner", ["run", "wait_for_stop"])
def test_runner_that_lost_its_execution_for_good_says_so(
    sides: Sides, tmp_path: Path, runner: str, is_known: bool, reason: str
) -> None:
    async def have_no_store() -> None:
        tokens = la.Tokens.load(sides.token_file) if is_known else la.Tokens.new()
        async with la.open_system(listen=f"grpc://127.0.0.1:{sides.port}", tokens=tokens):
            codes.append(await anyio.to_thread.run_sync(joined.wait, END))

    codes: list[int] = []
    first = sides.program("algorithm", "wait_forever")
    joined = sides.program(runner=runner, more={"HASTY": "1"})
    until(lambda: "has joined" in sides.log(0))
    first.kill()
    first.wait()
    anyio.run(have_no_store, backend=sides.backend)
    assert codes == [1]
    last = sides.log(1).splitlines()[-1]
    assert re.search(rf"ExecutionError: the execution at grpc://\S+ is gone: .*{reason}.*; start", last)


def test_no_rollout_is_lost_or_run_twice_over_a_connection_that_is_reset_again_and_again(sides: Sides) -> None:
    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        runner.append(sides.program(n_runners=2, port=proxy.port))
        await workers(store, 2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reset)
            while proxy.accepted < 8:
                results = await run_tasks(store, range(20))
                statuses.extend(result.rollout.status for result in results)
            tasks.cancel_scope.cancel()
        counted.append((await store.statistics()).total_attempts)

    async def reset() -> None:
        while True:
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(proxy.reset)

    runner: list[subprocess.Popen[bytes]] = []
    statuses: list[str] = []
    counted: list[int] = []
    with open_proxy(sides.port) as proxy:
        sides.here().execute(algorithm, plays.run, MemoryStore())
        assert runner[0].wait(END) == 0
    assert set(statuses) == {"succeeded"}
    assert counted == [len(statuses)]


@chiefly_on("asyncio", "backend")
def test_runner_that_is_frozen_for_a_while_goes_on(sides: Sides) -> None:
    config = RolloutConfig(max_attempts=3, unresponsive_seconds=1, retry_condition=["unresponsive"])

    async def algorithm(store: Store, event: ExecutionEvent) -> None:
        runner = sides.program()
        await workers(store, 1)
        os.kill(runner.pid, signal.SIGSTOP)
        rollouts = [await store.enqueue_rollout(number, config=config) for number in range(5)]
        await anyio.sleep(5)  # longer than a link lives without a sign of life
        os.kill(runner.pid, signal.SIGCONT)
        with anyio.fail_after(10):
            ended = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id for rollout in rollouts])
        statuses.extend(rollout.status for rollout in ended)

    statuses: list[str] = []
    sides.here().execute(algorithm, plays.run, MemoryStore())
    assert statuses == ["succeeded"] * 5


# Orphans


@chiefly_on("asyncio", "backend")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("role", ["both", "runner"])
def test_nothing_is_left_when_the_main_process_ends(sides: Sides, role: str, number: signal.Signals) -> None:
    if role == "runner":
        sides.program("algorithm", "wait_forever")
    program = sides.program(role, "wait_forever", "wait_for_stop", n_runners=2)
    until(lambda: len(psutil.Process(program.pid).children(recursive=True)) >= 4)  # guardian, forkserver and two
    time.sleep(0.5)
    program.send_signal(number)
    assert program.wait(END) in (-number, 128 + number, 1)
    for other in sides.programs:
        other.kill()
        other.wait()
    time_until_nothing_is_left_of(sides.tag)
