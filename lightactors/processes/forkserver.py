"""The forkserver: a process with the imports done, of which every child is a copy.

The guardian runs it by path, with the program's interpreter flags. It forks twice for a child: the process between
announces the child and ends, so that the child comes home to the guardian, which is the one to bury it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

PACKET_SIZE = 1 << 18  # as the guardian's

Enter = Callable[[socket.socket, socket.socket], object]  # a child's main: its ends of the link, the control socket
Message = dict[str, Any]


def main() -> None:
    """Import what children need, then fork one for each request until the guardian is gone."""
    server = socket.socket(fileno=int(sys.argv[1]))
    server.set_inheritable(False)
    guardian = os.getppid()
    imports, _ = receive(server)  # nothing comes from a guardian that died before its pid was asked for
    try:
        enter = warm_up(imports)
    except BaseException as error:
        text = f"the forkserver could not import what every process needs: {type(error).__name__}: {error}"
        server.send(json.dumps({"event": "broken", "text": text}).encode())
        raise
    while True:
        request, descriptors = receive(server)
        launch(Launch(request["launch"], request["settings"], descriptors, server, guardian), enter)


def receive(server: socket.socket) -> tuple[Message, list[int]]:
    """Take a packet from the guardian; end this process when the guardian is gone."""
    packet, descriptors, _, _ = socket.recv_fds(server, PACKET_SIZE, 4)
    if not packet:
        os._exit(0)
    return json.loads(packet), descriptors


def warm_up(imports: Message) -> Enter:
    """Import the child's module, and run each event loop once for what it imports on its way."""
    sys.path[:] = imports["path"]
    # Only now can what is not the standard library's be imported.
    import anyio

    from lightactors.processes.guardian import PR_SET_PDEATHSIG, prctl

    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    enter: Enter = importlib.import_module(imports["child"]).main
    for backend in anyio.get_available_backends():
        anyio.run(anyio.sleep, 0, backend=backend)
    # A child shares this memory until it writes to it, which a collection of old objects would do.
    gc.collect()
    gc.freeze()
    return enter


@dataclass(frozen=True)
class Launch:
    """One child to be: what came from the guardian for it, and what its processes need to know."""

    number: int
    settings: Message
    descriptors: list[int]  # link, stdout, stderr, control
    server: socket.socket
    guardian: int

    def report(self, event: str, **facts: object) -> None:
        self.server.send(json.dumps({"event": event, "launch": self.number, **facts}).encode())

    def fail(self, error: Exception) -> None:
        in_words = error.strerror if isinstance(error, OSError) and error.filename is None else str(error)
        self.report("failed", text=in_words)


def launch(launch: Launch, enter: Enter) -> None:
    """Fork the process between and wait for its end, which comes within milliseconds."""
    try:
        between = os.fork()
    except OSError as error:
        launch.fail(no_room(error))
    else:
        if not between:
            fork_child(launch, enter)
        _, status = os.waitpid(between, 0)
        if status:
            launch.report("failed", text="its start was cut short: somebody killed it")
    for descriptor in launch.descriptors:
        os.close(descriptor)


def fork_child(launch: Launch, enter: Enter) -> NoReturn:
    """Fork the child and announce it before its parent ends, and it comes home to the guardian."""
    between = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        launch.fail(no_room(error))
    else:
        if not child:
            live(launch, enter, between)
        launch.report("forked", pid=child)
    os._exit(0)


def no_room(error: OSError) -> OSError:
    return OSError(
        error.errno,
        f"the host lets no more processes start ({error.strerror}); "
        "raise `ulimit -u`, the cgroup's pids.max or its memory, or start fewer",
    )


def live(launch: Launch, enter: Enter, between: int) -> NoReturn:
    """Be the child, from its birth to its end."""
    try:
        while os.getppid() == between:
            time.sleep(0.0002)
        link, control = settle(launch)
    except Exception as error:
        launch.fail(error)
        os._exit(1)
    launch.report("launched")
    launch.server.close()
    leave(run(enter, link, control))


def settle(launch: Launch) -> tuple[socket.socket, socket.socket]:
    """Set this process up as a child of the guardian; return its ends of the link and of the control socket."""
    from lightactors.processes.guardian import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
    from lightactors.processes.settings import impose

    os.setpgid(0, 0)
    reset_signals()
    link, stdout, stderr, control = launch.descriptors
    with open(os.devnull) as stdin:
        for target, source in enumerate((stdin.fileno(), stdout, stderr)):
            os.dup2(source, target)
    keep_open({0, 1, 2, link, control, launch.server.fileno()})
    sys.stdout = text_output(1)
    sys.stderr = text_output(2)
    impose(launch.settings)
    # Orphans of what this process starts come home to it while it lives. Their zombies stay until it ends: to bury
    # them here could take a status from `subprocess`.
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # last: a change of user clears it
    if os.getppid() != launch.guardian:
        os._exit(1)  # it died before it could be watched
    return socket.socket(fileno=link), socket.socket(fileno=control)


def text_output(descriptor: int) -> io.TextIOWrapper:
    """Open a stream whose lines go out one by one; who reads it takes it for UTF-8."""
    return open(descriptor, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)


def reset_signals() -> None:
    """Handle signals as a fresh interpreter does; the guardian ignores some, and that is inherited."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def keep_open(descriptors: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in descriptors:
            with contextlib.suppress(OSError):  # the one that listed them
                os.close(int(name))


def run(enter: Enter, link: socket.socket, control: socket.socket) -> int:
    """Run a child's main and what is to run after it, as the interpreter does; return the exit code."""
    code = 0
    try:
        enter(link, control)
    except SystemExit as end:
        code = exit_code(end)
    except KeyboardInterrupt:
        code = -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001  # waits for threads, as the interpreter would
    atexit._run_exitfuncs()  # noqa: SLF001
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def exit_code(end: SystemExit) -> int:
    """Return the code that Python ends with for a SystemExit, having printed what it prints."""
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 0xFF
    print(end.code, file=sys.stderr)  # noqa: T201
    return 1


def leave(code: int) -> NoReturn:
    """End at once: the interpreter's own end would write to, and so copy, all that is shared, to give it back."""
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


if __name__ == "__main__":
    main()
