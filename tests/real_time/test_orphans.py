"""Programs of actors in processes, ended in every way: nothing of them is left, and nobody complains."""

from __future__ import annotations

import os
import pty
import random
import signal
import sys
import termios
import threading
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import jupyter_client.manager
import psutil
import pytest

import lightactors as la
from lightactors.errors import ProcessDied, SpawnError
from lightactors.processes import host
from tests.real_time import programs
from tests.real_time.programs import BY_CTRL_C, COMPLAINTS, Program, time_until_nothing_is_left_of
from tests.real_time.zoo import Cleaner, Worker

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
    programs.wait_for_processes(program.tag, 9)  # the program, guardian, forkserver, three children and theirs
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
        programs.wait_for_processes(tag, 7)
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
        for number in range(times):
            below = await middle.spawn_worker()
            lowest = await below.spawn_worker()
            killed = await middle.pid()
            pids = [killed, await below.pid(), await lowest.pid()]
            pids += [await worker.start_grandchild() for worker in (middle, below, lowest)]
            os.kill(killed, signal.SIGKILL)
            took.append(await until(lambda pids=pids: not any(map(is_alive, pids)), 1))  # type: ignore[misc]
            await until(lambda number=number: la.statistics(middle).restarts > number)  # type: ignore[misc]
            assert await middle.pid() != killed
    return took


async def test_killed_supervisor_in_the_middle_leaves_nothing_and_comes_back() -> None:
    await kill_the_middle(3)


@pytest.mark.stress
@pytest.mark.timeout(300)
async def test_killed_supervisor_in_the_middle_leaves_nothing_100_times() -> None:
    report("killed supervisor", await kill_the_middle(100))


def descendants_of_guardian() -> set[int]:
    """Return what lives, or lies dead, below our guardian, but for its forkserver."""
    if (ours := guardian()) is None:
        return set()
    below = ours.children(recursive=True)
    return {
        child.pid for child in below if "forkserver.py" not in " ".join(child.cmdline()) or child.ppid() != ours.pid
    }


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
                await until(lambda kept=kept: la.statistics(kept).restarts == 1)  # type: ignore[misc]
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


def test_process_of_a_killed_guardian_may_still_be_killed() -> None:
    process = host.launch("p", la.Limits())
    launched, exited = threading.Event(), threading.Event()
    process.when_launched(lambda _: launched.set())
    process.when_exited(lambda _: exited.set())
    try:
        assert launched.wait(5)
        killed = guardian()
        assert killed is not None
        killed.kill()
        assert exited.wait(5)

        process.kill()
        process.signal(signal.SIGTERM)
    finally:
        process.link.close()
        os.close(process.stdout)
        os.close(process.stderr)


# Ctrl-C

RUNG = 0.3
BOUND = 3 * RUNG + 5.0
"""Seconds that a stop may take: an actor's rungs, and what two cores take to do it that others keep busy."""

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
    in_systems = chance.random() < 0.9
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
    if first.lstrip().startswith("+ Exception Group"):
        # Before there was any system of ours, in a task group of the program's: trio wraps its own KeyboardInterrupt.
        assert status == 1, told
        return took
    assert status in (BY_CTRL_C if number is signal.SIGINT else [128 + number, -number]), told
    assert took < (BOUND if in_systems else BOUND + 3 * 5), told
    if "lightactors: stopping" in errors:  # else Ctrl-C was Python's, and its complaints are
        assert not [complaint for complaint in COMPLAINTS if complaint in errors], told
        assert output.splitlines()[-1] == "census:", told
    return took


@pytest.mark.parametrize("seed", range(6))
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


def test_program_ends_though_a_launch_under_way_does_not_go_on(start: Start) -> None:
    program = start(
        """
        import psutil

        async def main():
            async with la.open_system(grace=0.1) as system, anyio.create_task_group() as tg:
                await la.options(place="process").spawn(Worker)
                (guardian,) = psutil.Process().children()
                group = os.getpgid(guardian.pid)
                (forkserver,) = [each for each in guardian.children() if os.getpgid(each.pid) == group]
                forkserver.suspend()
                tg.start_soon(la.options(place="process").spawn, Worker)
                await anyio.sleep(0.1)
                print("ready", flush=True)
                await anyio.sleep_forever()
        """,
        "asyncio",
    )
    program.wait_for("ready")
    program.send(signal.SIGINT, apart=0)
    status, _, errors = program.outcome()

    assert status in BY_CTRL_C
    assert "could not be killed, and is left behind" in errors


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


DRAINING = """
async def main():
    async with la.open_system(grace=30):
        busy = await la.options(name="busy", place="process").spawn(Cleaner, 0, 0)
        await busy.block.tell(60)
        held = await la.options(name="held", place="process").spawn(Worker)
        await held.start_grandchild()
        await held.wait.tell()
        print("ready", flush=True)
        await anyio.sleep_forever()
"""


@pytest.mark.parametrize("backend", LOOPS)
def test_second_ctrl_c_interrupts_processes_at_once(start: Start, backend: str) -> None:
    program = start(DRAINING, backend)
    program.wait_for("ready")
    program.send(signal.SIGINT, apart=0.3)
    began = time.monotonic()
    program.send(signal.SIGINT, apart=0)
    status, output, errors = program.outcome()

    assert status in BY_CTRL_C
    assert time.monotonic() - began < 3  # and not the 30 of a drain
    assert sorted(output.splitlines()) == ["[busy] cleaned up", "[held] stopped at 0", "census:"]
    assert not [complaint for complaint in COMPLAINTS if complaint in errors], errors
    time_until_nothing_is_left_of(program.tag)


STUBBORN = """
async def main():
    async with la.open_system(grace=30):
        animal = await la.options(place="process").spawn(Animal)
        await animal.become.tell("is a chain that forks again and again")
        print("ready", flush=True)
        await anyio.sleep_forever()
"""


@pytest.mark.parametrize("backend", LOOPS)
def test_third_ctrl_c_kills_program_and_processes(start: Start, backend: str) -> None:
    program = start(STUBBORN, backend)
    program.wait_for("ready")
    program.send(*[signal.SIGINT] * 3)
    status, _, errors = program.outcome()

    assert status == 128 + signal.SIGINT
    assert errors.splitlines()[-1] == "lightactors: killed by the third Ctrl-C"
    time_until_nothing_is_left_of(program.tag)


@pytest.mark.parametrize(
    ("presses", "body"), [(1, DRAINING.replace("grace=30", "grace=0.3")), (2, DRAINING), (3, STUBBORN)], ids="123"
)
def test_terminal_is_sane_after_ctrl_c(start: Start, presses: int, body: str) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    program = start(body.replace("main():", "main():\n    take_terminal()"), "asyncio", terminal=theirs)
    program.wait_for("ready")
    for _ in range(presses):
        os.write(ours, b"\x03")  # as the key does: to all of the terminal's foreground group
        time.sleep(0.2)
    with program.process:
        status = program.process.wait(5)
    after = termios.tcgetattr(theirs)
    os.close(theirs)
    shown = os.read(ours, 100000).decode()
    os.close(ours)

    assert status in BY_CTRL_C
    assert after == before
    assert shown.endswith("\r\n")
    assert not [complaint for complaint in COMPLAINTS if complaint in shown], shown
    time_until_nothing_is_left_of(program.tag)


# Cancelled


@asynccontextmanager
async def nothing_stays() -> AsyncGenerator[None]:
    """See that a block leaves no process, task or descriptor; the guardian and the line to it are there already."""

    def there() -> tuple[list[str], int, set[int], int]:
        tasks = len(anyio.get_running_tasks())
        return programs.descriptors(), tasks, descendants_of_guardian(), threading.active_count()

    before = there()
    yield
    try:
        await until(lambda: there() == before, 1)
    except TimeoutError:
        assert there() == before, anyio.get_running_tasks()


async def warm_up(system: la.System) -> None:
    """Have a guardian and a forkserver with their files open."""
    await la.stop(await system.options(place="process").spawn(Worker))


async def cancel_spawns(times: int, seed: int) -> None:
    chance = random.Random(seed)
    async with la.open_system(grace=3) as system:
        await warm_up(system)
        for number in range(times):
            seconds = chance.choice([0.003, 0.02, 0.1]) * chance.random()
            starting = chance.choice([0, 60])
            async with nothing_stays():
                began = time.monotonic()
                spawned = []
                with anyio.move_on_after(seconds):
                    spawned.append(await system.options(place="process").spawn(Cleaner, starting, 0))
                for cleaner in spawned:  # it was there before the deadline
                    await la.stop(cleaner)
                took = time.monotonic() - began
                assert took < seconds + 2.5, (number, seconds, starting, took)
            assert system.tree().children == []


@pytest.mark.parametrize("seed", range(2))
async def test_cancelled_spawn_leaves_nothing(seed: int) -> None:
    await cancel_spawns(10, seed)


@pytest.mark.stress
@pytest.mark.timeout(300)
async def test_cancelled_spawn_leaves_nothing_300_times() -> None:
    await cancel_spawns(300, 42)


@la.actor
class Canceller:
    """Spawns a process from a thread, and thinks better of it."""

    @la.handler
    async def spawn_and_give_up(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await la.options(place="process").spawn(Cleaner, 60, 0)


async def test_cancelled_spawn_from_a_thread_leaves_nothing() -> None:
    async with la.open_system(grace=3) as system:
        await warm_up(system)
        canceller = await system.options(place="thread").spawn(Canceller)
        await canceller.spawn_and_give_up(0)
        async with nothing_stays():
            for number in range(20):
                await canceller.spawn_and_give_up(0.002 * number)
        assert la.statistics(canceller).children == 0


async def test_cancelled_scope_stops_the_tree_that_was_spawned_in_it() -> None:
    async with la.open_system() as system:
        await warm_up(system)
        async with nothing_stays():
            pids: list[int] = []
            with anyio.CancelScope() as scope:
                async with la.supervise() as supervisor:
                    middle = await supervisor.options(place="process").spawn(Worker)
                    below = await middle.spawn_worker()
                    pids += [await below.pid(), await middle.start_grandchild(), await below.start_grandchild()]
                    scope.cancel()
                    await anyio.sleep_forever()
            assert scope.cancelled_caught
            assert not any(map(is_alive, pids))


async def test_every_cause_is_kept_when_processes_die_at_once() -> None:
    with pytest.raises(ExceptionGroup) as failure:
        await die_at_once()

    pids = {str(error).split()[1] for error in failure.value.exceptions}
    assert all(isinstance(error, ProcessDied) for error in failure.value.exceptions)
    assert len(pids) == 4


async def die_at_once() -> None:
    async with la.open_system() as system:
        workers = [await system.options(place="process").spawn(Worker) for _ in range(4)]
        pids = [await worker.pid() for worker in workers]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await anyio.sleep(5)


# Over and over


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=[pytest.mark.stress, pytest.mark.timeout(300)])])
async def test_spawning_and_stopping_leaves_no_descriptor_task_or_thread(times: int) -> None:
    async with la.open_system() as system:
        await warm_up(system)
        async with nothing_stays():
            for _ in range(times):
                worker = await system.options(place="process").spawn(Worker)
                assert await worker.add(1) == 1
                await la.stop(worker)


@pytest.mark.parametrize("backend", LOOPS)
def test_forked_copy_of_a_program_has_processes_of_its_own(start: Start, backend: str) -> None:
    program = start(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # that a fork has only one of the threads is the point

        async def own():
            async with la.open_system():
                worker = await la.options(place="process").spawn(Worker)
                print("pid", await worker.pid(), flush=True)

        async def main():
            async with la.open_system(blocked_after=60):
                worker = await la.options(place="process").spawn(Worker)
                await worker.add(1)
                child = os.fork()
                if not child:
                    thread = threading.Thread(target=anyio.run, args=(own,))
                    thread.start()
                    thread.join()
                    os._exit(7)
                print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
                print("still", await worker.add(1), flush=True)
        """,
        backend,
        strict=False,
    )
    program.wait_for("pid")
    assert program.wait_for("child") == ["7"]
    assert program.wait_for("still") == ["2"]
    status, output, errors = program.outcome()

    assert (status, output, errors) == (0, "[worker-1] stopped at 2\ncensus:\n", "")
    time_until_nothing_is_left_of(program.tag)


async def test_process_that_dies_before_its_handshake_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = host.launch

    def launch_and_kill(label: str, limits: la.Limits) -> host.Process:
        process = launch(label, limits)
        process.when_launched(kill)
        return process

    def kill(pid: object) -> None:
        os.kill(int(str(pid)), signal.SIGKILL)
        time.sleep(0.1)  # on the guardian's thread: the news of the launch comes when its end of the link is closed

    async with la.open_system() as system:
        await warm_up(system)
        monkeypatch.setattr(host, "launch", launch_and_kill)
        async with nothing_stays():
            with pytest.raises(SpawnError, match=r"died before it was ready: process .* was killed by SIGKILL"):
                await system.options(place="process").spawn(Worker)
