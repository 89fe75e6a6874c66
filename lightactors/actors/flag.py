"""A flag that any thread may raise and any loop may wait for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lightactors.actors import loops

if TYPE_CHECKING:
    from lightactors.actors.loops import Loop, Slot


class Flag:
    """Down at first; `set` raises it for good and wakes everybody who waits, on whatever loop or thread."""

    def __init__(self) -> None:
        # Reentrant: a signal handler may raise the flag while the thread it interrupted is about to wait for it.
        self._lock = threading.RLock()
        self._is_set = False
        self._waiters: list[tuple[Loop, Slot]] = []

    def set(self, *_: object) -> None:
        """Raise the flag; from any thread. Arguments are ignored, so that it fits as a callback."""
        with self._lock:
            self._is_set = True
            waiters, self._waiters = self._waiters, []
        for loop, slot in waiters:
            loop.post(slot.set, None)

    def is_set(self) -> bool:
        return self._is_set

    async def wait(self) -> None:
        """Wait until the flag is raised."""
        here = loops.current()
        waiter = here, here.slot()
        with self._lock:
            if self._is_set:
                return
            self._waiters.append(waiter)
        try:
            await waiter[1]
        finally:
            with self._lock:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'set' if self._is_set else 'not set'}>"
