"""One runner's seat: in a process of its own, it joins the store for itself."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

import lightactors as la
from lightactors.address import Address
from lightactors.cli.access import STORE, Access
from lightactors.cli.exits import leaves
from lightactors.cli.targets import load_agent
from lightactors.errors import ActorNotRunning, ActorStopped
from lightactors.training.events import ExecutionEvent
from lightactors.training.patience import insist
from lightactors.training.runners.runner import Runner
from lightactors.training.stores.contract import Store

T = TypeVar("T")

logger = logging.getLogger("lightactors")

_PAUSE = 0.5
"""Seconds until a store that was stopped is looked for again."""


@la.actor
class Seat:
    """One runner, wherever it lives. It ends when it is stopped, or done."""

    def __init__(self, access: Access, agent: str, name: str, max_rollouts: int | None) -> None:
        self._access = access
        self._agent = load_agent(agent)
        self._name = name
        self._max_rollouts = max_rollouts
        self._end = ExecutionEvent()
        self._waiting = anyio.CancelScope()

    async def on_start(self) -> None:
        """Begin, without anybody waiting for the end: a failure is the seat's own."""
        await la.ref_of(self).work.tell()

    @la.handler(interleaved=True)
    async def work(self) -> None:
        """Run rollouts until there are to be no more."""
        while not await self._is_done():
            await self._until_ended(lambda: anyio.sleep(_PAUSE))
        await la.stop(la.ref_of(self))

    async def _is_done(self) -> bool:
        """Run the rollouts of one store; tell whether that was all: no, if only the store has ended."""
        try:
            store = await self._until_ended(lambda: insist(self._join))
            if store is not None:
                await self._run(store)
        except Exception as error:
            if not all(isinstance(one, (ActorStopped, ActorNotRunning)) for one in leaves(error)):
                raise
            logger.info("the store of %s was stopped: %s", self._name, error)
            return False
        return True

    async def _until_ended(self, function: Callable[[], Awaitable[T]]) -> T | None:
        """Call a function; None: the seat was stopped meanwhile."""
        with anyio.CancelScope() as self._waiting:
            if not self._end.is_set():
                return await function()
        return None

    async def _join(self) -> Store:
        where = Address.parse(self._access.address).at(STORE)
        store = await la.connect(Store, f"{where}", token=self._access.token(), tls=self._access.tls)
        await store.release_worker(self._name)  # what an incarnation before this one may have left behind
        return store

    async def _run(self, store: Store) -> None:
        runner = Runner(self._agent, store, worker_id=self._name, max_rollouts=self._max_rollouts)
        await runner.run(self._end)

    def on_drain(self) -> None:
        """End after the rollout that is under way."""
        self._end.set()
        self._waiting.cancel()
