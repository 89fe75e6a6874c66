"""The actors that many tests play with, and an ask that runs beside its test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

import lightactors as la
from lightactors.testing import Gate

T = TypeVar("T")


class Oops(Exception):
    """What actors here fail with."""


@la.actor
class Porter:
    """Keeps a log; holds, waits, counts and fails as it is told."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log: list[Any] = [] if log is None else log

    @la.handler
    def note(self, entry: object) -> int:
        self.log.append(entry)
        return len(self.log)

    @la.handler
    def read(self) -> list[Any]:
        return list(self.log)

    @la.handler
    async def note_slowly(self, entry: object) -> int:
        await anyio.sleep(1)
        self.log.append(entry)
        return len(self.log)

    @la.handler
    async def hold(self, gate: Gate) -> str:
        """Hold the mailbox until the gate is opened."""
        try:
            await gate.wait()
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise
        self.log.append("held")
        return "held"

    @la.handler(interleaved=True)
    async def stay(self, gate: Gate) -> str:
        """Wait beside the mailbox until the gate is opened."""
        try:
            await gate.wait()
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise
        return "stayed"

    @la.handler(interleaved=True)
    def wait(self, gate: Gate) -> la.Eventually[str]:
        """Answer at once if the gate is open, else when it opens."""
        self.log.append("asked to wait")
        return self._wait(gate)

    async def _wait(self, gate: Gate) -> str:
        try:
            await gate.wait()
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise
        return "waited"

    @la.handler
    async def shrug_off(self, gate: Gate) -> str:
        """React to being cancelled by going on."""
        try:
            await gate.wait()
        except anyio.get_cancelled_exc_class():
            pass
        self.log.append("shrugged")
        return "shrugged"

    @la.handler
    async def resist(self, gate: Gate) -> str:
        """React to being cancelled not at all."""
        with anyio.CancelScope(shield=True):
            await gate.wait()
        self.log.append("resisted")
        return "resisted"

    @la.handler
    def fail(self, error: Exception) -> None:
        raise error

    @la.handler
    async def fail_slowly(self, error: Exception) -> None:
        await anyio.sleep(1)
        raise error

    @la.handler
    async def count(self, end: int) -> AsyncIterator[int]:
        try:
            for number in range(end):
                self.log.append(number)
                yield number
        finally:
            self.log.append("closed")

    @la.handler
    async def count_through(self, gate: Gate, end: int) -> AsyncIterator[int]:
        try:
            for number in range(end):
                await gate.wait()
                yield number
        finally:
            self.log.append("closed")


@la.actor
class Stopper:
    """Writes into a log that outlives it when it stops."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def on_stop(self) -> None:
        await anyio.sleep(0.1)
        self.log.append(self.name)


class Later(Generic[T]):
    """An await that goes on beside the test: look at its `outcome`, or cancel it."""

    def __init__(self, tg: TaskGroup, function: Callable[..., Awaitable[T]], *args: Any) -> None:
        self.outcome: T | BaseException | str = "pending"
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        tg.start_soon(self._run, function, args)

    async def _run(self, function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        with self._scope:
            try:
                self.outcome = await function(*args)
            except Exception as error:
                self.outcome = error
        if self._scope.cancelled_caught:
            self.outcome = "cancelled"
        self._done.set()

    async def done(self) -> T | BaseException | str:
        await self._done.wait()
        return self.outcome

    async def cancel(self) -> None:
        self._scope.cancel()
        await self._done.wait()


async def gathered(stream: Callable[..., AsyncIterator[T]], *args: Any) -> list[T]:
    """Consume a stream to its end; return its items."""
    return [item async for item in stream(*args)]


async def settle() -> None:
    """Let everybody who can go on do so."""
    await anyio.wait_all_tasks_blocked()
