"""Whole programs to be interrupted and killed, and a census of what they leave behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import textwrap
import time
import uuid
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).parents[2]

TAG = "LIGHTACTORS_TEST_PROGRAM"
"""The variable by which a program and all that descends from it are known, wherever they have gone."""

HEADER = """
import contextlib, logging, os, random, signal, sys, threading, time
import anyio
import lightactors as la
from tests.real_time.programs import census, take_terminal
from tests.real_time.zoo import Animal, Cleaner, Worker, grandchild

logging.basicConfig(format="%(message)s")

"""

FOOTER = """

if __name__ == "__main__":
    __import__("anyio._backends._{backend}")  # a Ctrl-C in the midst of imports is Python's, and looks like anything
    print("go", flush=True)
    try:
        anyio.run(main, backend="{backend}")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("census:", *census(), flush=True)
"""

COMPLAINTS = ["Traceback", "never awaited", "never retrieved", "was destroyed", "Warning", "unraisable", "ignored"]

BY_CTRL_C = (-signal.SIGINT, 128 + signal.SIGINT)


class Program:
    """A script that runs until it is sent signals."""

    def __init__(
        self, path: Path, body: str, backend: str, *, strict: bool = True, terminal: int | None = None
    ) -> None:
        self.tag = f"{uuid.uuid4()}"
        path.write_text(HEADER + textwrap.dedent(body) + FOOTER.format(backend=backend))
        self.process = subprocess.Popen(
            [sys.executable, *(["-X", "dev", "-W", "error"] if strict else []), str(path)],
            cwd=ROOT,
            env=environment(self.tag),
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if terminal is None else terminal,
            start_new_session=terminal is not None,
            text=True,
        )

    @property
    def output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def errors(self) -> IO[str]:
        assert self.process.stderr is not None
        return self.process.stderr

    def wait_for(self, word: str) -> list[str]:
        """Wait for a line that begins with the word; return the other words of it."""
        for line in self.output:
            first, *rest = line.split()
            if first == word:
                return rest
        raise AssertionError(f"the program ended before it said {word!r}: {self.errors.read()}")

    def send(self, *numbers: signal.Signals, apart: float = 0.15) -> None:
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(apart)

    def outcome(self, seconds: float = 20) -> tuple[int, str, str]:
        """Return the exit status, the output and the errors."""
        try:
            output, errors = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler shows where it hangs
            output, errors = self.process.communicate()
            raise AssertionError(f"the program hangs:\n{output}{errors}") from None
        # asyncio's debug mode tells of slow steps, and on a busy machine any step may be slow.
        told = "".join(line for line in errors.splitlines(keepends=True) if not line.startswith("Executing <"))
        return self.process.returncode, output, told

    def end(self) -> None:
        """Kill whatever is left."""
        with self.process:  # waits, and closes the pipes
            self.process.kill()
        kill_what_is_left_of(self.tag)


def take_terminal() -> None:
    """Be who hears the keys of the terminal at standard input."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def environment(tag: str) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": os.environ["HOME"], TAG: tag}


def left_of(tag: str) -> dict[int, str]:
    """Return the processes, by pid, that a program has started or is."""
    left = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get(TAG) == tag and process.status() != psutil.STATUS_ZOMBIE:
                left[process.pid] = " ".join(process.cmdline())
        except psutil.Error:
            continue  # it ends at this moment, or is none of ours
    return left


def kill_what_is_left_of(tag: str) -> None:
    for pid in left_of(tag):
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, signal.SIGKILL)


def wait_for_processes(tag: str, number: int) -> None:
    """Wait until so many are there: the variables of one that has just been started may not be seen yet."""
    began = time.monotonic()
    while len(left := left_of(tag)) < number:
        assert time.monotonic() - began < 5, left
        time.sleep(0.002)


def time_until_nothing_is_left_of(tag: str, seconds: float = 3.0) -> float:
    """Return how long it took; fail with what is left after `seconds`, of which an idle machine needs one at most."""
    began = time.monotonic()
    while left := left_of(tag):
        assert time.monotonic() - began < seconds, left
        time.sleep(0.002)
    return time.monotonic() - began


def descriptors() -> list[str]:
    """Return what this process has open beside its standard streams, without what is asked to find out."""
    names = [_target(int(number)) for number in os.listdir("/proc/self/fd") if int(number) > 2]
    return sorted(name for name in names if name and not name.startswith(f"/proc/{os.getpid()}/fd"))


def _target(number: int) -> str:
    try:
        target = os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:
        return ""
    return target.partition(":")[0]  # what it is, without its number


def census() -> list[str]:
    """Return what a program should not have any more at its end, but for its line to the guardian."""
    children = psutil.Process().children()
    zombies = [f"zombie-{child.pid}" for child in children if child.status() == psutil.STATUS_ZOMBIE]
    mine = descriptors()
    if children and "socket" in mine:
        mine.remove("socket")  # the line to the guardian
    return [*zombies, *mine, *(["children"] if len(children) > 1 else [])]
