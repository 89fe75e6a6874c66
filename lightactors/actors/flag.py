"""A flag that any thread may raise and any loop may wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import NamedTuple

from lightactors.actors import loops
from lightactors.actors.loops import Loop


class _Waiter(NamedTuple):
    wake: Callable[[], object]
    loop: Loop | None


class Flag:
    """Down at first; `set` raises it for good and wakes everybody who waits, on whatever loop or thread."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may raise the flag while the thread it interrupted is about to wait for it.
        self._lock = threading.RLock()
        self._is_set = False
        self._waiters: list[_Waiter] = []

    def set(self, *_: object) -> None:
        """Raise the flag; from any thread. Arguments are ignored, so that it fits as a callback."""
        self._raise(Loop.order)

    def set_from_signal(self) -> None:
        """Raise the flag; from anywhere, and from a signal handler too.

        That runs inside a loop, between any two of its instructions, and must wake even this loop from outside.
        """
        self._raise(Loop.post)

    def _raise(self, tell: Callable[[Loop, Callable[[], object]], object]) -> None:
        with self._lock:
            self._is_set = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.loop is None:
                waiter.wake()
            else:
                tell(waiter.loop, waiter.wake)

    def is_set(self) -> bool:
        return self._is_set

    async def wait(self) -> None:
        """Wait until the flag is raised."""
        here = loops.current()
        slot = here.slot()
        with self.waking(partial(slot.set, None), here):
            await slot

    def wait_in_thread(self, timeout: float | None) -> bool:
        """Block this thread until the flag is raised, `timeout` seconds at most; tell whether it is."""
        gate = threading.Lock()
        gate.acquire()
        with self.waking(partial(_open, gate), None):
            gate.acquire(timeout=-1 if timeout is None else timeout)
        return self._is_set

    @contextmanager
    def waking(self, wake: Callable[[], object], loop: Loop | None) -> Generator[None]:
        """Have `wake` called when the flag is raised, or at once if it is (then perhaps twice); not after the block.

        It is called in `loop`, where the caller must be; None: wherever the flag is raised.
        """
        waiter = _Waiter(wake, loop)
        with self._lock:
            # Entered before it is looked at: a signal handler may raise the flag in between.
            self._waiters.append(waiter)
            if self._is_set:
                wake()
        try:
            yield
        finally:
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'set' if self._is_set else 'not set'}>"


def _open(gate: threading.Lock) -> None:
    with suppress(RuntimeError):  # it is open already
        gate.release()
