"""Spans stay within the memory they are allowed, and what goes is said to be gone."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest

from lightactors.errors import InvalidArgument, SpansEvicted
from lightactors.testing.store.moves import span
from lightactors.training.records import Attempt, Event, Rollout, Span, SpanContext
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.memory.spans import MemoryLimits, SpanTable, memory_capacity, memory_limits, span_size
from lightactors.training.stores.tables import Entry, Try

SIZE = 100


def small_store(rollouts: int = 10) -> MemoryStore:
    """Return a store that gives up spans when it holds more than so many rollouts with one each, down to half."""
    most = rollouts * SIZE
    return MemoryStore(
        eviction_memory_threshold=most, safe_memory_threshold=most // 2, span_size_estimator=lambda _: SIZE
    )


def test_thresholds_are_shares_or_bytes() -> None:
    assert memory_limits(None, None, 1_000) == MemoryLimits(1_000, 700, 560)
    assert memory_limits(0.5, None, 1_000) == MemoryLimits(1_000, 500, 400)
    assert memory_limits(0.5, 0.1, 1_000) == MemoryLimits(1_000, 500, 100)
    assert memory_limits(50, 0, 1_000) == MemoryLimits(1_000, 50, 0)
    assert memory_limits(1.0, 999, 1_000) == MemoryLimits(1_000, 1_000, 999)


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ((0.0, None), "eviction_memory_threshold is 0.0"),
        ((1.5, None), "eviction_memory_threshold is 1.5"),
        ((0, None), "eviction_memory_threshold is 0;"),
        ((-5, None), "eviction_memory_threshold is -5"),
        ((True, None), "eviction_memory_threshold is True"),
        (("70%", None), "eviction_memory_threshold is '70%'"),
        ((None, 0.0), "safe_memory_threshold is 0.0"),
        ((None, -1), "safe_memory_threshold is -1"),
        ((100, 100), r"safe_memory_threshold is 100 \(100 bytes\); give less than eviction_memory_threshold"),
        ((0.5, 0.6), r"safe_memory_threshold is 0.6 \(600 bytes\)"),
    ],
)
def test_wrong_threshold_is_named_with_its_value(thresholds: tuple[Any, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        memory_limits(*thresholds, 1_000)


async def test_statistics_show_the_thresholds() -> None:
    counted = await MemoryStore(eviction_memory_threshold=1_000).statistics()
    assert (counted.eviction_threshold_bytes, counted.safe_threshold_bytes) == (1_000, 800)
    assert counted.memory_capacity_bytes == memory_capacity()


async def test_oldest_rollouts_lose_their_spans_first() -> None:
    store = small_store()
    rollouts = [await store.start_rollout(number) for number in range(11)]
    for rollout in reversed(rollouts):
        await store.add_span(span(rollout))
    for rollout in rollouts[:6]:
        with pytest.raises(SpansEvicted, match=rollout.attempt.attempt_id):
            await store.query_spans(rollout.rollout_id)
    for rollout in rollouts[6:]:
        assert await store.query_spans(rollout.rollout_id) == [span(rollout)]
    counted = await store.statistics()
    assert (counted.total_spans, counted.total_span_bytes, counted.evicted) == (5, 5 * SIZE, 6)


async def test_spans_stay_below_the_threshold_whatever_comes() -> None:
    store = small_store()
    for number in range(50):
        rollout = await store.start_rollout(number)
        await store.add_many_spans([span(rollout, index) for index in range(1, 5)])
        assert (await store.statistics()).total_span_bytes <= 10 * SIZE


async def test_attempt_that_lost_spans_keeps_no_more() -> None:
    store = small_store(2)
    rollout = await store.start_rollout(1)
    await store.add_many_spans([span(rollout, index) for index in range(1, 4)])
    assert await store.add_span(span(rollout, 4)) == span(rollout, 4)
    assert (await store.statistics()).total_spans == 0
    assert await store.get_next_span_sequence_id(rollout.rollout_id, rollout.attempt.attempt_id) == 5
    with pytest.raises(SpansEvicted):
        await store.query_spans(rollout.rollout_id, "latest")


async def test_next_attempt_is_complete_again() -> None:
    store = small_store(2)
    first = await store.start_rollout(1)
    await store.add_many_spans([span(first, index) for index in range(1, 4)])
    second = await store.start_attempt(first.rollout_id)
    await store.add_span(span(second))
    assert await store.query_spans(first.rollout_id, "latest") == [span(second)]
    with pytest.raises(SpansEvicted, match=first.attempt.attempt_id):
        await store.query_spans(first.rollout_id)


async def test_failing_estimator_keeps_nothing() -> None:
    def estimate(given: Span) -> int:
        return 1 // (2 - given.sequence_id)

    store = MemoryStore(span_size_estimator=estimate)
    rollout = await store.start_rollout(1)
    with pytest.raises(ZeroDivisionError):
        await store.add_many_spans([span(rollout, 1), span(rollout, 2)])
    assert await store.query_spans(rollout.rollout_id) == []
    assert await store.get_rollout_by_id(rollout.rollout_id) == rollout


def packed(number: int, attributes: int, text: int) -> bytes:
    """Return a span as it comes from the wire, sharing nothing with another."""
    trace_id = f"{number:032x}"
    return msgspec.msgpack.encode(
        Span(
            rollout_id=f"ro-{number:012x}",
            attempt_id=f"at-{number:08x}",
            sequence_id=number + 1_000,
            trace_id=trace_id,
            span_id=f"{number:016x}",
            name=f"step {number}",
            attributes={f"attribute.{index}": "x" * text for index in range(attributes)} | {"n": [1.5, number + 1_000]},
            events=[Event("token", {"n": number + 1_000}, number + 0.5)],
            context=SpanContext(trace_id, f"{number:016x}"),
            start_time=number + 0.25,
            end_time=number + 0.75,
        )
    )


@pytest.mark.parametrize(("attributes", "text"), [(0, 0), (5, 20), (30, 40), (3, 5_000)])
def test_estimate_is_close_to_what_spans_take(attributes: int, text: int) -> None:
    wire = [packed(number, attributes, text) for number in range(300)]
    decode = msgspec.msgpack.Decoder(Span).decode
    table = SpanTable(memory_limits(None, None, 2**40), span_size)
    first = Attempt(rollout_id="ro-1", attempt_id="at-1", sequence_id=1, start_time=0)
    attempt, entry = Try(first, 0, 0, None), Entry(number=0, record=Rollout(rollout_id="ro-1", input=1, start_time=0))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for one in map(decode, wire):
            table.add(entry, attempt, one, table.prepared(one))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.9 < table.size_bytes / (after - before) < 1.5
