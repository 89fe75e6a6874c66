"""What was stored is read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from lightactors.errors import NotFound
from lightactors.testing.store.moves import (
    NOBODY,
    claim,
    ids,
    refused,
    report,
)
from lightactors.training.records import (
    Rollout,
)
from lightactors.training.stores.contract import Store


async def check_attempted_rollouts_come_with_their_attempt(store: Store) -> None:
    queued = await store.enqueue_rollout(1)
    assert type(await store.get_rollout_by_id(queued.rollout_id)) is Rollout
    claimed = await claim(store)
    assert await store.get_rollout_by_id(queued.rollout_id) == claimed
    assert await store.query_rollouts() == [claimed]
    assert await store.get_latest_attempt(queued.rollout_id) == claimed.attempt


async def check_what_is_absent_is_none(store: Store) -> None:
    assert await store.get_rollout_by_id(NOBODY) is None
    assert await store.get_latest_attempt(NOBODY) is None
    assert await store.get_resources_by_id("rs-000000000000") is None
    assert await store.get_latest_resources() is None
    assert await store.get_worker_by_id("nobody") is None
    rollout = await store.enqueue_rollout(1)
    assert await store.get_latest_attempt(rollout.rollout_id) is None


async def check_rollouts_are_filtered(store: Store) -> None:
    rollouts = [await store.start_rollout(number) for number in range(4)]
    await report(store, rollouts[1], "failed")
    await report(store, rollouts[3], "succeeded")
    first, second, third, fourth = ids(rollouts)
    for wanted, found in (
        ({"status_in": ["failed", "succeeded"]}, [second, fourth]),
        ({"status_in": []}, []),
        ({"rollout_id_in": [third, first, NOBODY]}, [first, third]),
        ({"rollout_id_contains": second[4:]}, [second]),
        ({"status_in": ["failed"], "rollout_id_in": [first, second]}, [second]),
        ({"status_in": ["failed"], "rollout_id_in": [first], "filter_logic": "or"}, [first, second]),
        ({"status_in": ["failed"], "rollout_id_contains": first, "filter_logic": "or"}, [first, second]),
        ({"rollout_id_contains": first, "status_in": ["failed"]}, []),
        ({"filter_logic": "or"}, [first, second, third, fourth]),
    ):
        assert ids(await store.query_rollouts(**cast("dict[str, Any]", wanted))) == found, wanted


async def check_rollouts_are_sorted_and_paged(store: Store) -> None:
    made = ids([await store.enqueue_rollout(number) for number in range(5)])
    assert ids(await store.query_rollouts()) == made
    assert ids(await store.query_rollouts(sort_by="start_time", sort_order="desc")) == made[::-1]
    assert ids(await store.query_rollouts(sort_by="rollout_id")) == sorted(made)
    assert ids(await store.query_rollouts(sort_by="status", sort_order="desc")) == made[::-1]
    assert ids(await store.query_rollouts(limit=2, offset=1)) == made[1:3]
    assert ids(await store.query_rollouts(status_in=["queuing"], limit=2, offset=2)) == made[2:4]
    assert ids(await store.query_rollouts(limit=0)) == ids(await store.query_rollouts(offset=9)) == []


async def check_none_comes_before_every_value(store: Store) -> None:
    modes: Sequence[Any] = ("val", None, "train", None)
    for mode in modes:
        await store.enqueue_rollout(1, mode)
    ascending = await store.query_rollouts(sort_by="mode")
    assert [rollout.mode for rollout in ascending] == [None, None, "train", "val"]
    assert await store.query_rollouts(sort_by="mode", sort_order="desc") == ascending[::-1]


async def check_attempts_are_listed(store: Store) -> None:
    rollout = await store.start_rollout(1)
    for _ in range(2):
        await store.start_attempt(rollout.rollout_id)
    attempts = await store.query_attempts(rollout.rollout_id)
    assert [attempt.sequence_id for attempt in attempts] == [1, 2, 3]
    assert await store.query_attempts(rollout.rollout_id, sort_order="desc", limit=1) == attempts[2:]
    with refused(NotFound, NOBODY):
        await store.query_attempts(NOBODY)
