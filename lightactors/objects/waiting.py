"""Waiting for the owner without keeping the loop: for its answer, if it is slow, and for memory, if there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio.to_thread

from lightactors.errors import ObjectLost
from lightactors.objects.client import Client, Lease
from lightactors.objects.line import PATIENCE, Slow

T = TypeVar("T")

_ANSWERS_WITHIN = 10.0
"""Seconds after which an owner that does not answer is given up."""


async def patiently(act: Callable[[float], T], undo: Callable[[T], object] = lambda _: None) -> T:
    """Do what is answered in microseconds right here; if it is not, wait in a thread; `undo` what comes too late."""
    try:
        return act(PATIENCE)
    except Slow:
        pass
    try:
        return await _Errand(act, undo).within(_ANSWERS_WITHIN)
    except Slow:
        raise ObjectLost(
            f"the object store has not answered for {_ANSWERS_WITHIN:g} s; is its process stopped?"
        ) from None


class _Errand(Generic[T]):
    """What is done in a thread for who may be cancelled: its result is undone if nobody is there to have it."""

    def __init__(self, act: Callable[[float], T], undo: Callable[[T], object]) -> None:
        self._act = act
        self._undo = undo
        self._lock = threading.Lock()
        self._results: list[T] = []
        self._is_over = False

    async def within(self, seconds: float) -> T:
        try:
            await anyio.to_thread.run_sync(self._run, seconds, abandon_on_cancel=True)
            return self._results.pop()
        finally:
            self._end()

    def _run(self, seconds: float) -> None:
        result = self._act(seconds)
        with self._lock:
            self._results.append(result)
        if self._is_over:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            left, self._results = self._results, []
        for result in left:
            self._undo(result)


class Wait:
    """Waiting for memory, over a line of its own: what it gets and nobody wants any more, ends with that."""

    def __init__(self, client: Client, size: int) -> None:
        self._client = client
        self._size = size
        self._line = client.line("waiting")

    async def within(self, seconds: float) -> Lease | None:
        """Return the lease; None: there was none in time. Raises `Refused` and `ObjectLost`."""
        try:
            return await _Errand(self._wait, self._give_back).within(seconds)
        finally:
            self._line.hang_up()

    def _give_back(self, lease: Lease | None) -> None:
        if lease is not None:
            self._client.give_back(lease)

    def now(self, seconds: float) -> Lease | None:
        """Return the lease without leaving this thread."""
        try:
            return self._wait(seconds)
        finally:
            self._line.hang_up()

    def _wait(self, seconds: float) -> Lease | None:
        try:
            lease = self._line.lease(self._size, waits=True, patience=seconds)
            return lease if self._client.adopt(self._line, lease) else None  # else it went with the line: cancelled
        except Slow:
            return None
