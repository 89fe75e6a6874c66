"""The event that asks an execution to stop: set once, seen everywhere within a millisecond."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Any

import anyio

from lightactors.actors import Flag, loops


class ExecutionEvent:
    """A stop event that bundles may poll, block on from a thread, or await on any loop: `await event`."""

    def __init__(self) -> None:
        self._flag = Flag()

    def set(self) -> None:
        """Ask for the stop; from any thread or signal handler, as often as you like."""
        self._flag.set_from_signal()

    def clear(self) -> None:
        """Take the request back, for those who have not seen it yet."""
        if self._flag.is_set():
            self._flag = Flag()

    def is_set(self) -> bool:
        return self._flag.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until the event is set, `timeout` seconds at most; tell whether it is."""
        return self._flag.wait_in_thread(timeout)

    def passed_on(self, to: ExecutionEvent) -> AbstractContextManager[None]:
        """During the block, have another event set when this one is."""
        return self._flag.waking(to.set, None)

    def cancelling(self, scope: anyio.CancelScope) -> AbstractContextManager[None]:
        """During the block, have a scope of this loop cancelled when the event is set."""
        return self._flag.waking(scope.cancel, loops.current())

    def __await__(self) -> Generator[Any, Any, None]:
        return self._flag.wait().__await__()

    def __repr__(self) -> str:
        return f"<ExecutionEvent {'set' if self.is_set() else 'not set'}>"
