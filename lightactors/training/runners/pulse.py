"""The pulse of a runner: heartbeats on their own clock, whatever the agent is doing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager

import anyio

from lightactors.actors import loops
from lightactors.errors import ConnectFailed, SendError, StoreError
from lightactors.training.patience import insist
from lightactors.training.runners.execution import Execution
from lightactors.training.stores.contract import Store

logger = logging.getLogger("lightactors")

_BEATS = 3
"""Heartbeats in the time after which the store takes an attempt for unresponsive."""


_GOODBYE = 1.0
"""Seconds that the last heartbeat may take."""


class Pulse:
    """Tells the store, every `interval` seconds, that a worker and its attempts are alive.

    An attempt's unsent spans are sent with it, and at once where a batch of them waits. From the first rollout
    on whose `unresponsive_seconds` ask for it, it beats faster.
    """

    def __init__(
        self, store: Store, worker_id: str, interval: float, statistics: Callable[[], Mapping[str, object]]
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._interval = interval
        self._statistics = statistics
        self._loop = loops.current()
        self._due = -math.inf
        self._sleeping = anyio.CancelScope()
        self._is_hurried = False
        self._executions: set[Execution] = set()

    @contextmanager
    def keeping(self, execution: Execution) -> Generator[None]:
        """Keep an attempt alive for the block."""
        self._executions.add(execution)
        execution.trace.when_full = self._hurry_from_afar
        self._quicken(execution.rollout.config.unresponsive_seconds)
        try:
            yield
        finally:
            self._executions.discard(execution)

    def _quicken(self, patience: float | None) -> None:
        if patience is not None and patience / _BEATS < self._interval:
            self._interval = patience / _BEATS
            self._due = min(self._due, anyio.current_time() + self._interval)
            self._sleeping.deadline = self._due

    def _hurry_from_afar(self) -> None:
        self._loop.post(self._hurry)

    def _hurry(self) -> None:
        self._is_hurried = True
        self._sleeping.cancel()

    async def announce(self) -> None:
        """Beat for the first time, before anything is claimed: who sees the worker's process end can then name it."""
        self._due = anyio.current_time() + self._interval
        await self._beat()

    async def say_goodbye(self) -> None:
        """Beat for the last time, with the final counts, if the store is still there to hear it."""
        with anyio.move_on_after(_GOODBYE):
            try:
                await self._store.update_worker(self._worker_id, self._statistics())
            except (StoreError, SendError, ConnectFailed) as error:
                logger.debug("the store did not hear the last heartbeat of worker %s: %s", self._worker_id, error)

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await self._sleep()
            for execution in list(self._executions):
                await execution.beat()
            if anyio.current_time() >= self._due:
                self._due = anyio.current_time() + self._interval
                await self._beat()

    async def _sleep(self) -> None:
        with anyio.CancelScope(deadline=self._due) as self._sleeping:
            if not self._is_hurried:
                await anyio.sleep_forever()
        self._is_hurried = False

    async def _beat(self) -> None:
        try:
            await insist(self._store.update_worker, self._worker_id, self._statistics())
        except StoreError as error:
            logger.error("the store refused the heartbeat of worker %s: %s", self._worker_id, error)
