"""The guardian: the program that owns a host's child processes and leaves nothing of them behind.

Run by path with the standard library only, so that it is there in milliseconds:
`python -I -S guardian.py <descriptor of its control socket> <pid of the program>`.

It is the real parent of every child, and a *subreaper*: an orphan of a child that has died comes home to it. The
forkserver announces each child before it comes home too. So whoever is here unannounced is a *stranger*, and killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import math
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

PACKET_SIZE = 1 << 18  # above what a socket takes at once, so that no packet is ever cut
PATIENCE = 5.0  # seconds that what was killed gets to be gone; in a hung disk's hands it can take for ever
PAUSE = 0.005  # seconds between two passes of a sweep; a death ends it early

Message = dict[str, Any]


def prctl(option: int, value: int) -> None:
    """Set a property of the calling process, or rather thread: PDEATHSIG tells of the *thread* that forked it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}, {value}): {os.strerror(number)}")


def children() -> Iterator[int]:
    """Yield the processes whose parent this one is, the newest first: a chain that forks on has least time to.

    One that lives from the first step to the last is never missed; one that dies meanwhile may be.
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            yield from reversed([int(pid) for pid in file.read().split()])
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        pids = sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)
        yield from (pid for pid in pids if parent(pid) == os.getpid())


def parent(pid: int) -> int | None:
    """Return the parent of a process; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def dead_child() -> int | None:
    """Return a child that is dead but not buried; None if there is none. Raises ChildProcessError if all are gone."""
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found.si_pid if found else None


def send(pid: int, number: int) -> None:
    """Signal a child, which is there, if only as a zombie: nobody but this process buries it."""
    with contextlib.suppress(PermissionError):  # it has become somebody else, by `sudo` say; it counts as a survivor
        os.kill(pid, number)


def kill(pid: int) -> None:
    send(pid, signal.SIGKILL)


def read(packet: bytes) -> Message:
    """Read a packet, which a child of another user may have made up; what is no message at all is an empty one."""
    try:
        message: object = json.loads(packet)
    except (ValueError, RecursionError):
        return {}
    return cast("Message", message) if isinstance(message, dict) else {}


def is_request(message: Message) -> bool:
    """Tell whether a client that keeps to the protocol could have sent this."""
    shape = SHAPES.get(str(message.get("do")))
    return shape is not None and all(fits(message.get(name)) for name, fits in shape.items())


def is_number(value: object) -> bool:
    return isinstance(value, int)


def is_signal(value: object) -> bool:
    return isinstance(value, int) and value in signal.valid_signals()


def is_settings(value: object) -> bool:
    return isinstance(value, dict) and isinstance(cast("Message", value).get("user"), str | None)


def in_words(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exited with code {code}" if code >= 0 else f"was ended by signal {-code}"


class Line:
    """One end of a packet socket: JSON with descriptors. Sending never waits, whatever the other end does."""

    def __init__(self, end: socket.socket, selector: selectors.BaseSelector, serve: Callable[[], object]) -> None:
        end.setblocking(False)
        self.socket = end
        self.is_open = True
        self._selector = selector
        self._serve = serve
        self._backlog: deque[tuple[bytes, list[int]]] = deque()
        selector.register(end, selectors.EVENT_READ, self.turn)

    def send(self, message: Message, descriptors: Iterable[int] = ()) -> None:
        """Send at once or when there is room, or never if the other end is gone; the descriptors are closed here."""
        self._backlog.append((json.dumps(message).encode(), list(descriptors)))
        self._flush()

    def receive(self) -> Iterator[tuple[Message, list[int]]]:
        """Yield what has arrived; close the line when the other end has."""
        while self.is_open:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self.socket, PACKET_SIZE, 16)
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)  # recv_fds ignores its flags: MSG_CMSG_CLOEXEC does nothing
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet, descriptors = b"", []
            if packet:
                yield read(packet), descriptors
            else:
                self.close()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._selector.unregister(self.socket)
            self.socket.close()
            self._flush()

    def turn(self) -> None:
        """Do what the selector found possible, unless one that it found with it has closed this."""
        if self.is_open:
            self._flush()
            self._serve()

    def _flush(self) -> None:
        while self._backlog:
            packet, descriptors = self._backlog[0]
            try:
                if self.is_open:
                    socket.send_fds(self.socket, [packet], descriptors)
            except BlockingIOError:
                break
            except (BrokenPipeError, ConnectionResetError):
                pass  # reading finds the end too, and sees to the rest
            close_all(descriptors)
            self._backlog.popleft()
        if self.is_open:
            waiting = selectors.EVENT_WRITE if self._backlog else 0
            self._selector.modify(self.socket, selectors.EVENT_READ | waiting, self.turn)


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class Client:
    """A process that may launch others: the program itself, or a child."""

    def __init__(self, user: str | None = None) -> None:
        self.line: Line
        self.user = user  # whom its children have to run as too; None is anybody
        self.children: dict[int, Child] = {}  # by the client's number for it


class Child(Client):
    """A process of the guardian, from the request for it until its owner was told of its end."""

    def __init__(self, owner: Client, number: int, launch: int, user: str | None) -> None:
        super().__init__(user)
        self.owner = owner
        self.number = number
        self.launch = launch  # the forkserver's number for it
        self.pid = 0  # not forked yet
        self.status: int | None = None  # from waitpid, once it is dead
        self.is_launched = False  # set up, and its owner was told
        self.failure = ""  # why it could not be set up
        self.has_failed = False  # and its owner was told
        self.held: list[int] = []  # signals that came before it was launched
        self.deadline = math.inf  # for being gone, once it is killed or dead

    def report(self, event: str, **facts: object) -> None:
        """Tell the owner what has become of this one."""
        self.owner.line.send({"event": event, "child": self.number, **facts})

    def fail(self, text: str) -> None:
        if not self.is_launched and not self.has_failed:
            self.has_failed = True
            self.report("failed", text=self.failure or text)


class Guardian:
    """Launches, signals and sweeps for its clients until the program is gone."""

    def __init__(self, control: socket.socket, program: int) -> None:
        # What starts the forkserver, and the first thing to tell it, come with the first packet.
        self._configuration: Message = json.loads(control.recv(PACKET_SIZE))
        self._selector = selectors.DefaultSelector()
        self._root = Client()
        self._root.line = Line(control, self._selector, lambda: self._serve(self._root))
        self._program = os.pidfd_open(program)
        self._selector.register(self._program, selectors.EVENT_READ, self._root.line.close)
        self._forkserver: Line | None = None
        self._forkserver_pid = 0
        self._forkserver_error = ""
        self._launching: dict[int, Child] = {}  # at the forkserver, by a number of ours
        self._launches = 0
        self._children: dict[int, Child] = {}  # by pid, until they are reported
        self._dying: list[Child] = []
        self._strangers: set[int] = set()  # that the last pass found
        self._survivors: set[int] = set()  # outlived SIGKILL; not waited for again
        self._is_sweeping = False

    def run(self) -> None:
        """Serve until the program is gone."""
        self._wake_for_deaths()
        while self._root.line.is_open:
            for key, _ in self._selector.select(self._time_left()):
                key.data()
            self._bury()
            if self._is_sweeping:
                self._sweep()
            self._give_up()

    def _wake_for_deaths(self) -> None:
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _, __: None)  # without a handler nothing would be written to it
        self._selector.register(woken, selectors.EVENT_READ, lambda: os.read(woken, 4096))

    # What clients ask for.

    def _serve(self, client: Client) -> None:
        for message, descriptors in client.line.receive():
            if is_request(message):
                REQUESTS[message["do"]](self, client, message, descriptors)
            else:
                close_all(descriptors)
                client.line.close()  # nothing of ours speaks like that
        if not client.line.is_open:
            self._kill_children(client)

    def _launch(self, client: Client, message: Message, descriptors: list[int]) -> None:
        try:
            made = self._admit(client, message, descriptors)
            forkserver = self._forkserver or self._start_forkserver()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            close_all(descriptors)
            client.line.send({"event": "failed", "child": message["child"], "text": error.strerror})
            return
        made.line = Line(ours, self._selector, lambda: self._serve(made))
        client.children[made.number] = self._launching[made.launch] = made
        settings = {**message["settings"], "user": made.user}
        forkserver.send({"launch": made.launch, "settings": settings}, [*descriptors, theirs.detach()])

    def _admit(self, client: Client, message: Message, descriptors: list[int]) -> Child:
        if len(descriptors) != 3:
            raise OSError(
                errno.EMFILE, "the guardian can't open more files; raise `ulimit -Hn` or start fewer processes"
            )
        if message["child"] in client.children:
            raise OSError(errno.EEXIST, f"there is a child {message['child']} already")
        user = message["settings"].get("user") or client.user
        if client.user not in (None, user):  # who gave up being root is not to get it back by way of a child
            raise PermissionError(errno.EPERM, f"a process of user {client.user!r} can't start one of user {user!r}")
        self._launches += 1
        return Child(client, message["child"], self._launches, user)

    def _signal(self, client: Client, message: Message, _: list[int]) -> None:
        target = client.children.get(message["child"])
        if target is None or target.status is not None:
            return  # it is gone, and the client is yet to hear it
        if target.is_launched:
            send(target.pid, message["number"])
        else:
            target.held.append(message["number"])

    def _kill_child(self, client: Client, message: Message, _: list[int]) -> None:
        if message["child"] in client.children:
            self._kill(client.children[message["child"]])

    def _kill_children(self, client: Client) -> None:
        for child in client.children.values():
            self._kill(child)

    def _kill(self, child: Child) -> None:
        """Kill, and have the rest swept; one that is not forked yet is killed when it is."""
        if child.pid and child.status is None:
            kill(child.pid)
        self._kill_children(child)
        self._await_end(child)

    def _await_end(self, child: Child) -> None:
        if child.deadline == math.inf:
            child.deadline = time.monotonic() + PATIENCE
            self._dying.append(child)

    # What the forkserver says. It may end at any time: the next launch starts another.

    def _start_forkserver(self) -> Line:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.set_inheritable(True)
        arguments = [*self._configuration["forkserver"], str(theirs.fileno())]
        with theirs:
            self._forkserver_pid = os.posix_spawn(arguments[0], arguments, os.environ)
        self._forkserver_error = ""
        self._forkserver = Line(ours, self._selector, self._hear_forkserver)
        self._forkserver.send(self._configuration["imports"])
        return self._forkserver

    def _hear_forkserver(self) -> None:
        if self._forkserver is not None:
            for message, _ in self._forkserver.receive():
                REPORTS[message.pop("event")](self, **message)

    def _broken(self, text: str) -> None:
        self._forkserver_error = text

    def _forked(self, launch: int, pid: int) -> None:
        child = self._launching.get(launch)
        if child is None:
            return  # it was given up; now it is a stranger
        child.pid = pid
        self._children[pid] = child
        if child.deadline < math.inf:
            kill(pid)

    def _launched(self, launch: int) -> None:
        child = self._launching.pop(launch, None)
        if child is None:
            return
        child.is_launched = True
        child.report("launched", pid=child.pid)
        for number in child.held:
            send(child.pid, number)

    def _failed(self, launch: int, text: str) -> None:
        child = self._launching.pop(launch, None)
        if child is None:
            return
        child.failure = text  # which is told at its end, unless it was not even forked
        if not child.pid:
            child.fail(text)
            self._forget(child)
            self._is_sweeping = True  # the child may be there all the same, if the process between was killed

    def _lose_forkserver(self, status: int) -> None:
        """Fail what it was about to launch, and have swept what it was forking when it ended."""
        assert self._forkserver is not None
        self._forkserver.close()
        self._forkserver, self._forkserver_pid = None, 0
        text = self._forkserver_error or f"the forkserver {in_words(status)} before it had started this"
        for child in list(self._launching.values()):
            child.fail(text)
            if not child.pid:
                self._forget(child)
            else:
                self._kill(child)
        self._is_sweeping = True

    # The dead.

    def _bury(self) -> bool:
        """Bury whoever is dead; tell whether a stranger was among them."""
        found_stranger = False
        try:
            while (pid := dead_child()) is not None:
                self._hear_forkserver()  # first, while the pid can't be another's: who was announced is no stranger
                child = self._children.get(pid)
                _, status = os.waitpid(pid, 0)
                self._survivors.discard(pid)
                if pid == self._forkserver_pid:
                    self._lose_forkserver(status)
                elif child is not None:
                    self._end(child, status)
                else:
                    found_stranger = True
        except ChildProcessError:
            pass  # all are buried
        return found_stranger

    def _end(self, child: Child, status: int) -> None:
        child.status = status
        child.fail(f"it {in_words(status)} while it was set up")
        child.line.close()
        self._kill_children(child)
        self._await_end(child)
        self._is_sweeping = True

    def _sweep(self) -> None:
        """Make a pass: kill every stranger; when there is none, who was dead before it is gone with all it had."""
        dead = [child for child in self._dying if child.status is not None]
        self._is_sweeping = False
        self._strangers = set(self._kill_strangers())
        # A stranger that was buried only now may have hidden a child of its own from the pass.
        if self._bury() or not self._strangers <= self._survivors:
            self._is_sweeping = True
        else:
            for child in dead:
                if not child.children:
                    self._report(child)

    def _kill_strangers(self) -> Iterator[int]:
        for pid in children():
            if not self._knows(pid):
                kill(pid)
                yield pid

    def _knows(self, pid: int) -> bool:
        if pid not in self._children and pid != self._forkserver_pid:
            self._hear_forkserver()
        return pid in self._children or pid == self._forkserver_pid

    def _give_up(self) -> None:
        """Once a time is up, report whom SIGKILL has not ended, and who can't be told from those it belongs to."""
        late = [child for child in self._dying if child.deadline < time.monotonic()]
        if any(not child.pid for child in late):
            kill(self._forkserver_pid)  # it hangs; its end fails all that it was to launch
        if any(child.pid for child in late):
            self._survivors |= self._strangers | {child.pid for child in late if child.status is None}
            for child in [child for child in self._dying if child.pid and (child in late or child.status is not None)]:
                self._report(child, self._strangers | ({child.pid} if child.status is None else set()))

    def _report(self, child: Child, survivors: Iterable[int] = ()) -> None:
        if not child.has_failed:
            child.report("exited", status=child.status, survivors=sorted(survivors))
        self._forget(child)
        self._is_sweeping |= child.owner in self._dying  # which may have waited for this

    def _forget(self, child: Child) -> None:
        child.line.close()
        child.owner.children.pop(child.number)
        self._launching.pop(child.launch, None)
        self._children.pop(child.pid, None)
        if child in self._dying:
            self._dying.remove(child)

    def _time_left(self) -> float | None:
        """Return how long there is nothing to do if nobody dies or asks for anything."""
        if self._is_sweeping:
            return PAUSE
        return max(0.0, min(child.deadline for child in self._dying) - time.monotonic()) if self._dying else None


SHAPES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "launch": {"child": is_number, "settings": is_settings},
    "signal": {"child": is_number, "number": is_signal},
    "kill": {"child": is_number},
}
REQUESTS: dict[str, Callable[[Guardian, Client, Message, list[int]], None]] = {
    "launch": Guardian._launch,  # noqa: SLF001
    "signal": Guardian._signal,  # noqa: SLF001
    "kill": Guardian._kill_child,  # noqa: SLF001
}
REPORTS: dict[str, Callable[..., None]] = {
    "broken": Guardian._broken,  # noqa: SLF001
    "forked": Guardian._forked,  # noqa: SLF001
    "launched": Guardian._launched,  # noqa: SLF001
    "failed": Guardian._failed,  # noqa: SLF001
}


def end_all() -> None:
    """Kill all there is until there is nothing left, or only what the kernel holds on to."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for pid in children():
            kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(PAUSE / 10)


def main() -> None:
    control, program = int(sys.argv[1]), int(sys.argv[2])
    # The end of the program is what ends this, and nothing else: who stops a whole service with SIGTERM, or a
    # terminal with Ctrl-C, means the program, and that stops its children in good order.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one for each child is needed here
    os.set_inheritable(control, False)
    guardian = Guardian(socket.socket(fileno=control), program)
    try:
        if os.getppid() == program:  # else it died before it could be watched, and its pid may be another's
            guardian.run()
    finally:
        end_all()


if __name__ == "__main__":
    main()
