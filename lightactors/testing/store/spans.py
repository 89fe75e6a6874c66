"""Spans are kept in their order, once."""

from __future__ import annotations

from typing import Any, cast

from lightactors.errors import NotFound
from lightactors.testing.store.moves import (
    NOBODY,
    refused,
    report,
    span,
    status_of,
)
from lightactors.training.records import (
    TraceStatus,
)
from lightactors.training.stores.contract import Store


async def check_span_is_a_heartbeat(store: Store) -> None:
    rollout = await store.start_rollout(1)
    kept = span(rollout, attributes={"tokens": 3}, status=TraceStatus("OK"))
    assert await store.add_span(kept) == kept
    attempt = await store.get_latest_attempt(rollout.rollout_id)
    assert attempt is not None
    assert (attempt.status, await status_of(store, rollout)) == ("running", "running")
    assert attempt.last_heartbeat_time is not None
    assert await store.query_spans(rollout.rollout_id) == [kept]


async def check_duplicate_spans_are_left_out(store: Store) -> None:
    rollout = await store.start_rollout(1)
    first, second = span(rollout, 1), span(rollout, 2)
    assert await store.add_span(first) == first
    assert await store.add_span(first) is None
    assert await store.add_many_spans([first, second, second]) == [second]
    await report(store, rollout, "succeeded")
    assert await store.add_many_spans([first, second]) == []
    assert (await store.statistics()).total_spans == 2


async def check_spans_of_several_rollouts_come_together(store: Store) -> None:
    one, other = await store.start_rollout(1), await store.start_rollout(2)
    spans = [span(one), span(other), span(one, 2)]
    assert await store.add_many_spans(spans) == spans
    assert await store.query_spans(one.rollout_id) == [spans[0], spans[2]]
    assert await status_of(store, other) == "running"


async def check_spans_need_their_attempt(store: Store) -> None:
    rollout = await store.start_rollout(1)
    with refused(NotFound, NOBODY):
        await store.add_span(span(rollout, rollout_id=NOBODY))
    with refused(NotFound, "latest"):
        await store.add_many_spans([span(rollout), span(rollout, attempt_id="latest")])
    assert await store.query_spans(rollout.rollout_id) == []
    assert await status_of(store, rollout) == "preparing"


async def check_sequence_ids_increase(store: Store) -> None:
    rollout = await store.start_rollout(1)
    pair = (rollout.rollout_id, rollout.attempt.attempt_id)
    assert [await store.get_next_span_sequence_id(*pair) for _ in range(2)] == [1, 2]
    await store.add_span(span(rollout, 7))
    assert await store.get_many_span_sequence_ids([pair, pair]) == [8, 9]
    with refused(NotFound, "at-00000000"):
        await store.get_many_span_sequence_ids([pair, (rollout.rollout_id, "at-00000000")])
    assert await store.get_next_span_sequence_id(*pair) == 10


async def check_spans_are_filtered(store: Store) -> None:
    rollout = await store.start_rollout(1)
    first = span(rollout, 1, name="plan")
    second = span(rollout, 2, name="act", parent_id=first.span_id)
    third = span(rollout, 3, name="act again", trace_id=f"{2:032x}", parent_id=first.span_id)
    await store.add_many_spans([third, first, second])
    for wanted, found in (
        ({}, [first, second, third]),
        ({"name": "act"}, [second]),
        ({"name_contains": "act"}, [second, third]),
        ({"trace_id": third.trace_id}, [third]),
        ({"parent_id": first.span_id, "name": "act"}, [second]),
        ({"span_id": first.span_id, "name": "act", "filter_logic": "or"}, [first, second]),
        ({"span_id_contains": "3"}, [third]),
        ({"parent_id_contains": "1", "trace_id_contains": "2"}, [third]),
        ({"sort_order": "desc", "limit": 1}, [third]),
        ({"sort_by": "name", "limit": 2}, [second, third]),
    ):
        assert await store.query_spans(rollout.rollout_id, **cast("dict[str, Any]", wanted)) == found, wanted


async def check_spans_are_paged(store: Store) -> None:
    rollout = await store.enqueue_rollout(1)
    kept = []
    for numbers in ((2, 1, 1), (4, 3)):
        attempted = await store.start_attempt(rollout.rollout_id)
        kept += [span(attempted, number, span_id=f"{place:016x}") for place, number in enumerate(numbers)]
        await store.add_many_spans(kept[-len(numbers) :])
    by_number = [kept[1], kept[2], kept[0], kept[4], kept[3]]  # those of one number as they came
    for page in (slice(0, 2), slice(1, 4), slice(4, 9), slice(5, 6)):
        asked: dict[str, Any] = {"offset": page.start, "limit": page.stop - page.start}
        assert await store.query_spans(rollout.rollout_id, **asked) == by_number[page]
        assert await store.query_spans(rollout.rollout_id, sort_order="desc", **asked) == by_number[::-1][page]
        assert await store.query_spans(rollout.rollout_id, sort_by=None, **asked) == kept[page]
        assert await store.query_spans(rollout.rollout_id, "latest", **asked) == by_number[3:][page]


async def check_spans_are_listed_by_attempt(store: Store) -> None:
    rollout = await store.enqueue_rollout(1)
    assert await store.query_spans(rollout.rollout_id, "latest") == []
    first = await store.start_attempt(rollout.rollout_id)
    early = span(first)
    await store.add_span(early)
    second = await store.start_attempt(rollout.rollout_id)
    late = span(second, 2)
    await store.add_span(late)
    assert await store.query_spans(rollout.rollout_id) == [early, late]
    assert await store.query_spans(rollout.rollout_id, first.attempt.attempt_id) == [early]
    assert await store.query_spans(rollout.rollout_id, "latest") == [late]
    assert await store.query_spans(rollout.rollout_id, "latest", name=early.name, filter_logic="or") == []
    with refused(NotFound, "at-00000000"):
        await store.query_spans(rollout.rollout_id, "at-00000000")
