"""Programs of actors in processes, ended in every way: nothing of them is left, and nobody complains."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import jupyter_client.manager
import psutil
import pytest

import lightactors as la
from lightactors.errors import ProcessDied
from tests.real_time import programs
from tests.real_time.programs import BY_CTRL_C, COMPLAINTS, Program, time_until_nothing_is_left_of
from tests.real_time.zoo import Worker

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

Start = Callable[..., Program]

LOOPS = anyio.get_available_backends()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a program whose `main()` runs on a loop."""
    started: list[Program] = []

    def begin(body: str, backend: str, **how: Any) -> Program:
        started.append(Program(tmp_path / "program.py", body, backend, **how))
        return started[-1]

    yield begin
    for program in started:
        program.end()


# Killed

FAMILY = """
async def main():
    async with la.open_system():
        middle = await la.options(place="process").spawn(Worker)
        below = await middle.spawn_worker()
        beside = await la.options(place="process").spawn(Worker)
        for worker in (middle, below, beside):
            await worker.start_grandchild()
        print("ready", await middle.pid(), await below.pid(), await beside.pid(), flush=True)
        await anyio.sleep_forever()
"""


def kill_program(start: Start, backend: str) -> float:
    program = start(FAMILY, backend, strict=False)
    program.wait_for("ready")
    assert len(programs.left_of(program.tag)) >= 9  # the program, guardian, forkserver, three children and theirs
    program.process.kill()
    took = time_until_nothing_is_left_of(program.tag)
    program.end()
    return took


@pytest.mark.parametrize("backend", LOOPS)
def test_nothing_is_left_of_a_killed_program(start: Start, backend: str) -> None:
    kill_program(start, backend)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_nothing_is_left_of_a_killed_program_100_times(start: Start) -> None:
    report("killed program", [kill_program(start, LOOPS[number % len(LOOPS)]) for number in range(100)])


def report(what: str, times: list[float]) -> None:
    sys.stderr.write(f"{what}: {len(times)} times, {max(times) * 1000:.0f} ms at most\n")


IN_A_CELL = """
import lightactors as la
from tests.real_time.zoo import Worker

@la.actor
class Mine:
    @la.handler
    def start_grandchild(self):
        return grandchild()

    @la.handler
    async def spawn_worker(self) -> Worker:
        return await la.options(place="process").spawn(Worker)

def grandchild():
    import subprocess
    return subprocess.Popen(["sleep", "600"], start_new_session=True).pid

worker = await la.options(place="process").spawn(Mine)
below = await worker.spawn_worker()
await worker.start_grandchild()
await below.start_grandchild()
"""


def kill_kernel() -> float:
    tag = f"{uuid.uuid4()}"
    manager: Any = jupyter_client.manager.KernelManager(kernel_name="python3")
    manager.kernel_spec.argv[0] = sys.executable
    manager.start_kernel(cwd=str(programs.ROOT), env={**os.environ, **programs.environment(tag)})
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=30)
        reply = client.execute_interactive(IN_A_CELL, timeout=30, output_hook=lambda _: None)
        assert reply["content"]["status"] == "ok", reply["content"]
        assert len(programs.left_of(tag)) >= 7
        os.kill(manager.provisioner.process.pid, signal.SIGKILL)
        return time_until_nothing_is_left_of(tag)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_nothing_is_left_of_a_killed_notebook() -> None:
    kill_kernel()


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_nothing_is_left_of_a_killed_notebook_100_times() -> None:
    report("killed notebook", [kill_kernel() for _ in range(100)])


async def until(is_so: Callable[[], bool], seconds: float = 5) -> float:
    began = time.monotonic()
    with anyio.fail_after(seconds):
        while not is_so():  # noqa: ASYNC110 (the kernel raises no event of ours)
            await anyio.sleep(0.002)
    return time.monotonic() - began


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def kill_the_middle(times: int) -> list[float]:
    took = []
    async with la.open_system(), la.supervise(max_restarts=times) as supervisor:
        middle = await supervisor.options(place="process").spawn(Worker)
        for _ in range(times):
            below = await middle.spawn_worker()
            lowest = await below.spawn_worker()
            killed = await middle.pid()
            pids = [killed, await below.pid(), await lowest.pid()]
            pids += [await worker.start_grandchild() for worker in (middle, below, lowest)]
            os.kill(killed, signal.SIGKILL)
            took.append(await until(lambda pids=pids: not any(map(is_alive, pids)), 1))  # type: ignore[misc]
            assert await middle.pid() != killed
    return took


async def test_killed_supervisor_in_the_middle_leaves_nothing_and_comes_back() -> None:
    await kill_the_middle(3)


@pytest.mark.stress
@pytest.mark.timeout(300)
async def test_killed_supervisor_in_the_middle_leaves_nothing_100_times() -> None:
    report("killed supervisor", await kill_the_middle(100))


def guardian() -> psutil.Process | None:
    """Return our guardian."""
    for child in psutil.Process().children():
        if "guardian.py" in " ".join(child.cmdline()):
            return child
    return None


async def kill_the_guardian(times: int) -> list[float]:
    took = []
    async with la.open_system() as system:
        for _ in range(times):
            async with la.supervise() as supervisor:
                kept = await supervisor.options(place="process").spawn(Worker)
                once = await supervisor.options(place="process", restart="temporary").spawn(Worker)
                below = await kept.spawn_worker()
                pids = [await worker.pid() for worker in (kept, once, below)]
                orphans = [await worker.start_grandchild() for worker in (kept, once, below)]
                killed = guardian()
                assert killed is not None
                killed.kill()
                took.append(await until(lambda pids=pids: not any(map(is_alive, pids)), 1))  # type: ignore[misc]

                terminated = await la.watch(once)
                assert isinstance(terminated.error, ProcessDied)
                assert "guardian" in str(terminated.error)
                assert await kept.pid() not in pids
                new = guardian()
                assert new is not None
                assert new.pid != killed.pid
            for orphan in orphans:  # nobody is left who could know of them
                os.kill(orphan, signal.SIGKILL)
        assert system.tree().children == []
    return took


async def test_killed_guardian_takes_its_children_along_and_another_one_takes_over() -> None:
    await kill_the_guardian(2)


@pytest.mark.stress
@pytest.mark.timeout(300)
async def test_killed_guardian_takes_its_children_along_100_times() -> None:
    report("killed guardian", await kill_the_guardian(100))


# Ctrl-C

RUNG = 0.3
BOUND = 3 * RUNG + 2.0
"""Seconds that a stop may take: an actor's rungs, and what two busy cores take to do it."""

LIFE = """
async def live():
    async with anyio.create_task_group() as tg:
        for place in ("task", "thread", "process"):
            tg.start_soon(clean, place)
        tg.start_soon(be_busy)
        tg.start_soon(have_a_grandchild)
    await anyio.sleep(0.1)

async def clean(place):
    cleaner = await la.options(place=place).spawn(Cleaner, 0.02, 0.05)

async def be_busy():
    busy = await la.options(place="process").spawn(Cleaner, 0, 0)
    await busy.block.tell(60)

async def have_a_grandchild():
    worker = await la.options(place="process").spawn(Worker)
    await worker.start_grandchild()
    await worker.wait.tell()
"""

IN_SYSTEMS = """
async def main():
    while True:
        async with la.open_system(grace={rung}):
            await live()
"""

IN_DEFAULT_ROOT = """
async def main():
    await live()
    await anyio.sleep_forever()
"""


def interrupt_at_any_moment(start: Start, seed: int) -> float:
    chance = random.Random(seed)
    in_systems = chance.random() < 0.8
    number = chance.choice([signal.SIGINT] * 8 + [signal.SIGTERM, signal.SIGHUP])
    body = LIFE + (IN_SYSTEMS.format(rung=RUNG) if in_systems else IN_DEFAULT_ROOT)
    program = start(body, LOOPS[seed % len(LOOPS)])
    program.wait_for("go")
    time.sleep(chance.choice([0.1, 1, 2.5]) * chance.random())
    program.send(number, apart=0)
    began = time.monotonic()
    first = program.errors.readline()
    if "stopping" in first and in_systems and chance.random() < 0.3:
        time.sleep(0.2 * chance.random())
        program.send(signal.SIGINT, apart=0)
    status, output, errors = program.outcome()
    took = time.monotonic() - began
    time_until_nothing_is_left_of(program.tag)
    errors = first + errors

    told = f"seed {seed}, {number.name}, {body[-200:]}, {status}, {took:.2f} s\n{output}{errors}"
    assert status in (BY_CTRL_C if number is signal.SIGINT else [128 + number, -number]), told
    assert took < (BOUND if in_systems else BOUND + 3 * 5), told
    if "lightactors: stopping" in errors:  # else Ctrl-C was Python's, and its complaints are
        assert not [complaint for complaint in COMPLAINTS if complaint in errors], told
        assert output.splitlines()[-1] == "census:", told
    return took


@pytest.mark.parametrize("seed", range(10))
def test_ctrl_c_at_any_moment_ends_program_and_processes_in_order(start: Start, seed: int) -> None:
    interrupt_at_any_moment(start, seed)


@pytest.mark.stress
@pytest.mark.timeout(2400)
def test_ctrl_c_at_any_of_300_moments_ends_program_and_processes_in_order(start: Start) -> None:
    times: list[float] = []
    failures: list[AssertionError] = []
    for seed in range(1000, 1300):
        try:
            times.append(interrupt_at_any_moment(start, seed))
        except AssertionError as error:
            failures.append(error)
            sys.stderr.write(f"{error}\n")
    report("interrupted program", times)
    assert not failures, f"{len(failures)} of 300 failed; the first: {failures[0]}"


@pytest.mark.parametrize("backend", LOOPS)
def test_process_below_the_default_root_cleans_up_after_ctrl_c(start: Start, backend: str) -> None:
    program = start(
        """
        async def main():
            await la.options(name="c", place="process").spawn(Cleaner, 0, 0.3)
            print("ready", flush=True)
            await anyio.sleep_forever()
        """,
        backend,
    )
    program.wait_for("ready")
    program.send(signal.SIGINT, apart=0)
    status, output, errors = program.outcome()

    assert status in BY_CTRL_C
    assert output.splitlines() == ["[c] cleaned up", "census:"]
    assert errors.splitlines()[1:] == ["lightactors: stopped by Ctrl-C"]
