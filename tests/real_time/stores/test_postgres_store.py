"""A store in PostgreSQL keeps every rule, through every door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

import lightactors as la
from lightactors.testing.store import CHECKS, Check, check_rule
from lightactors.training.stores.contract import Store
from lightactors.training.stores.sql import DurableStore

OpenStore = Callable[[str], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def direct(url: str) -> AsyncIterator[Store]:
    store = DurableStore(url)
    try:
        yield store
    finally:
        store.close()


@asynccontextmanager
async def mailbox(url: str) -> AsyncIterator[Store]:
    async with la.open_system():
        yield await la.spawn(DurableStore, url)


DOORS: tuple[OpenStore, ...] = (direct, mailbox)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_store_keeps_the_rule(check: Check, door: OpenStore, postgres_url: str) -> None:
    await check_rule(check, lambda: door(postgres_url))
