"""Who waits for ends hears of them."""

from __future__ import annotations

import anyio

from lightactors.errors import NotFound
from lightactors.testing.store.moves import (
    NOBODY,
    ids,
    refused,
    report,
)
from lightactors.training.records import (
    Rollout,
)
from lightactors.training.stores.contract import Store


async def check_wait_returns_the_finished_ones(store: Store) -> None:
    rollouts = [await store.start_rollout(number) for number in range(3)]
    await report(store, rollouts[2], "succeeded")
    await report(store, rollouts[0], "failed")
    finished = await store.wait_for_rollouts(rollout_ids=ids(rollouts), timeout=0)
    assert ids(finished) == [rollouts[0].rollout_id, rollouts[2].rollout_id]
    assert ids(await store.wait_for_rollouts(rollout_ids=ids(rollouts), timeout=0.01)) == ids(finished)


async def check_wait_ends_with_the_last_one(store: Store) -> None:
    rollouts = [await store.start_rollout(number) for number in range(2)]
    finished: list[Rollout] = []

    async def wait() -> None:
        finished.extend(await store.wait_for_rollouts(rollout_ids=ids(rollouts)))

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await report(store, rollouts[1], "succeeded")
        await anyio.wait_all_tasks_blocked()
        assert not finished
        await store.update_rollout(rollouts[0].rollout_id, status="cancelled")
    assert [rollout.status for rollout in finished] == ["cancelled", "succeeded"]


async def check_wait_needs_known_ids(store: Store) -> None:
    with refused(NotFound, NOBODY):
        await store.wait_for_rollouts(rollout_ids=[NOBODY], timeout=0)


async def check_completions_come_once_in_their_order(store: Store) -> None:
    rollouts = [await store.start_rollout(number) for number in range(3)]
    for rollout in (rollouts[1], rollouts[0]):
        await report(store, rollout, "succeeded")
    first = await store.query_completions(limit=1)
    second = await store.query_completions(first.cursor)
    assert ids([*first.rollouts, *second.rollouts]) == [rollouts[1].rollout_id, rollouts[0].rollout_id]
    third = await store.query_completions(second.cursor)
    assert (third.rollouts, third.cursor) == ([], second.cursor)
