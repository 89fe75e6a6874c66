"""How a worker works through a queue: it joins, claims, finishes and leaves, whatever happens to it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio

from lightactors.actors import owner as owners
from lightactors.actors.cell import Cell
from lightactors.errors import ConfigurationError, NotJoined, SendError, check_whole
from lightactors.scheduling.queue import TaskQueue
from lightactors.scheduling.records import Claim

T = TypeVar("T")

logger = logging.getLogger("lightactors")

_GRACE = 2.0
"""Seconds that leaving may take."""


@asynccontextmanager
async def tasks_of(
    queue: TaskQueue[T], *, worker: str | None = None, at_once: int = 1
) -> AsyncGenerator[AsyncIterator[T]]:
    """Work through a queue: `async with la.tasks_of(queue) as tasks: async for task in tasks: ...`.

    A task is finished when the next one is asked for. Leaving the block, by a `break`, an error or a cancellation,
    gives back the task under way and those not begun; the end of the actor that this runs in does too, however it
    comes. Without one, `worker` needs a name, and what it holds is given back only when the block is left.

    `at_once` claims several in one message, as far as they are ready: faster for short tasks, but they wait for
    this worker alone, are reported together, and are all done again when it is lost.
    """
    check_whole("at_once", at_once)
    here = owners.here()
    actor = here if isinstance(here, Cell) else None
    if actor is None and worker is None:
        raise ConfigurationError("tasks_of() outside an actor needs a name: pass worker=")
    tasks = _Tasks(queue, worker or str(actor and actor.path), None if actor is None else actor.ref, at_once)
    await tasks.join()
    try:
        yield tasks
    finally:
        await tasks.leave()


class _Tasks(Generic[T]):
    """The tasks that one worker claims, one after the other."""

    def __init__(self, queue: TaskQueue[T], worker: str, ref: object, at_once: int) -> None:
        self._queue = queue
        self._worker = worker
        self._ref = ref
        self._at_once = at_once
        self._claims: list[Claim[T]] = []  # not begun yet; the next one is the last
        self._under_way: int | None = None
        self._finished: list[int] = []

    async def join(self) -> None:
        await self._queue.join(self._worker, self._ref)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._under_way is not None:
            self._finished.append(self._under_way)
            self._under_way = None
        if not self._claims:
            self._claims = (await self._claim())[::-1]
        if not self._claims:
            raise StopAsyncIteration
        claim = self._claims.pop()
        self._under_way = claim.number
        return claim.task

    async def _claim(self) -> list[Claim[T]]:
        try:
            claims = await self._queue.claim(self._worker, self._at_once, self._finished)
        except NotJoined:
            # The link was lost and made again: the queue took us for gone, and has given to others what we had.
            await self.join()
            claims = await self._queue.claim(self._worker, self._at_once)
        self._finished = []
        return claims

    async def leave(self) -> None:
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _GRACE) as scope:
            try:
                await self._queue.leave(self._worker, self._finished)
            except SendError as error:
                logger.info("worker %s did not leave its queue, which is gone or out of reach: %s", self._worker, error)
        if scope.cancelled_caught:
            logger.error("worker %s could not leave its queue within %s s", self._worker, _GRACE)
