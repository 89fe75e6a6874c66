"""The durable store keeps every rule that the one in memory keeps, through every door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

import lightactors as la
from lightactors.testing.store import CHECKS, Check, check_rule
from lightactors.training.stores.contract import Store
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.sql import DurableStore
from tests.real_time.marks import chiefly_on
from tests.training.stores.test_store_model import Door, MailboxDoor, StoreMachine, on, run

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def direct() -> AsyncIterator[Store]:
    with TemporaryDirectory() as folder:
        store: Any = open_store(f"{folder}/run.db")
        try:
            yield store
        finally:
            store.close()


@asynccontextmanager
async def mailbox() -> AsyncIterator[Store]:
    with TemporaryDirectory() as folder:
        async with la.open_system():
            yield await la.spawn(DurableStore, f"{folder}/run.db")


@asynccontextmanager
async def linked() -> AsyncIterator[Store]:
    with TemporaryDirectory() as folder:
        address = f"unix:{folder}/socket"
        done = anyio.Event()

        async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with la.open_system("server", listen=address) as system:
                await system.options(name="store").spawn(DurableStore, f"{folder}/run.db")
                task_status.started()
                await done.wait()

        async with anyio.create_task_group() as tasks:
            await tasks.start(serve)
            async with la.open_system("client"):
                yield await la.connect(Store, f"{address}#store")
            done.set()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_file_keeps_the_rule(check: Check) -> None:
    await check_rule(check, direct)


@chiefly_on("asyncio")
@pytest.mark.parametrize("door", [mailbox, linked], ids=lambda door: door.__name__)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_file_keeps_the_rule_for_those_who_have_a_ref(check: Check, door: OpenStore) -> None:
    await check_rule(check, door)


class SqliteMachine(StoreMachine):
    """The calls of the model's machine, made to a store in a file; time moves as the model's."""

    backend = "asyncio"

    def open(self) -> Door:
        folder = self.stack.enter_context(TemporaryDirectory())
        self.portal = self.stack.enter_context(start_blocking_portal(self.backend))
        store: Any = open_store(f"{folder}/run.db", clock=lambda: self.model.now, now=lambda: self.model.now)
        self.stack.callback(store.close)
        self.durable = store
        return MailboxDoor(self.portal, store)

    def pass_time(self) -> None:
        self.portal.call(self.durable.expire)


def test_file_does_what_the_model_does(anyio_backend_name: str) -> None:
    run(on(SqliteMachine, anyio_backend_name), examples=15, steps=30)


@pytest.mark.stress
@pytest.mark.timeout(1_800)
def test_file_does_what_the_model_does_for_long(anyio_backend_name: str) -> None:
    run(on(SqliteMachine, anyio_backend_name), examples=300, steps=50)
