"""The store keeps its rules through its typed service too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

import lightactors as la
from lightactors.testing.store import CHECKS, Check, check_rule
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from tests.real_time.services.callers import TypedStore


@asynccontextmanager
async def typed() -> AsyncIterator[Store]:
    async with la.open_system(listen="grpc://127.0.0.1:0") as system:
        store = await la.spawn(MemoryStore)
        assert await la.serve(store) == "lightactors.v1.Store"
        yield cast("Store", TypedStore(system.addresses[0]))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_store_keeps_the_rule_through_its_service(check: Check) -> None:
    await check_rule(check, typed)
