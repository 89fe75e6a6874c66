"""What the task queue could have been: a ring in shared memory under a lock that processes share. Only measured.

As a careful implementer would: a robust mutex (who dies with it is noticed), condition variables to wait at, a slot
that is written before the index says so, one task at a time. Run as a program it is the other process.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from struct import Struct
from typing import IO, NamedTuple

SLOT = 64
SLOTS = 1024
CAPACITY = SLOTS - 1
_MUTEX, _NOT_EMPTY, _NOT_FULL, _INDEX, _SLOTS = 0, 64, 128, 192, 256
_SHARED = _ROBUST = 1

_libc = ctypes.CDLL(None)
_index = Struct("QQ")  # the next slot to be read, and to be written


class Ring:
    """Tasks of 64 bytes between processes that map the same memory."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _SLOTS + SLOTS * SLOT)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._mutex, self._not_empty, self._not_full = (
            ctypes.c_void_p(start + offset) for offset in (_MUTEX, _NOT_EMPTY, _NOT_FULL)
        )

    def prepare(self) -> None:
        """Make the lock; once, by whoever made the memory."""
        attributes = ctypes.create_string_buffer(64)
        _libc.pthread_mutexattr_init(attributes)
        _libc.pthread_mutexattr_setpshared(attributes, _SHARED)
        _libc.pthread_mutexattr_setrobust(attributes, _ROBUST)
        _libc.pthread_mutex_init(self._mutex, attributes)
        _libc.pthread_condattr_init(attributes)
        _libc.pthread_condattr_setpshared(attributes, _SHARED)
        _libc.pthread_cond_init(self._not_empty, attributes)
        _libc.pthread_cond_init(self._not_full, attributes)

    def lock(self) -> bool:
        """Take the lock; tell whether its last holder died with it."""
        if not (error := _libc.pthread_mutex_lock(self._mutex)):
            return False
        assert error == errno.EOWNERDEAD, error
        # All that can be done: nobody knows how far the dead one came.
        _libc.pthread_mutex_consistent(self._mutex)
        return True

    def unlock(self) -> None:
        _libc.pthread_mutex_unlock(self._mutex)

    def push(self, task: bytes) -> None:
        self.lock()
        try:
            while True:
                head, tail = _index.unpack_from(self._memory, _INDEX)
                if tail - head < CAPACITY:
                    break
                _libc.pthread_cond_wait(self._not_full, self._mutex)
            self.write(tail, task)
            _index.pack_into(self._memory, _INDEX, head, tail + 1)
            if tail == head:
                _libc.pthread_cond_signal(self._not_empty)
        finally:
            self.unlock()

    def pop(self) -> bytes:
        self.lock()
        try:
            while True:
                head, tail = _index.unpack_from(self._memory, _INDEX)
                if head < tail:
                    break
                _libc.pthread_cond_wait(self._not_empty, self._mutex)
            task = self.read(head)
            _index.pack_into(self._memory, _INDEX, head + 1, tail)
            if tail - head == CAPACITY:
                _libc.pthread_cond_signal(self._not_full)
            return task
        finally:
            self.unlock()

    def index(self) -> tuple[int, int]:
        head, tail = _index.unpack_from(self._memory, _INDEX)
        return head, tail

    def advance(self, heads: int, tails: int) -> None:
        head, tail = self.index()
        _index.pack_into(self._memory, _INDEX, head + heads, tail + tails)

    def write(self, number: int, task: bytes) -> None:
        start = _SLOTS + number % SLOTS * SLOT
        self._memory[start : start + SLOT] = task

    def read(self, number: int) -> bytes:
        start = _SLOTS + number % SLOTS * SLOT
        return self._memory[start : start + SLOT]


@contextmanager
def new_ring() -> Generator[tuple[Ring, int]]:
    """Give a ring and the descriptor of its memory."""
    descriptor = os.memfd_create("ring")
    try:
        os.ftruncate(descriptor, _SLOTS + SLOTS * SLOT)
        ring = Ring(descriptor)
        ring.prepare()
        yield ring, descriptor
    finally:
        os.close(descriptor)


@contextmanager
def other_process(role: str, descriptor: int) -> Generator[IO[bytes]]:
    """Run another process that has that role; give what it prints, once it is ready."""
    command = [sys.executable, "-m", __name__, role, str(descriptor)]
    with subprocess.Popen(command, pass_fds=[descriptor], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"ready\n"
            yield other.stdout
        finally:
            other.kill()


def task_of(number: int) -> bytes:
    """Return a task that shows whether it is whole."""
    return number.to_bytes(8) * (SLOT // 8)


def is_whole(task: bytes) -> bool:
    return task == task[:8] * (SLOT // 8)


_END = b"\xff" * SLOT


def per_second(count: int, rounds: int) -> float:
    """Return how many tasks per second go from this process to another one."""
    best = float("inf")
    with new_ring() as (ring, descriptor), other_process("drain", descriptor) as printed:
        task = task_of(7)
        for _ in range(rounds):
            start = time.perf_counter()
            for _ in range(count):
                ring.push(task)
            ring.push(_END)
            printed.readline()
            best = min(best, time.perf_counter() - start)
    return count / best


def drain(ring: Ring) -> None:
    _ready()
    while True:
        while ring.pop() != _END:
            pass
        print("drained", flush=True)


def _ready() -> None:
    print("ready", flush=True)


# Deaths. Each of these dies in its critical section, at a place where a crash, or the kernel, may end it.


def die_with_half_a_slot(ring: Ring) -> None:
    ring.lock()
    ring.advance(0, 1)
    ring.write(ring.index()[1] - 1, task_of(8)[: SLOT // 2] + bytes(SLOT // 2))
    _die(ring)


def die_before_the_index(ring: Ring) -> None:
    ring.lock()
    ring.write(ring.index()[1], task_of(8))
    _die(ring)


def die_with_a_task(ring: Ring) -> None:
    ring.lock()
    ring.advance(1, 0)
    _die(ring)


def _die(ring: Ring) -> None:
    _ready()
    time.sleep(0.02)  # until somebody waits for the lock
    ring.write(SLOTS - 1, time.perf_counter_ns().to_bytes(SLOT))
    os.kill(os.getpid(), signal.SIGKILL)


class AfterDeath(NamedTuple):
    """What the others find."""

    seconds: float  # from the holder's death until the lock is another's
    wanted: int  # tasks that were in the ring, or came in
    whole: int  # those that are there, as they were written


def after(role: str) -> AfterDeath:
    """Have another process die in that way, with one task in the ring; tell what is found."""
    with new_ring() as (ring, descriptor):
        ring.push(task_of(7))
        with other_process(role, descriptor):
            was_left = ring.lock()
            took = time.perf_counter_ns() - int.from_bytes(ring.read(SLOTS - 1))
            assert was_left
            head, tail = ring.index()
            found = [ring.read(number) for number in range(head, tail)]
            ring.unlock()
    wanted = 1 if role == "die_with_a_task" else 2
    return AfterDeath(took / 1e9, wanted, sum(map(is_whole, found)))


DEATHS = [die_with_half_a_slot, die_before_the_index, die_with_a_task]


def main() -> None:
    name, descriptor = sys.argv[1:]
    roles: dict[str, Callable[[Ring], None]] = {role.__name__: role for role in (drain, *DEATHS)}
    roles[name](Ring(int(descriptor)))


if __name__ == "__main__":
    main()
