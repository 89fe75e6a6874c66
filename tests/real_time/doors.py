"""The doors to a store in a file, on a server or in memory, and the model's machine behind one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from anyio.from_thread import start_blocking_portal

import lightactors as la
from lightactors.training.stores.contract import Store
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.sql import DurableStore
from tests.training.stores.test_store_model import Door, MailboxDoor, StoreMachine

OpenStore = Callable[[str], AbstractAsyncContextManager[Store]]
"""Opens the store at a URL."""


@asynccontextmanager
async def direct(url: str, **options: Any) -> AsyncGenerator[Store]:
    """Give the store itself."""
    store: Any = open_store(url, **options)
    try:
        yield store
    finally:
        store.close()


@asynccontextmanager
async def in_use(url: str, **options: Any) -> AsyncGenerator[Store]:
    """Give the store itself, which has its connections already."""
    async with direct(url, **options) as store:
        await store.statistics()
        yield store


@asynccontextmanager
async def mailbox(url: str) -> AsyncGenerator[Store]:
    """Give a ref of the store."""
    async with la.open_system():
        yield await la.spawn(DurableStore, url)


def linked(url: str) -> AbstractAsyncContextManager[Store]:
    """Give a ref of the store from another system."""
    return served(DurableStore, url)


@asynccontextmanager
async def served(store: Callable[..., Store], *arguments: str) -> AsyncGenerator[Store]:
    """Serve a store in one system and reach it from another one."""
    done = anyio.Event()
    with TemporaryDirectory() as folder:
        address = f"unix:{folder}/socket"

        async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with la.open_system("server", listen=address) as system:
                await system.options(name="store").spawn(store, *arguments)
                task_status.started()
                await done.wait()

        async with anyio.create_task_group() as tasks:
            await tasks.start(serve)
            async with la.open_system("client"):
                yield await la.connect(Store, f"{address}#store")
            done.set()


@contextmanager
def in_a_file() -> Generator[str]:
    """Give the URL of a store in a new file."""
    with TemporaryDirectory() as folder:
        yield f"{folder}/run.db"


class DurableMachine(StoreMachine):
    """The calls of the model's machine, made to a durable store; time moves as the model's."""

    backend = "asyncio"

    def open(self) -> Door:
        self.portal = self.stack.enter_context(start_blocking_portal(self.backend))
        store: Any = open_store(self.new_url(), clock=lambda: self.model.now, now=lambda: self.model.now)
        self.stack.callback(store.close)
        self.durable = store
        return MailboxDoor(self.portal, store)

    def new_url(self) -> str:
        """Return the URL of an empty store."""
        return self.stack.enter_context(in_a_file())

    def pass_time(self) -> None:
        self.portal.call(self.durable.expire)

    def both(self, modelled: Callable[[], Any], method: str, /, *args: Any, **kwargs: Any) -> Any:
        answer = super().both(modelled, method, *args, **kwargs)
        # It may have revived what is overdue, which the store's own thread ends, before the next look or after it.
        self.pass_time()
        self.model.expire()
        return answer
