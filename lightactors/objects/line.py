"""A process's line to the owner of a store: what is told needs no answer, what is asked is answered in some 25 µs.

That is less than to wait for it in any other way would cost: an owner that does not answer in time is waited for in a
thread (see `waiting`). Everything here is synchronous, may be called from any thread, and what tells, while garbage
is collected.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import itertools
import json
import os
import secrets
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from lightactors.errors import ObjectError, ObjectLost
from lightactors.objects.memory import user_of
from lightactors.objects.records import PACKET, PROTOCOL, RECORD, SOME, Op, Status

PATIENCE = 0.02
"""Seconds that a loop may be kept by an owner that does not answer."""

SYNC = 1.0
"""Seconds that a process is kept by one at most, where it can't wait in another way."""


_LONGEST = 2**31 - 1
"""Milliseconds that the system waits at most: 24 days."""


class Slow(Exception):
    """The owner has not answered in time; what it was asked is undone when it does."""


@dataclass
class Answer:
    status: Status
    a: int = 0
    b: int = 0
    c: int = 0
    descriptors: list[int] = field(default_factory=list)


def _drop(late: Answer) -> None:
    for descriptor in late.descriptors:
        os.close(descriptor)


def descriptor_of(answer: Answer) -> int:
    """Return the descriptor that has come with an answer; raise OSError if there was none free for it here."""
    if not answer.descriptors:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return answer.descriptors[0]


class Line:
    """One process's line to one store."""

    def __init__(self, name: str, label: str, *, fork_of: int = 0) -> None:
        """Connect; raises `ObjectLost` if there is no such store, or not of this user."""
        self.name = name
        self.label = label
        self.number = secrets.randbelow(SOME) + 1
        self.error: str | None = None  # why it has ended
        self._socket = _connected(name)
        self._lock = threading.RLock()
        self._flushing = threading.Lock()
        self._helping = threading.Lock()
        self._backlog: deque[bytes] = deque()
        self._late: dict[int, Callable[[Answer], object]] = {}  # what is done about an answer that comes too late
        self._serials = itertools.count()
        self._is_in = False  # whether the owner's greeting was heard
        facts = {"client": self.number, "protocol": PROTOCOL, "pid": os.getpid(), "label": label, "fork_of": fork_of}
        self._tell(json.dumps(facts).encode())

    # Telling

    def tell(self, op: Op, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> None:
        """Say what has happened. Never waits, nor raises: it is also called while garbage is collected."""
        self._tell(RECORD.pack(op, 0, a, b, c, d))

    def _tell(self, packet: bytes) -> None:
        if self.error is not None:
            return
        if not self._backlog:
            try:
                self._socket.send(packet)
                return
            except BlockingIOError:
                pass
            except OSError as error:
                self._lose(error)
                return
        self._backlog.append(packet)
        self._have_flushed()

    def _flush(self) -> None:
        if not self._flushing.acquire(blocking=False):
            return
        try:
            while self._backlog:
                packets = self._next_packets()
                self._socket.send(b"".join(packets))
                for _ in packets:
                    self._backlog.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(error)
        finally:
            self._flushing.release()

    def _next_packets(self) -> list[bytes]:
        """Return what goes as one: the socket holds fewer packets than bytes."""
        packets: list[bytes] = []
        size = 0
        for place in range(len(self._backlog)):  # not an iterator, for others append
            size += len(self._backlog[place])
            if packets and size > PACKET:
                break
            packets.append(self._backlog[place])
        return packets

    def _have_flushed(self) -> None:
        """Have a thread send what the socket does not take now; without it that would wait for the next to be told."""
        if self._helping.acquire(blocking=False):
            try:
                # Not `threading.Thread`, whose lock this thread may have while garbage is collected.
                _thread.start_new_thread(self._keep_flushing, ())
            except RuntimeError:  # the interpreter ends, and with it the line
                self._helping.release()

    def _keep_flushing(self) -> None:
        try:
            while self._backlog and self.error is None:
                with contextlib.suppress(Slow, ObjectLost):
                    self._wait(select.POLLOUT, time.monotonic() + 1.0)
                    self._flush()
        finally:
            self._helping.release()
        if self._backlog and self.error is None:  # since this thread has looked
            self._have_flushed()

    def catch_up(self, patience: float) -> None:
        """Wait until all that was told has left for the owner. Raises `Slow` and `ObjectLost`."""
        deadline = time.monotonic() + patience
        while self._backlog:
            self._wait(select.POLLOUT, deadline)
            self._flush()

    def _lose(self, error: OSError | str) -> None:
        if self.error is None:
            self.error = str(error)

    def close(self, why: str = "the line is closed") -> None:
        """End the line: what this process holds is let go of, its views stay as they are while they last."""
        self._lose(why)
        self._socket.close()

    def is_alive(self) -> bool:
        """Tell whether the owner is still there, also if nobody has noticed yet."""
        self.tell(Op.GIVE_UP, 0, 0)  # says nothing, and fails at the end of a line
        return self.error is None

    # Asking

    def ask(
        self, op: Op, a: int = 0, b: int = 0, c: int = 0, d: int = 0, *, patience: float = PATIENCE,
        undo: Callable[[Answer], object] = _drop,
    ) -> Answer:  # fmt: skip
        """Ask the owner. Raises `Slow`, after which `undo` is called with a late answer, and `ObjectLost`."""
        deadline = time.monotonic() + patience
        if not self._lock.acquire(timeout=min(patience, threading.TIMEOUT_MAX)):
            raise Slow
        try:
            if not self._is_in:
                self._enter(deadline)
            serial = next(self._serials) % 0xFFFFFFFF + 1  # never 0, which nobody answers
            self._late[serial] = undo
            self._tell(RECORD.pack(op, serial, a, b, c, d))
            self.catch_up(deadline - time.monotonic())
            while True:
                answered, answer = self._receive(deadline)
                late = self._late.pop(answered)
                if answered == serial:
                    return answer
                late(answer)
        finally:
            self._lock.release()

    def _receive(self, deadline: float) -> tuple[int, Answer]:
        packet, descriptors = self._packet(deadline)
        _, serial, status, a, b, c = RECORD.unpack(packet)
        return serial, Answer(Status(status), a, b, c, descriptors)

    def _packet(self, deadline: float) -> tuple[bytes, list[int]]:
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._socket, PACKET, 4)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except OSError as error:
                self._lose(error)
                raise self.lost() from None
            if not packet:
                self._lose("its process has ended")
                raise self.lost()
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            return packet, descriptors

    def _wait(self, event: int, deadline: float) -> None:
        if self.error is not None:
            raise self.lost()
        poll = select.poll()
        try:
            poll.register(self._socket, event)
        except ValueError:  # another thread has closed it since
            raise self.lost() from None
        if not poll.poll(min(max(0.0, deadline - time.monotonic()) * 1000, _LONGEST)):
            raise Slow

    def lost(self) -> ObjectLost:
        """Return the error that says why nothing can be had from this store."""
        return ObjectLost(f"object store {self.name} can't be reached ({self.error}): what it held is lost")

    def detach(self) -> socket.socket:
        """Give the socket away."""
        return self._socket

    def hang_up(self) -> None:
        """End the line also for a thread that waits for an answer."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def _enter(self, deadline: float) -> None:
        """Hear the owner's greeting."""
        packet, descriptors = self._packet(deadline)
        facts = json.loads(packet)
        if "error" in facts:
            self._lose(facts["error"])
            raise ObjectError(f"object store {self.name} refuses this process: {facts['error']}")
        if not descriptors:
            self._lose(os.strerror(errno.EMFILE))
            raise self.lost()
        self._is_in = True
        self.greeted(descriptors[0], facts["capacity"])

    def greeted(self, memory: int, capacity: int) -> None:
        """Get the descriptor of the arena, which is the line's from now on."""
        os.close(memory)

    def restart(self, twin: Line | None) -> None:
        """Go on, in a fork, over the line that was opened for it; None: there is none."""
        self._lock, self._flushing, self._helping = threading.RLock(), threading.Lock(), threading.Lock()
        self._backlog.clear()
        self._late.clear()
        self._socket.close()
        if twin is None:
            self._lose("this is a fork of the process that had it")
        else:
            self._socket, self.number = twin.detach(), twin.number
            self._is_in = False


def _connected(name: str) -> socket.socket:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.setblocking(False)
    try:
        end.connect(f"\0{name}")
        if user_of(end) not in (os.getuid(), 0):
            raise OSError(errno.EACCES, "it is another user's")
    except OSError as error:
        end.close()
        raise ObjectLost(f"object store {name} can't be reached from here ({error.strerror})") from None
    return end
