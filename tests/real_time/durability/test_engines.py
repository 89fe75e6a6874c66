"""The durable store keeps every rule that the one in memory keeps, through every door."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from lightactors.testing.store import CHECKS, Check, check_rule
from lightactors.training.stores.contract import Store
from tests.real_time.doors import DurableMachine, OpenStore, direct, in_a_file, linked, mailbox
from tests.real_time.marks import chiefly_on
from tests.training.stores.test_store_model import on, run


@asynccontextmanager
async def through(door: OpenStore) -> AsyncGenerator[Store]:
    with in_a_file() as url:
        async with door(url) as store:
            yield store


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_file_keeps_the_rule(check: Check) -> None:
    await check_rule(check, lambda: through(direct))


@chiefly_on("asyncio")
@pytest.mark.parametrize("door", [mailbox, linked], ids=lambda door: door.__name__)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_file_keeps_the_rule_for_those_who_have_a_ref(check: Check, door: OpenStore) -> None:
    await check_rule(check, lambda: through(door))


def test_file_does_what_the_model_does(anyio_backend_name: str) -> None:
    run(on(DurableMachine, anyio_backend_name), examples=15, steps=30)


@pytest.mark.stress
@pytest.mark.timeout(1_800)
def test_file_does_what_the_model_does_for_long(anyio_backend_name: str) -> None:
    run(on(DurableMachine, anyio_backend_name), examples=300, steps=50)
