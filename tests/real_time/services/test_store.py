"""The store keeps its rules through its typed service too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from anyio.from_thread import start_blocking_portal

import lightactors as la
from lightactors.testing.store import CHECKS, Check, check_rule
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from tests.real_time.marks import chiefly_on
from tests.real_time.services.callers import TypedStore
from tests.training.stores.test_store_model import Door, MailboxMachine, on, run


@asynccontextmanager
async def typed() -> AsyncIterator[Store]:
    async with la.open_system(listen="grpc://127.0.0.1:0") as system:
        store = await la.spawn(MemoryStore)
        assert await la.serve(store) == "lightactors.v1.Store"
        yield cast("Store", TypedStore(system.addresses[0]))


@chiefly_on("asyncio")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_store_keeps_the_rule_through_its_service(check: Check) -> None:
    await check_rule(check, typed)


class TypedMachine(MailboxMachine):
    """The calls of the model's machine, made through the typed service."""

    def open(self) -> Door:
        portal = self.stack.enter_context(start_blocking_portal(self.backend))
        store = self.stack.enter_context(portal.wrap_async_context_manager(typed()))
        return cast("TypedStore", store)


def test_store_does_what_the_model_does_through_its_service(anyio_backend_name: str) -> None:
    run(on(TypedMachine, anyio_backend_name), examples=4, steps=20)


@pytest.mark.stress
@pytest.mark.timeout(1_800)
def test_store_does_what_the_model_does_through_its_service_for_long(anyio_backend_name: str) -> None:
    run(on(TypedMachine, anyio_backend_name), examples=60, steps=50)
