"""The program's side of its guardian: launch a process, signal it, kill it, hear of its end.

There is no event loop in it. One thread listens to the guardian and calls back; what it calls must not raise or wait.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import itertools
import json
import logging
import os
import signal as signals
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from lightactors.errors import ConfigurationError, LaunchFailed
from lightactors.processes.exits import Exit
from lightactors.processes.guardian import PACKET_SIZE, PATIENCE
from lightactors.processes.settings import settings
from lightactors.supervision.limits import Limits

logger = logging.getLogger("lightactors")

CHILD = "lightactors.processes.child"  # its `main(link, control)` is what a child runs
HERE = Path(__file__).parent

T = TypeVar("T")


class Once(Generic[T]):
    """A value that comes once; whoever asks for it is told when it is there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: list[T] = []  # one at most
        self._listeners: list[Callable[[T], object]] = []

    def set(self, value: T) -> None:
        """Tell everybody, unless there is a value already."""
        with self._lock:
            if self._values:
                return
            self._values.append(value)
            listeners, self._listeners = self._listeners, []
        for tell in listeners:
            try:
                tell(value)
            except Exception:
                logger.exception("what a process has told failed")

    def when(self, tell: Callable[[T], object]) -> None:
        """Call `tell` with the value: here and now if it is there, else on the thread that sets it."""
        with self._lock:
            if not self._values:
                self._listeners.append(tell)
                return
        tell(self._values[0])


class Process:
    """A child process, from the request for it to its end.

    `link` is this side's end of a stream socket to it; `stdout` and `stderr` are non-blocking pipes to read.
    They are the caller's, who closes them. `started` is when it was asked for, in seconds since the epoch.
    """

    def __init__(self, host: Host, number: int, label: str, link: socket.socket, stdout: int, stderr: int) -> None:
        self.label = label
        self.pid: int | None = None
        self.started = time.time()
        self.link = link
        self.stdout = stdout
        self.stderr = stderr
        self._host = host
        self.number = number
        self.launched = Once[int | LaunchFailed]()
        self.exited = Once[Exit]()

    def signal(self, number: int) -> None:
        """Send a signal, once the process is launched; nothing if it is gone. SIGTERM wakes a stopped one up too."""
        self._request("signal", number=number)
        if number == signals.SIGTERM:
            self._request("signal", number=signals.SIGCONT)

    def kill(self) -> None:
        """Kill the process and all that descends from it, also before it is launched; nothing if it is gone."""
        self._request("kill")

    def when_launched(self, tell: Callable[[int | LaunchFailed], object]) -> None:
        """Call `tell` with the pid or with why there is none, at once or on the guardian's thread."""
        self.launched.when(tell)

    def when_exited(self, tell: Callable[[Exit], object]) -> None:
        """Call `tell` when the process and all that descended from it are gone; never if it was not launched."""
        self.exited.when(tell)

    def _request(self, do: str, **facts: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # the guardian is gone, and the process with it
            self._host.send({"do": do, "child": self.number, **facts})


class Host:
    """The program's, or a child's, line to the guardian. A program has one: `launch` below finds it."""

    def __init__(self, control: socket.socket, guardian: subprocess.Popen[bytes] | None = None) -> None:
        self.is_open = True
        self._control = control
        self._guardian = guardian  # None in a child, whose guardian is its parent
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._processes: dict[int, Process] = {}
        self._thread = threading.Thread(target=self._listen, name="lightactors guardian", daemon=True)
        self._thread.start()
        _open.add(self)

    @classmethod
    def start(cls, child: str = CHILD) -> Host:
        """Start a guardian, whose children run the `main` of module `child`; raises OSError if the host is full."""
        check_platform()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", HERE / "guardian.py", str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C is for the program, which sees to its children
            )
        ours.send(json.dumps(configuration(child)).encode())
        return cls(ours, guardian)

    def launch(self, label: str, limits: Limits) -> Process:
        """Ask for a process and return at once; what comes of it, `when_launched` tells.

        Raises `LaunchFailed` where it can't even be asked for: no descriptors are left, or no guardian.
        """
        try:
            with contextlib.ExitStack() as theirs, contextlib.ExitStack() as undo:
                link, far_link = socket.socketpair()
                undo.enter_context(link)
                theirs.enter_context(far_link)
                stdout, far_stdout = open_pipe(undo, theirs)
                stderr, far_stderr = open_pipe(undo, theirs)
                process = Process(self, next(self._numbers), label, link, stdout, stderr)
                self._ask(process, limits, [far_link.fileno(), far_stdout, far_stderr])
                undo.pop_all()
        except OSError as error:
            raise LaunchFailed(f"process {label!r} could not be started: {error}") from error
        return process

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Send to the guardian. Raises BrokenPipeError if that is gone, and with it all that it owned."""
        if self._pid != os.getpid():
            raise ConfigurationError(f"the process belongs to pid {self._pid}; this is a fork of it, launch its own")
        with self._lock:  # or the listening thread could close it meanwhile, and another file get its number
            if not self.is_open:
                raise BrokenPipeError(errno.EPIPE, "the guardian is gone")
            socket.send_fds(self._control, [json.dumps(message).encode()], descriptors or [])

    def close(self) -> None:
        """Have everything killed and swept, and wait until it is."""
        if self.is_open and self._pid == os.getpid():
            self._control.shutdown(socket.SHUT_WR)
            self._thread.join(PATIENCE + 1)

    def _ask(self, process: Process, limits: Limits, descriptors: list[int]) -> None:
        number = process.number
        self._processes[number] = process
        try:
            self.send({"do": "launch", "child": number, "settings": settings(limits)}, descriptors)
        except OSError:
            self._processes.pop(number, None)
            raise

    def _listen(self) -> None:
        """Hear the guardian out, on a thread of its own."""
        while packet := self._receive():
            message = json.loads(packet)
            EVENTS[message.pop("event")](self, message.pop("child"), **message)
        with self._lock:
            self.is_open = False
            self._control.close()
        _open.discard(self)
        if self._guardian is not None:
            self._guardian.wait()
        for number in list(self._processes):
            self._lost(number)

    def _receive(self) -> bytes:
        try:
            return self._control.recv(PACKET_SIZE)
        except ConnectionResetError:  # as an end, with something unread at the other side
            return b""

    def _launched(self, number: int, pid: int) -> None:
        process = self._processes[number]
        process.pid = pid
        process.launched.set(pid)

    def _failed(self, number: int, text: str) -> None:
        process = self._processes.pop(number)
        process.launched.set(LaunchFailed(f"process {process.label!r} could not be started: {text}"))

    def _exited(self, number: int, status: int | None, survivors: list[int]) -> None:
        self._processes.pop(number).exited.set(Exit.from_status(status, tuple(survivors)))

    def _lost(self, number: int) -> None:
        process = self._processes.pop(number)
        if process.pid is None:
            process.launched.set(LaunchFailed(f"process {process.label!r} was not started: its guardian was killed"))
        else:
            process.exited.set(Exit())

    def abandon(self) -> None:
        """Let go of what another process owns: this is a fork of it."""
        self.is_open = False
        self._control.close()
        if self._guardian is not None:
            self._guardian.returncode = 0  # not this process's child: its end is not to be awaited, nor missed


EVENTS: dict[str, Callable[..., None]] = {
    "launched": Host._launched,  # noqa: SLF001
    "failed": Host._failed,  # noqa: SLF001
    "exited": Host._exited,  # noqa: SLF001
}

_lock = threading.Lock()
_host: Host | None = None  # the program's one
_inherited: socket.socket | None = None  # in a child: what its `_host` is made of
_open: set[Host] = set()  # that one, and a test's


def launch(label: str, limits: Limits) -> Process:
    """Launch a process by the program's guardian, which is started if there is none; see `Host.launch`."""
    try:
        return _current().launch(label, limits)
    except LaunchFailed as error:
        if not isinstance(error.__cause__, BrokenPipeError):
            raise
    return _current(anew=True).launch(label, limits)  # the guardian was killed, and the news was still on its way


def inherit(control: socket.socket) -> None:
    """Launch by the guardian of which this process is a child, and not by one of its own."""
    global _inherited
    _inherited = control


def _current(*, anew: bool = False) -> Host:
    global _host
    with _lock:
        if _inherited is not None:
            _host = _host or Host(_inherited)
        elif _host is None or anew or not _host.is_open:
            _host = Host.start()
            atexit.register(_host.close)
        return _host


def configuration(child: str) -> dict[str, Any]:
    """Return how to start a forkserver like this interpreter, and what it is to import."""
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001
    return {
        "forkserver": [sys.executable, *flags, "-P", str(HERE / "forkserver.py")],
        "imports": {"path": [entry or os.getcwd() for entry in sys.path], "child": child},
    }


def check_platform() -> None:
    """Raise `ConfigurationError` where there can be no guardian."""
    if sys.platform != "linux":
        raise ConfigurationError(f"place='process' needs Linux, and this is {sys.platform}; use place='thread'")
    if not sys.executable:
        raise ConfigurationError("place='process' needs an interpreter to run, and sys.executable is empty; set it")


def open_pipe(undo: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    """Open a pipe that is read here without waiting; return its ends, the reading one first."""
    reading, writing = os.pipe()
    undo.callback(os.close, reading)
    theirs.callback(os.close, writing)
    os.set_blocking(reading, False)
    return reading, writing


def _leave_to_parent() -> None:
    """In a fork of the program: the guardian and its processes are the parent's alone."""
    global _lock, _host, _inherited
    _lock = threading.Lock()  # another thread may have held the old one
    if _inherited is not None:
        _inherited.close()
    _host = _inherited = None
    while _open:
        _open.pop().abandon()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_to_parent)
