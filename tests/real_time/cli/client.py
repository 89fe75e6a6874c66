"""A store, as a program that uses one reaches it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

import lightactors as la
from lightactors.training.patience import insist

T = TypeVar("T")

Clients: TypeAlias = Callable[[str], "Client"]


class Client:
    """Uses the store at an address, on a loop in a thread of its own."""

    def __init__(self, portal: BlockingPortal, address: str) -> None:
        self._portal = portal
        self._where = f"{address}{'#' if address.startswith('unix:') else '/'}store"

    def rewards(self, *tasks: object, **options: Any) -> list[float | None]:
        """Have tasks run; return what they were worth."""

        async def run(store: la.Store) -> list[float | None]:
            return [result.reward for result in await la.run_tasks(store, tasks, **options)]

        return self._use(run)

    def enqueue(self, *tasks: object) -> None:
        async def run(store: la.Store) -> None:
            for task in tasks:
                await store.enqueue_rollout(task)

        self._use(run)

    def statuses(self) -> list[str]:
        async def run(store: la.Store) -> list[str]:
            return [rollout.status for rollout in await store.query_rollouts()]

        return self._use(run)

    def wait_until_one_runs(self) -> None:
        async def run(store: la.Store) -> None:
            while not await store.query_rollouts(status_in=["running", "preparing"]):  # noqa: ASYNC110
                await anyio.sleep(0.02)

        self._use(run)

    def _use(self, run: Callable[[la.Store], Coroutine[Any, Any, T]]) -> T:
        async def use() -> T:
            with anyio.fail_after(30):
                async with _joined(self._where) as store:
                    return await run(store)

        return self._portal.call(use)


@asynccontextmanager
async def _joined(where: str) -> AsyncGenerator[la.Store]:
    """Reach a store, as soon as it is there."""
    async with la.open_system("test"):
        yield await insist(la.connect, la.Store, where)
