"""The monitor: a thread that notices when a loop stops turning, and names the handler that keeps it.

It looks from outside: a few times per second it asks the loop for a sign of life, while a system is open.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from lightactors.actors.cell import Cell
from lightactors.actors.stopping import frame_of, readable_stack

if TYPE_CHECKING:
    from lightactors.actors.loops import Loop

logger = logging.getLogger("lightactors")


@dataclass(eq=False)
class _Watched:
    loop: Loop
    blocked_after: float
    answered: float = field(default_factory=time.monotonic)
    asked: bool = False
    reported: bool = False

    def answer(self) -> None:
        self.answered = time.monotonic()
        self.asked = self.reported = False

    def look(self) -> None:
        """Ask the loop for a sign of life; report it once if the last one is too old."""
        if not self.asked:
            self.asked = True
            self.answered = time.monotonic()
            self.loop.post(self.answer)
        elif not self.reported and time.monotonic() - self.answered > self.blocked_after:
            self.reported = True
            _report(self.loop, self.blocked_after)


_LONGEST = 0.25
"""Seconds that the monitor sleeps at most."""


class _Monitor:
    """The one thread, which runs while there is a loop to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: list[_Watched] = []
        self._over = threading.Event()  # each thread has its own
        self._thread: threading.Thread | None = None

    def add(self, watched: _Watched) -> None:
        with self._lock:
            self._watched.append(watched)
            if self._thread is None:
                over = self._over = threading.Event()
                self._thread = threading.Thread(target=self._run, args=(over,), name="lightactors monitor", daemon=True)
                self._thread.start()

    def remove(self, watched: _Watched) -> None:
        with self._lock:
            self._watched.remove(watched)
            if self._watched or self._thread is None:
                return
            # Whoever comes now gets a thread of his own, and this one need not be waited for twice.
            thread, self._thread = self._thread, None
            self._over.set()
        thread.join()

    def _run(self, over: threading.Event) -> None:
        interval = 0.0
        while not over.wait(interval):
            with self._lock:
                watched = list(self._watched)
            for one in watched:
                one.look()
            # Never long: a loop may come that has to be looked at sooner.
            interval = min((one.blocked_after / 4 for one in watched), default=0.0)
            interval = min(interval, _LONGEST)


_monitor = _Monitor()


@contextmanager
def watching(loop: Loop, blocked_after: float) -> Generator[None]:
    """Watch a loop during the block."""
    if math.isinf(blocked_after):
        yield
        return
    watched = _Watched(loop, blocked_after)
    _monitor.add(watched)
    try:
        yield
    finally:
        _monitor.remove(watched)


def _report(loop: Loop, blocked_after: float) -> None:
    frame = frame_of(loop.ident)
    if frame is None:
        return
    culprit = _culprit(frame)  # before the sources are read: meanwhile the handler may have returned
    stack = readable_stack(traceback.extract_stack(frame))
    logger.warning(
        "%s has kept its event loop from turning for %s s; let it await, or give it place='thread'. It is at:\n%s",
        culprit,
        blocked_after,
        stack,
    )


def _culprit(frame: FrameType | None) -> str:
    """Name the actor whose handler the innermost of our frames runs."""
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Cell):
            return f"actor {owner.path}"
        cell = frame.f_locals.get("cell")
        if isinstance(cell, Cell) and "_function" in frame.f_code.co_names:
            return f"actor {cell.path}"
        frame = frame.f_back
    return "code outside any actor"
