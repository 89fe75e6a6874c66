"""Ctrl-C, SIGTERM and SIGHUP, as a terminal and an orchestrator send them to a program of actors."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from lightactors.actors import open_system

ROOT = Path(__file__).parents[2]

HEADER = """
import contextlib, os, signal, sys, time, logging
import anyio
import lightactors as la

logging.basicConfig(format="%(message)s")


@la.actor
class Tidy:
    # It cleans up.
    async def on_stop(self):
        await anyio.sleep(0.01)
        print("tidied", flush=True)

    @la.handler
    async def hold(self, seconds=60):
        await anyio.sleep(seconds)


@la.actor
class Sleeper:
    # It blocks.
    @la.handler
    def sleep(self, seconds):
        time.sleep(seconds)


async def work(seconds=60):
    tidy = await la.spawn(Tidy)
    threaded = await la.options(place="thread").spawn(Tidy)
    await tidy.hold.tell(seconds)
    await threaded.hold.tell(seconds)
    print("ready", flush=True)
    await anyio.sleep(60)


"""

COMPLAINTS = ["Traceback", "never awaited", "never retrieved", "was destroyed", "Warning", "unraisable", "ignored"]

GRACEFUL = "lightactors: stopping within {} s; press Ctrl-C again to hurry"
BY_CTRL_C = (-signal.SIGINT, 128 + signal.SIGINT)

Start = Callable[[str], "Program"]


class Program:
    """A script that runs until it is sent signals."""

    def __init__(self, path: Path, *, stderr: int = subprocess.PIPE) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", str(path)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    @property
    def output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def wait_for(self, word: str) -> None:
        assert any(line == f"{word}\n" for line in self.output), "the program has ended"

    def send(self, *numbers: signal.Signals, apart: float = 0.15) -> None:
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(apart)

    def outcome(self) -> tuple[int, list[str], list[str]]:
        """Return the exit status and the lines of output and of errors, in which nobody complains."""
        try:
            output, errors = self.process.communicate(timeout=20)
        finally:
            self.process.kill()
        for complaint in COMPLAINTS:
            assert complaint not in errors, errors
        # asyncio's debug mode tells of slow steps, and ours are slow on purpose.
        lines = [line for line in errors.splitlines() if not line.startswith("Executing <")]
        return self.process.returncode, output.splitlines(), lines


@pytest.fixture
def start(anyio_backend: str, tmp_path: Path) -> Iterator[Start]:
    """Start a program whose `main()` runs on one of the loops."""
    programs: list[Program] = []

    def started(body: str) -> Program:
        path = tmp_path / "program.py"
        # A Ctrl-C in the midst of imports is Python's, which may even ignore it.
        imports = f"import anyio._backends._{anyio_backend}\n"
        path.write_text(HEADER + imports + textwrap.dedent(body) + f'\n\nanyio.run(main, backend="{anyio_backend}")\n')
        program = Program(path)
        programs.append(program)
        return program

    yield started
    for program in programs:
        with program.process as process:  # waits, and closes the pipes
            process.kill()


SYSTEM = """
    async def main():
        async with la.open_system(grace=0.2):
            await work()
"""

ENDLESS = """
    async def main():
        async with la.open_system(grace=30):
            await work()
"""

DEFAULT = """
    async def main():
        await work({})
"""

BLOCKED = """
    async def main():
        async with la.open_system(grace=30):
            print("ready", flush=True)
            print("unflushed")
            time.sleep(60)
"""


def test_ctrl_c_lets_the_actors_drain_and_ends_without_a_traceback(start: Start) -> None:
    program = start("""
        @la.actor
        class Slow:
            @la.handler
            async def save(self):
                await anyio.sleep(0.3)
                print("saved", flush=True)

        async def main():
            async with la.open_system():
                slow = await la.spawn(Slow)
                await slow.save.tell()
                print("ready", flush=True)
                await anyio.sleep(60)
    """)
    program.wait_for("ready")
    program.send(signal.SIGINT)
    status, output, errors = program.outcome()

    assert status in BY_CTRL_C
    assert output == ["saved"]
    assert errors == [GRACEFUL.format(5), "lightactors: stopped by Ctrl-C"]


def test_second_ctrl_c_does_not_wait_for_what_drains(start: Start) -> None:
    program = start(ENDLESS)
    program.wait_for("ready")
    program.send(signal.SIGINT, signal.SIGINT)
    asked = time.monotonic()
    status, output, errors = program.outcome()

    assert time.monotonic() - asked < 5
    assert status in BY_CTRL_C
    assert output == ["tidied"] * 2
    assert errors[:2] == [
        GRACEFUL.format(30),
        "lightactors: hurrying: what still runs is cancelled; press Ctrl-C again to kill the program",
    ]


def test_third_ctrl_c_kills_a_program_whose_loop_does_not_turn(start: Start) -> None:
    program = start(BLOCKED)
    program.wait_for("ready")
    program.send(signal.SIGINT, signal.SIGINT, signal.SIGINT)
    status, output, errors = program.outcome()

    assert status == 128 + signal.SIGINT
    assert output == ["unflushed"]
    assert errors[-1] == "lightactors: killed by the third Ctrl-C"


def test_killed_program_leaves_the_terminal_with_its_cursor(start: Start, tmp_path: Path) -> None:
    start(BLOCKED)  # for its file
    ours, theirs = pty.openpty()
    program = Program(tmp_path / "program.py", stderr=theirs)
    os.close(theirs)
    program.wait_for("ready")
    program.send(signal.SIGINT, signal.SIGINT, signal.SIGINT)
    with program.process:
        assert program.process.wait(5) == 128 + signal.SIGINT
    shown = os.read(ours, 10000)
    os.close(ours)

    assert shown.endswith(b"\x1b[?25h\r\nlightactors: killed by the third Ctrl-C\r\n")


@pytest.mark.parametrize("root", ["system", "default"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_orchestrators_signal_stops_and_exits_with_its_number(start: Start, number: signal.Signals, root: str) -> None:
    program = start(SYSTEM if root == "system" else DEFAULT.format(1))
    program.wait_for("ready")
    program.send(number, number)  # a closing terminal sends two: no hurry is meant
    status, output, errors = program.outcome()

    assert status == 128 + number
    assert output == ["tidied"] * 2
    assert errors[0] == f"lightactors: stopping within {0.2 if root == 'system' else 5} s, because of {number.name}"
    assert "hurrying" not in "".join(errors)


@pytest.mark.parametrize(("times", "seconds"), [(1, 1), (2, 60)])
def test_default_root_stops_in_order_too(start: Start, times: int, seconds: float) -> None:
    program = start(DEFAULT.format(seconds))
    program.wait_for("ready")
    program.send(*[signal.SIGINT] * times, apart=0.005)
    status, output, errors = program.outcome()

    assert status in BY_CTRL_C
    assert output == ["tidied"] * 2
    assert (errors[0], errors[-1]) == (GRACEFUL.format(5), "lightactors: stopped by Ctrl-C")


def test_ctrl_c_while_the_default_root_ends_by_itself_is_not_lost(start: Start) -> None:
    program = start("""
        @la.actor
        class Slow:
            async def on_stop(self):
                print("ready", flush=True)
                await anyio.sleep(0.5)
                print("tidied", flush=True)

        async def main():
            await la.spawn(Slow)
    """)
    program.wait_for("ready")
    program.send(signal.SIGINT)
    status, output, errors = program.outcome()

    assert status in BY_CTRL_C
    assert output == ["tidied"]
    assert errors == [GRACEFUL.format(5), "lightactors: stopped by Ctrl-C"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("systems", [1, 2])
def test_systems_in_tasks_of_their_own_end_without_a_traceback(
    start: Start, systems: int, number: signal.Signals
) -> None:
    program = start(f"""
        async def one():
            async with la.open_system(grace=0.2):
                await work()

        async def main():
            async with anyio.create_task_group() as tasks:
                for _ in range({systems}):
                    tasks.start_soon(one)
    """)
    for _ in range(systems):
        program.wait_for("ready")
    program.send(number)
    status, output, errors = program.outcome()

    assert status in (BY_CTRL_C if number is signal.SIGINT else [143])
    assert sorted(output) == ["tidied"] * 2 * systems
    assert errors[-1] == f"lightactors: stopped by {'Ctrl-C' if number is signal.SIGINT else 'SIGTERM'}"


def test_nested_systems_stop_from_the_inside_out(start: Start) -> None:
    program = start("""
        async def main():
            async with la.open_system("outer", grace=0.2):
                try:
                    async with la.open_system("inner", grace=0.2):
                        await work()
                except KeyboardInterrupt:
                    print("caught", flush=True)
                    raise
    """)
    program.wait_for("ready")
    program.send(signal.SIGINT)
    status, output, _ = program.outcome()

    assert status in BY_CTRL_C
    assert output == ["tidied", "tidied", "caught"]


def test_program_that_catches_the_interruption_goes_on_and_is_interrupted_anew(start: Start) -> None:
    program = start("""
        async def main():
            await la.spawn(Sleeper)  # below the default root
            for _ in range(4):
                with contextlib.suppress(KeyboardInterrupt):
                    async with la.open_system(grace=0.2):
                        await work()
            print("done", flush=True)
    """)
    for _ in range(4):
        program.wait_for("ready")
        program.send(signal.SIGINT)
    status, output, errors = program.outcome()

    assert status == 0
    assert output[-1] == "done"
    assert errors.count(GRACEFUL.format(5)) == 4  # the default root's grace
    assert "hurrying" not in "".join(errors)


def test_error_of_an_interrupted_block_is_logged(start: Start) -> None:
    program = start("""
        async def main():
            logging.getLogger("lightactors").handlers = [logging.StreamHandler(sys.stdout)]
            logging.getLogger("lightactors").propagate = False
            async with la.open_system():
                try:
                    print("ready", flush=True)
                    await anyio.sleep(60)
                finally:
                    raise ValueError("the user's own")
    """)
    program.wait_for("ready")
    program.send(signal.SIGINT)
    status, output, _ = program.outcome()

    assert status in BY_CTRL_C
    assert "raised while system local was interrupted" in output
    assert "ValueError: the user's own" in output


def test_users_own_handlers_stay(start: Start) -> None:
    program = start("""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: os.write(1, b"mine %d\\n" % number))

        async def main():
            async with la.open_system(grace=0.2):
                print("ready", flush=True)
                await anyio.sleep(0.6)
    """)
    program.wait_for("ready")
    program.send(signal.SIGINT, signal.SIGTERM)
    assert program.outcome() == (0, ["mine 2", "mine 15"], [])


def test_forked_copy_of_a_program_may_be_terminated(start: Start) -> None:
    program = start("""
        async def main():
            async with la.open_system(grace=0.2):
                for number in (signal.SIGTERM, signal.SIGHUP):
                    ready, report = os.pipe()
                    child = os.fork()
                    if not child:
                        os.write(report, b"!")
                        time.sleep(60)
                    os.read(ready, 1)
                    os.kill(child, number)
                    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """)
    assert program.outcome() == (0, ["-15", "-1"], [])


async def test_handlers_are_given_back() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    async with open_system("outer"):
        async with open_system("inner"):
            during = [signal.getsignal(number) for number in numbers]
        assert [signal.getsignal(number) for number in numbers] == during
    assert [signal.getsignal(number) for number in numbers] == before
    assert not set(during) & set(before)


# At any moment

ANY_MOMENT = """
async def go():
    tidy = await la.spawn(Tidy)
    threaded = await la.options(place="thread").spawn(Tidy)
    sleeper = await la.options(place="thread").spawn(Sleeper)
    on_loop = await la.spawn(Sleeper)
    await tidy.hold.tell()
    await threaded.hold.tell()
    while True:
        await sleeper.sleep.tell(0.02)
        await on_loop.sleep(0.005)
        await anyio.sleep(0.001)

async def in_system():
    async with la.open_system(grace=0.1):
        await go()

main = in_system if {in_system} else go
print("go", flush=True)
"""


def interrupt_at_any_moment(start: Start, seed: int) -> None:
    chance = random.Random(seed)
    in_system = chance.random() < 0.7
    program = start(ANY_MOMENT.format(in_system=in_system))
    program.wait_for("go")
    time.sleep(chance.choice([0.02, 0.1, 0.3]) * chance.random())
    program.send(signal.SIGINT, apart=0)
    if chance.random() < 0.4 and in_system:
        assert program.process.stderr is not None
        first = program.process.stderr.readline()
        if "stopping" in first:  # and not a traceback of Python's own, before there was a system
            time.sleep(0.1 * chance.random())
            program.send(signal.SIGINT, apart=0)
    began = time.monotonic()
    status, _, errors = outcome_at_any_moment(program)
    assert status in BY_CTRL_C, (seed, status, errors)
    assert time.monotonic() - began < 8, (seed, errors)


def outcome_at_any_moment(program: Program) -> tuple[int, str, str]:
    """Return the exit status, output and errors; before a system is open, Ctrl-C is Python's, and its complaints."""
    try:
        output, errors = program.process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        program.process.send_signal(signal.SIGABRT)  # faulthandler shows where it hangs
        output, errors = program.process.communicate()
        raise AssertionError(f"the program hangs:\n{output}{errors}") from None
    if "lightactors: stopping" in errors:
        for complaint in COMPLAINTS:
            assert complaint not in errors, errors
    return program.process.returncode, output, errors


@pytest.mark.parametrize("seed", range(6))
def test_ctrl_c_at_any_moment_ends_the_program_in_order(start: Start, seed: int) -> None:
    interrupt_at_any_moment(start, seed)


@pytest.mark.stress
@pytest.mark.timeout(1200)
def test_ctrl_c_at_any_of_300_moments_ends_the_program_in_order(start: Start) -> None:
    failures: list[AssertionError] = []
    for seed in range(300):
        try:
            interrupt_at_any_moment(start, seed)
        except AssertionError as error:
            failures.append(error)
    assert not failures, f"{len(failures)} of 300 failed; the first: {failures[0]}"
