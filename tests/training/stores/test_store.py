"""Every engine of the store keeps every rule, through every door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

import lightactors as la
from lightactors.contract import contract_of
from lightactors.testing.store import CHECKS, Check, check_rule, check_store
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore

OpenStore = Callable[[], AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def direct() -> AsyncIterator[Store]:
    yield MemoryStore()


@asynccontextmanager
async def mailbox() -> AsyncIterator[Store]:
    async with la.open_system():
        yield await la.spawn(MemoryStore)


@asynccontextmanager
async def thread() -> AsyncIterator[Store]:
    async with la.open_system():
        yield await la.options(place="thread").spawn(MemoryStore)


# A door more is a function more here; those over sockets are in tests/real_time (remote and services).
DOORS: tuple[OpenStore, ...] = (direct, mailbox, thread)


@pytest.fixture(params=DOORS, ids=lambda door: door.__name__)
def door(request: pytest.FixtureRequest) -> OpenStore:
    opened: OpenStore = request.param
    return opened


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_store_keeps_the_rule(check: Check, door: OpenStore) -> None:
    await check_rule(check, door)


async def test_check_store_runs_every_rule() -> None:
    await check_store(direct)


async def test_failing_rule_is_named() -> None:
    async def check_something(store: Store) -> None:
        await store.start_attempt("ro-unknown")

    with pytest.raises(ValueError, match="ro-unknown") as failure:
        await check_rule(check_something, direct)
    assert failure.value.__notes__ == ["check_store: check_something"]


def test_engine_has_the_rows_of_the_contract() -> None:
    promised, kept = contract_of(Store).methods, contract_of(MemoryStore).methods
    assert list(promised) == list(kept)
    for name, method in promised.items():
        assert method.signature == kept[name].signature, name
        assert (method.idempotent, method.interleaved) == (kept[name].idempotent, kept[name].interleaved), name
        assert method.roles == kept[name].roles, name


def test_roles_may_do_what_is_theirs() -> None:
    methods = contract_of(Store).methods
    changes = {name for name, method in methods.items() if not name.startswith(("get_", "query_", "wait_for", "stat"))}
    changes |= {"get_next_span_sequence_id", "get_many_span_sequence_ids"}
    directs = {
        "enqueue_rollout",
        "enqueue_many_rollouts",
        "update_rollout",
        "add_resources",
        "update_resources",
    }
    assert {name for name, method in methods.items() if not method.admits("viewer")} == changes
    assert {name for name, method in methods.items() if not method.admits("runner")} == directs
    assert all(method.admits("algorithm") and method.admits("admin") for method in methods.values())


async def test_old_names_of_filters_warn() -> None:
    store = MemoryStore()
    rollout = await store.enqueue_rollout(1)
    with pytest.warns(DeprecationWarning, match="use status_in"):
        assert await store.query_rollouts(status=["queuing"]) == [rollout]
    with pytest.warns(DeprecationWarning, match="use rollout_id_in"):
        assert await store.query_rollouts(rollout_ids=[]) == []
