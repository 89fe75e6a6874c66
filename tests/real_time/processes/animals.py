"""What the children of these tests run: a zoo of processes, most of which do not want to end."""

from __future__ import annotations

import atexit
import collections
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from lightactors.processes import Limits, host

FLAGS = ("optimize", "dev_mode", "utf8_mode", "dont_write_bytecode", "no_user_site", "bytes_warning")

Keeper = socket.socket  # the link to the test

ZOO: dict[str, Callable[[Keeper], object]] = {}  # stubborn in one way each
HELPERS: dict[str, Callable[..., object]] = {}


def animal(act: Callable[[Keeper], object]) -> Callable[[Keeper], object]:
    ZOO[act.__name__] = act
    return act


def helper(act: Callable[..., object]) -> Callable[..., object]:
    HELPERS[act.__name__] = act
    return act


def main(link: socket.socket, control: socket.socket) -> None:
    host.inherit(control)
    name, *arguments = json.loads(link.recv(65536))
    (ZOO | HELPERS)[name](link, *arguments)


def ready(link: Keeper) -> None:
    link.send(b"ready")


def sleep_on() -> NoReturn:
    while True:
        time.sleep(60)


def session() -> subprocess.Popen[bytes]:
    """Start a sleeper in a session of its own, out of reach of signals to a group or a terminal."""
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)


@animal
def plain(link: Keeper) -> None:
    ready(link)
    sleep_on()


@animal
def ignores_interrupt(link: Keeper) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready(link)
    sleep_on()


def asleep(link: Keeper) -> None:
    time.sleep(60)


@animal
def swallows_keyboard_interrupt(link: Keeper) -> None:
    tell = ready
    while True:
        try:
            tell(link)  # from in here: nothing may come between it and being deaf
            tell = asleep
        except KeyboardInterrupt:
            tell = asleep


@animal
def ignores_interrupt_and_terminate(link: Keeper) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready(link)
    sleep_on()


@animal
def returns_from_terminate(link: Keeper) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _, __: None)
    ready(link)
    sleep_on()


@animal
def cleans_up_for_long(link: Keeper) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _, __: time.sleep(30))
    ready(link)
    sleep_on()


@animal
def stuck_in_c(link: Keeper) -> None:
    # A Python handler runs only between two instructions, and this is one.
    signal.signal(signal.SIGTERM, lambda _, __: sys.exit())
    if not os.fork():  # who is stuck can't tell so itself
        time.sleep(0.1)
        ready(link)
        os._exit(0)
    collections.deque(itertools.repeat(0), maxlen=0)


@animal
def stopped(link: Keeper) -> None:
    ready(link)
    os.kill(os.getpid(), signal.SIGSTOP)
    sleep_on()


@animal
def has_child_in_session(link: Keeper) -> None:
    session()
    ready(link)
    sleep_on()


@animal
def flees_on_terminate(link: Keeper) -> None:
    def flee(_: int, __: object) -> None:
        if os.fork():
            os._exit(0)
        os.setsid()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, flee)
    ready(link)
    sleep_on()


@animal
def forks_on_and_on(link: Keeper) -> None:
    if not os.fork():
        while True:
            if os.fork():
                os._exit(0)
            os.setsid()
    ready(link)
    sleep_on()


@helper
def middle(link: Keeper, kinds: list[str]) -> None:
    """A supervisor of its own: it launches a child of each kind by the guardian that it belongs to."""
    processes = [host.launch(kind, Limits()) for kind in kinds]
    for process, kind in zip(processes, kinds, strict=True):
        process.link.send(json.dumps([kind]).encode())
        assert process.link.recv(16) == b"ready"
    ready(link)
    sleep_on()


@helper
def leaves(link: Keeper, code: int) -> None:
    """End by itself, with a sleeper left in a session of its own, and an orphan that has come home."""
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import os; import signal; os.fork() or signal.pause()"],
        check=True,
        timeout=20,
    )
    session()
    ready(link)
    sys.exit(code)


@helper
def ends(link: Keeper, how: str) -> None:
    if how == "raise":
        raise RuntimeError("the child's own error")
    if how == "text":
        sys.exit("the last words")
    atexit.register(print, "at exit")
    sys.stdout.write("no newline")


@helper
def tells(link: Keeper) -> None:
    """Tell what a child finds itself to be."""
    facts: dict[str, Any] = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgrp(),
        "files": {int(name): target(name) for name in os.listdir("/proc/self/fd")},
        "link": link.fileno(),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)],
        "interrupts": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "user": os.getuid(),
        "groups": [os.getgid(), *os.getgroups()],
        "path": sys.path,
        "flags": {name: getattr(sys.flags, name) for name in FLAGS},
    }
    link.sendall(json.dumps(facts).encode())


@helper
def opens_files(link: Keeper) -> None:
    files = []
    try:
        while True:
            files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        link.send(json.dumps([len(files), error.errno]).encode())


@helper
def allocates(link: Keeper, size: int) -> None:
    try:
        bytearray(size)
    except MemoryError:
        link.send(b"MemoryError")
    else:
        link.send(b"allocated")


@helper
def launches(link: Keeper, user: str | None) -> None:
    told: queue.SimpleQueue[object] = queue.SimpleQueue()
    process = host.launch("", Limits(user=user))
    process.when_launched(told.put)
    launch = told.get(timeout=20)
    link.send(b"launched" if isinstance(launch, int) else str(launch).encode())


@helper
def babbles(link: Keeper, packet: str) -> None:
    host._current()._control.send(packet.encode())  # noqa: SLF001
    ready(link)


def target(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{name}")
    except FileNotFoundError:
        return ""  # the one that listed them
