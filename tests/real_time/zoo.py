"""Actors for processes: a plain one, and a zoo of those that do not want to end."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable

import anyio

import lightactors as la
from lightactors.actors.ref import cell_of


@la.actor
class Worker:
    """Does what it is told, in a process or elsewhere."""

    def __init__(self, start: int = 0) -> None:
        self.value = start
        self.cancelled = 0

    async def on_stop(self) -> None:
        sys.stdout.write(f"stopped at {self.value}\n")

    @la.handler
    def pid(self) -> int:
        return os.getpid()

    @la.handler
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    @la.handler
    def fail(self, text: str) -> None:
        raise ValueError(text)

    @la.handler
    async def wait(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled += 1

    @la.handler
    def how_often_cancelled(self) -> int:
        return self.cancelled

    @la.handler
    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @la.handler
    def say(self, line: str, stream: str = "stdout") -> None:
        getattr(sys, stream).write(f"{line}\n")
        getattr(sys, stream).flush()

    @la.handler
    def leave(self, code: int) -> None:
        os._exit(code)

    @la.handler
    async def add_to(self, other: Worker, amount: int) -> int:
        return await other.add(amount)

    @la.handler
    async def spawn_worker(self, name: str | None = None) -> Worker:
        return await la.options(name=name, place="process").spawn(Worker, 7)

    @la.handler
    async def look_around(self) -> str:
        return str(await la.survey(within=10))

    @la.handler
    def where(self) -> tuple[str, float]:
        return cell_of(self, "a test").path, la.statistics(la.ref_of(self)).capacity

    @la.handler
    def compute(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass

    @la.handler
    def myself(self) -> Worker:
        return la.ref_of(self)

    @la.handler
    def start_grandchild(self) -> int:
        return grandchild()


@la.actor
class Cleaner:
    """Takes `seconds` to start, and to clean up."""

    def __init__(self, starting: float, cleaning: float) -> None:
        self.starting = starting
        self.cleaning = cleaning

    async def on_start(self) -> None:
        await anyio.sleep(self.starting)

    async def on_stop(self) -> None:
        await anyio.sleep(self.cleaning)
        sys.stdout.write("cleaned up\n")

    @la.handler
    def block(self, seconds: float) -> None:
        time.sleep(seconds)


def grandchild() -> int:
    """Start a process in a session of its own; return its pid."""
    _grandchildren.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
    return _grandchildren[-1].pid


_grandchildren: list[subprocess.Popen[bytes]] = []


def _block() -> None:
    while True:
        time.sleep(0.05)


def _plain() -> None:
    _block()


def _ignores_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _block()


def _swallows_keyboard_interrupt() -> None:
    while True:
        try:
            _block()
        except KeyboardInterrupt:
            continue


def _ignores_sigterm_too() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _ignores_sigint()


def _handles_sigterm_and_returns() -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)
    _ignores_sigint()


def _cleans_up_for_thirty_seconds() -> None:
    signal.signal(signal.SIGTERM, lambda *_: time.sleep(30))
    _ignores_sigint()


def _is_stuck_in_c_with_the_gil() -> None:
    ctypes.PyDLL(None).sleep(600)  # PyDLL keeps the GIL


def _is_stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _has_a_grandchild_in_its_own_session() -> None:
    grandchild()
    _block()


def _forks_a_session_on_sigterm() -> None:
    def fork(*_: object) -> None:
        if os.fork() == 0:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)

    signal.signal(signal.SIGTERM, fork)
    _ignores_sigint()


def _is_a_chain_that_forks_again_and_again() -> None:
    if os.fork() == 0:
        while True:
            os.setsid()
            time.sleep(0.005)
            if os.fork():
                os._exit(0)
    _ignores_sigterm_too()


ZOO: dict[str, Callable[[], None]] = {
    function.__name__.strip("_").replace("_", " "): function
    for function in (
        _plain,
        _ignores_sigint,
        _swallows_keyboard_interrupt,
        _ignores_sigterm_too,
        _handles_sigterm_and_returns,
        _cleans_up_for_thirty_seconds,
        _is_stuck_in_c_with_the_gil,
        _is_stopped,
        _has_a_grandchild_in_its_own_session,
        _forks_a_session_on_sigterm,
        _is_a_chain_that_forks_again_and_again,
    )
}


@la.actor
class Animal:
    """Becomes one of the zoo, and is deaf to everything from then on."""

    @la.handler
    def become(self, kind: str) -> None:
        ZOO[kind]()
