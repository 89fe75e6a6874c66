"""Clients and owner are killed at any moment: the books balance, nobody else notices, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from lightactors.errors import ObjectError
from lightactors.objects.client import Client
from lightactors.objects.figures import Figures
from tests.real_time.objects import crew
from tests.real_time.objects.stores import (
    MIB,
    PATIENCE,
    Store,
    accounted,
    figures,
    open_store,
    shared_memory,
    until,
    wait_until,
)

_CREW = 4

_OWNERS = 0.05
"""The share of the kills that the owner gets."""

_FORKS = 0.1
"""The share that forks get."""

_BAD = {"wrong", "lost", "failed"}
"""What none of the crew may ever say."""


class Crew:
    """Processes at work, those that are killed replaced."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        self._store = store
        self._chance = chance
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([crew.__name__])
        self._members: dict[Connection, BaseProcess] = {}
        self._count = 0
        self._lost: set[Any] = set()
        self.forks: list[int] = []
        self.until_gone: list[float] = []  # seconds
        self.until_new_store: list[float] = []
        self.inodes: set[int] = set()
        self.auditor = self._new_auditor()
        for _ in range(_CREW):
            self._hire()

    def _hire(self) -> None:
        self._count += 1
        ours, theirs = self._context.Pipe()
        arguments = (self._store.name, f"hand {self._count}", self._chance.random(), theirs)
        process = self._context.Process(target=crew.work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._members[ours] = process

    def _new_auditor(self) -> Client:
        auditors: list[Client] = []
        wait_until(lambda: self._try_to_audit(auditors))
        self.inodes.add(os.fstat(auditors[0].memory).st_ino)
        return auditors[0]

    def _try_to_audit(self, auditors: list[Client]) -> bool:
        with contextlib.suppress(ObjectError):  # the old owner's end of the line
            auditors.append(self._store.client("auditor"))
        return bool(auditors)

    def pump(self, seconds: float) -> None:
        """Pass on what they say to each other for some time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for line in wait(list(self._members), left):
                assert isinstance(line, Connection)
                self._pass_on(line)

    def _pass_on(self, line: Connection) -> None:
        try:
            what, about = line.recv()
        except (EOFError, ConnectionResetError):
            raise AssertionError(f"{self._members[line]} has ended, with {self._members[line].exitcode}") from None
        assert what not in _BAD, (what, about)
        if what == "forked":
            self.forks.append(about)
        elif len(self._members) > 1:
            others = [other for other in self._members if other is not line]
            self._chance.choice(others).send((what, about))

    def kill_one(self) -> None:
        """Kill anyone, and note the seconds until nothing of it is in the books."""
        chance = self._chance.random()
        if chance < _OWNERS:
            self.until_new_store.append(self._kill_owner())
        elif chance < _OWNERS + _FORKS and self.forks:
            self.until_gone.append(self._kill_fork(self.forks.pop()))
        else:
            self.until_gone.append(self._kill_member())

    def _kill_member(self) -> float:
        line = self._chance.choice(list(self._members))
        process = self._members.pop(line)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        seconds = self._seconds_until_gone(process.pid)
        process.join()
        self._hear_last_words(line)
        self._hire()
        return seconds

    def _hear_last_words(self, line: Connection) -> None:
        with line:
            try:
                while True:
                    what, about = line.recv()
                    assert what not in _BAD, (what, about)
            except (EOFError, OSError):
                pass

    def _kill_fork(self, pid: int) -> float:
        if not _is_alive(pid):
            return 0.0
        os.kill(pid, signal.SIGKILL)
        return self._seconds_until_gone(pid)

    def _kill_owner(self) -> float:
        pid = self._store.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _is_alive(pid))
        began = time.monotonic()
        self.auditor.close()
        self.auditor = self._new_auditor()
        return time.monotonic() - began

    def _seconds_until_gone(self, pid: int) -> float:
        """Return how long after a process's end its account was closed."""
        wait_until(lambda: not _is_alive(pid))
        began = time.monotonic()
        while any(one.pid == pid for one in figures(self.auditor).processes):
            assert time.monotonic() < began + PATIENCE
        return time.monotonic() - began

    def audit(self) -> Figures:
        """Compare the books with who there is."""
        found = figures(self.auditor)
        assert found.used == accounted(found), found
        for one in found.objects:
            assert one.holders or one.viewers or one.in_flight, one
        # One that has ended since may still be in these figures, but not in the next.
        until(self.auditor, lambda found: all(_is_there(one.pid) for one in found.processes if one.pid), within=1.0)
        return found

    def disband(self) -> None:
        """Kill them all."""
        for process in self._members.values():
            process.kill()
        for line, process in self._members.items():
            process.join()
            self._hear_last_words(line)
        for pid in self.forks:
            wait_until(lambda pid=pid: not _is_alive(pid))  # type: ignore[misc]


def _is_there(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def _is_alive(pid: int) -> bool:
    """Tell whether a process has not ended; a zombie has, and its descriptors are closed."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def kill(points: int, seed: int) -> dict[str, float]:
    """Kill so many times, look into the books each time; return figures."""
    chance = random.Random(seed)
    names, memory = set(os.listdir("/dev/shm")), shared_memory()
    began = time.monotonic()
    with open_store(256 * MIB) as store:
        hands = Crew(store, chance)
        hands.pump(0.5)  # until they are at work
        for _ in range(points):
            hands.pump(chance.uniform(0.0, 0.05))
            hands.kill_one()
            hands.audit()
        counters = hands.audit().counters
        hands.disband()
        inodes, gone, new = hands.inodes, hands.until_gone, hands.until_new_store
        pid = store.pid
    took = time.monotonic() - began
    del hands, store
    gc.collect()
    wait_until(lambda: not _is_there(pid))
    wait_until(lambda: not _mapped(inodes))
    assert not {name for name in set(os.listdir("/dev/shm")) - names if "lightactors" in name}
    return {
        "points": points,
        "seconds": took,
        "median_ms_until_gone": statistics.median(gone) * 1000,
        "most_ms_until_gone": max(gone) * 1000,
        "over_50_ms": sum(one > 0.05 for one in gone),
        "owners": len(new),
        "median_ms_until_new_store": statistics.median(new or [0.0]) * 1000,
        "puts_in_last_store": counters.puts,
        "shared_memory_more": shared_memory() - memory,
    }


def _mapped(inodes: set[int]) -> list[str]:
    """Return which processes have mapped or opened these files."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = path.read_text().splitlines()
        except OSError:  # it has ended, or is another user's
            continue
        if any("lightactors" in line and int(line.split()[4]) in inodes for line in lines):
            found.append(path.parent.name)
    return found + [name for name in os.listdir("/proc/self/fd") if _inode_of(int(name)) in inodes]


def _inode_of(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_ino
    except OSError:  # that of the listing
        return 0


def test_books_balance_after_every_kill() -> None:
    numbers = kill(60, seed=6)
    assert numbers["median_ms_until_gone"] < 50


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_books_balance_after_each_of_a_thousand_kills(record_property: Callable[[str, object], None]) -> None:
    numbers = kill(1000, seed=1000)
    for name, number in numbers.items():
        record_property(name, number)
    assert numbers["median_ms_until_gone"] < 50
