"""A guardian with a keeper: what the tests launch by it, and how they see what is left."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from lightactors.processes import Exit, Limits
from lightactors.processes.host import Host, Process

ANIMALS = "tests.real_time.processes.animals"  # the module that its children run


class Beast:
    """A launched process whose fate a test can wait for."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._launched = threading.Event()
        self._exited = threading.Event()
        self._launch: object = None
        self._exit: Exit | None = None
        process.when_launched(self._note_launch)
        process.when_exited(self._note_exit)

    def launched(self, timeout: float = 20) -> object:
        """Return the pid, or why there is none."""
        assert self._launched.wait(timeout), "not launched"
        return self._launch

    def exit(self, timeout: float = 20) -> Exit:
        assert self.is_gone(timeout), "not gone"
        assert self._exit is not None
        return self._exit

    def is_gone(self, timeout: float = 0) -> bool:
        return self._exited.wait(timeout)

    def act(self, name: str, *arguments: object) -> None:
        self.process.link.sendall(json.dumps([name, *arguments]).encode())

    def hear(self) -> bytes:
        self.process.link.settimeout(20)
        return self.process.link.recv(1 << 20)

    def output(self) -> tuple[str, str]:
        return read(self.process.stdout), read(self.process.stderr)

    def close(self) -> None:
        self.process.link.close()
        os.close(self.process.stdout)
        os.close(self.process.stderr)

    def _note_launch(self, launch: object) -> None:
        self._launch = launch
        self._launched.set()

    def _note_exit(self, exit: Exit) -> None:
        self._exit = exit
        self._exited.set()


class Zoo:
    """Launches processes by one guardian, and finds whatever descends from it."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.host = Host.start(child=ANIMALS)
        self.beasts: list[Beast] = []

    def launch(self, label: str = "beast", limits: Limits | None = None) -> Beast:
        beast = Beast(self.host.launch(label, limits or Limits()))
        self.beasts.append(beast)
        return beast

    def let_in(self, name: str, *arguments: object, limits: Limits | None = None) -> Beast:
        """Launch a process that acts as an animal, and wait until it is one."""
        beast = self.send_for(name, *arguments, limits=limits)
        assert beast.hear() == b"ready"
        pid = beast.launched()  # the news of which takes another way
        assert isinstance(pid, int)
        if name == "stopped":  # it can't say so itself
            while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
                time.sleep(0.001)
        return beast

    def send_for(self, name: str, *arguments: object, limits: Limits | None = None) -> Beast:
        beast = self.launch(name, limits)
        beast.act(name, *arguments)
        return beast

    def descendants(self) -> list[str]:
        """Return what runs beside the guardian and its forkserver, which share a process group."""
        guardian = self.guardian()
        return [command for pid, command in marked(self.mark).items() if group(pid) not in (guardian, None)]

    def guardian(self) -> int:
        return next(pid for pid, command in marked(self.mark).items() if "guardian.py" in command)

    def forkserver(self) -> psutil.Process:
        guardian = self.guardian()
        return next(child for child in psutil.Process(guardian).children() if group(child.pid) == guardian)

    def close(self) -> None:
        self.host.close()
        for beast in self.beasts:
            beast.close()


def read(descriptor: int) -> str:
    try:
        return os.read(descriptor, 1 << 20).decode()
    except BlockingIOError:
        return ""


def marked(mark: str) -> dict[int, str]:
    """Return the processes that were started with the mark in their environment, and what they run."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                environment = Path(f"/proc/{name}/environ").read_bytes()
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if mark.encode() in environment:
                found[int(name)] = command.replace(b"\0", b" ").decode()
    return found


def group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def wait_until(fact: Callable[[], object], timeout: float = 20) -> float:
    """Wait for something that nobody tells of; return how long it took."""
    start = time.monotonic()
    while not fact():
        assert time.monotonic() < start + timeout, "it did not come about"
        time.sleep(0.005)
    return time.monotonic() - start
