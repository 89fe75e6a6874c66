"""Waiting for the owner without keeping the loop: for its answer, if it is slow, and for memory, if there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from lightactors.errors import ObjectLost
from lightactors.objects.client import Client, Lease
from lightactors.objects.line import PATIENCE, Slow

T = TypeVar("T")

_ANSWERS_WITHIN = 10.0
"""Seconds after which an owner that does not answer is given up."""

_AT_ONCE = 32
"""Waits for memory that have a line and a thread, on one loop; further ones wait for theirs."""

_places = RunVar[anyio.CapacityLimiter]("waits for memory")


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
            # A thread of its own: what lets go of memory may need one of those that others have.
            own = anyio.CapacityLimiter(1)
            await anyio.to_thread.run_sync(self._run, seconds, abandon_on_cancel=True, limiter=own)
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

    async def within(self, seconds: float) -> Lease | None:
        """Return the lease; None: there was none in time. Raises `Refused` and `ObjectLost`."""
        with anyio.move_on_after(seconds) as scope:
            async with _place():
                return await self._in_thread(scope.deadline - anyio.current_time())
        return None

    async def _in_thread(self, seconds: float) -> Lease | None:
        line = self._client.line("waiting")
        try:
            return await _Errand(partial(self._wait, line), self._give_back).within(seconds)
        finally:
            line.hang_up()

    def _give_back(self, lease: Lease | None) -> None:
        if lease is not None:
            self._client.give_back(lease)

    def now(self, seconds: float) -> Lease | None:
        """Return the lease without leaving this thread."""
        line = self._client.line("waiting")
        try:
            return self._wait(line, seconds)
        finally:
            line.hang_up()

    def _wait(self, line: Client, seconds: float) -> Lease | None:
        try:
            lease = line.lease(self._size, waits=True, patience=seconds)
            return lease if self._client.adopt(line, lease) else None  # else it went with the line: cancelled
        except Slow:
            return None


def _place() -> anyio.CapacityLimiter:
    try:
        return _places.get()
    except LookupError:
        _places.set(anyio.CapacityLimiter(_AT_ONCE))
        return _places.get()
