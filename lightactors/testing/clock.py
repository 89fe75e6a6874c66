"""A virtual clock for both loops: where a loop would sleep until its next timer, time jumps there.

An hour of timers takes milliseconds, and each fires at its exact second. Sockets, threads and other
processes stay real: whatever they post wakes the loop at once. But the clock can't know that they are
still busy. One that takes longer than `idle` real seconds finds the time gone by; such a test wants
the real clock, or a larger `idle`.
"""

from __future__ import annotations

import asyncio
import selectors
from functools import partial
from typing import Any, Literal

IDLE = 0.005
"""Real seconds in which nothing came from outside before the clock may jump."""


def virtual_backend(name: Literal["asyncio", "trio"], *, idle: float = IDLE) -> tuple[str, dict[str, Any]]:
    """Return what anyio calls a backend with its options: a fresh clock, which starts at 0.

    It is the value of an `anyio_backend` fixture, or of `anyio.run()`'s `backend` and `backend_options`.
    `idle=0` jumps without waiting, for tests in which nothing comes from outside the loop.
    """
    if name == "trio":
        from trio.testing import MockClock  # here, because trio is optional

        return name, {"clock": MockClock(autojump_threshold=idle)}
    return name, {"loop_factory": partial(VirtualClockLoop, idle)}


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose time stands still while it works and jumps while it would sleep."""

    def __init__(self, idle: float = IDLE) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self, idle))

    def time(self) -> float:
        return self._now

    def jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that moves its loop's clock where it would have slept."""

    def __init__(self, loop: VirtualClockLoop, idle: float) -> None:
        super().__init__()
        self._loop = loop
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not timeout:  # None: no timer is set, only the outside can wake the loop; 0: it has work to do
            return super().select(timeout)
        events = super().select(min(self._idle, timeout))
        if not events:
            self._loop.jump(timeout)
        return events
