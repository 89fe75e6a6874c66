"""A flag that any thread may raise and any loop may wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial

from lightactors.actors import loops


class Flag:
    """Down at first; `set` raises it for good and wakes everybody who waits, on whatever loop or thread."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may raise the flag while the thread it interrupted is about to wait for it.
        self._lock = threading.RLock()
        self._is_set = False
        self._waiters: list[Callable[[], object]] = []

    def set(self, *_: object) -> None:
        """Raise the flag; from any thread. Arguments are ignored, so that it fits as a callback."""
        with self._lock:
            self._is_set = True
            waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def is_set(self) -> bool:
        return self._is_set

    async def wait(self) -> None:
        """Wait until the flag is raised."""
        here = loops.current()
        slot = here.slot()
        with self._waking(partial(here.order, slot.set, None)):
            await slot

    def wait_in_thread(self, timeout: float | None) -> bool:
        """Block this thread until the flag is raised, `timeout` seconds at most; tell whether it is."""
        gate = threading.Lock()
        gate.acquire()
        with self._waking(gate.release):
            gate.acquire(timeout=-1 if timeout is None else timeout)
        return self._is_set

    @contextmanager
    def _waking(self, wake: Callable[[], object]) -> Generator[None]:
        """Have `wake` called when the flag is raised, or at once if it is; not after the block."""
        with self._lock:
            if self._is_set:
                wake()
            else:
                self._waiters.append(wake)
        try:
            yield
        finally:
            with self._lock:
                if wake in self._waiters:
                    self._waiters.remove(wake)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'set' if self._is_set else 'not set'}>"
