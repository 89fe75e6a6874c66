"""What is handed out is the caller's own, and what makes no sense is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, cast

from msgspec.structs import replace

from lightactors.errors import InvalidArgument, NotFound, WrongCall
from lightactors.testing.store.moves import (
    NOBODY,
    claim,
    refused,
    span,
)
from lightactors.training.records import (
    AttemptedRollout,
)
from lightactors.training.stores.contract import Store


async def check_snapshots_are_the_callers_own(store: Store) -> None:
    metadata = {"tags": ["a"]}
    rollout = await store.enqueue_rollout(1, metadata=metadata)
    metadata["tags"].append("changed after the call")
    cast("dict[str, Any]", rollout.metadata)["more"] = True
    claimed = await claim(store, worker_id="w")
    assert claimed.metadata == {"tags": ["a"]}
    await store.update_attempt(rollout.rollout_id, "latest", metadata={"a": [1]})
    attempt = await store.get_latest_attempt(rollout.rollout_id)
    assert attempt is not None
    assert attempt.metadata is not None
    attempt.metadata["a"].append(2)
    stats: dict[str, Any] = {"load": [1]}
    await store.update_worker("w", stats)
    stats["load"].append(2)
    assert (await store.query_attempts(rollout.rollout_id))[0].metadata == {"a": [1]}
    assert (await store.query_workers())[0].heartbeat_stats == {"load": [1]}


async def check_reads_change_nothing(store: Store) -> None:
    rollout = await store.enqueue_rollout(1)
    before = await store.get_rollout_by_id(rollout.rollout_id)
    await store.query_spans(rollout.rollout_id)
    await store.query_attempts(rollout.rollout_id)
    await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id], timeout=0)
    await store.query_workers()
    assert await store.get_rollout_by_id(rollout.rollout_id) == before
    assert (await claim(store)).rollout_id == rollout.rollout_id


async def check_statistics_count(store: Store) -> None:
    rollout = await store.start_rollout(1, worker_id="w")
    await store.enqueue_rollout(2)
    await store.add_span(span(rollout))
    await store.add_resources({})
    counted = await store.statistics()
    totals = (counted.total_rollouts, counted.total_attempts, counted.total_spans)
    assert totals == (2, 1, 1)
    assert (counted.total_resources, counted.total_workers, counted.queue_length) == (1, 1, 1)
    assert (counted.waiters, counted.fenced, counted.evicted) == (0, 0, 0)
    assert counted.total_span_bytes > 0
    assert counted.uptime >= 0


Call: TypeAlias = Callable[[Any, AttemptedRollout], Awaitable[object]]

BAD_CALLS: tuple[tuple[Call, tuple[str, ...]], ...] = (
    (lambda s, r: s.enqueue_rollout(1, mode="banana"), ("mode", "banana", "train")),
    (lambda s, r: s.enqueue_rollout(1, metadata="x"), ("metadata", "'x'")),
    (lambda s, r: s.enqueue_rollout(1, rollout_id=""), ("rollout_id", "''")),
    (lambda s, r: s.enqueue_many_rollouts([1]), ("requests", "EnqueueRolloutRequest")),
    (lambda s, r: s.start_rollout(1, worker_id=7), ("worker_id", "7")),
    (lambda s, r: s.dequeue_rollout(timeout="soon"), ("timeout", "soon")),
    (lambda s, r: s.dequeue_rollout(worker_id=7), ("worker_id", "7")),
    (lambda s, r: s.dequeue_rollout(claim_id="c"), ("worker_id", "'c'")),
    (lambda s, r: s.dequeue_many_rollouts(worker_id="w", claim_id=7), ("claim_id", "7")),
    (lambda s, r: s.dequeue_many_rollouts(limit="10"), ("limit", "'10'")),
    (lambda s, r: s.give_back("w", ""), ("claim_id", "''")),
    (lambda s, r: s.give_back(7, "c"), ("worker_id", "7")),
    (lambda s, r: s.release_worker(None), ("worker_id", "None")),
    (lambda s, r: s.query_rollouts(limit=-2), ("limit", "-2")),
    (lambda s, r: s.query_rollouts(limit="10"), ("limit", "'10'")),
    (lambda s, r: s.query_rollouts(offset=-1), ("offset", "-1")),
    (lambda s, r: s.query_rollouts(sort_by="input"), ("sort_by", "input", "start_time")),
    (lambda s, r: s.query_rollouts(sort_by="metadata"), ("sort_by", "metadata", "rollout_id")),
    (lambda s, r: s.query_rollouts(sort_order="up"), ("sort_order", "up", "desc")),
    (lambda s, r: s.query_rollouts(filter_logic="xor"), ("filter_logic", "xor", "or")),
    (lambda s, r: s.query_rollouts(status_in="failed"), ("status_in", "failed", "list")),
    (lambda s, r: s.query_rollouts(status_in=["x"]), ("status_in", "'x'", "failed")),
    (lambda s, r: s.query_rollouts(rollout_id_in=[7]), ("rollout_id_in", "7")),
    (lambda s, r: s.query_rollouts(rollout_id_contains=7), ("rollout_id_contains", "7")),
    (lambda s, r: s.query_completions(-1), ("after", "-1")),
    (lambda s, r: s.wait_for_rollouts(rollout_ids="ro-1"), ("rollout_ids", "ro-1")),
    (lambda s, r: s.update_rollout(r.rollout_id, status="x"), ("status", "'x'", "queuing")),
    (lambda s, r: s.update_rollout(r.rollout_id, input=2, mode="x"), ("mode", "'x'")),
    (lambda s, r: s.update_rollout(r.rollout_id, config=None), ("config", "None")),
    (lambda s, r: s.update_attempt(r.rollout_id, "latest", status="cancelled"), ("status", "cancelled")),
    (lambda s, r: s.update_attempt(r.rollout_id, "latest", worker_id=None), ("worker_id", "None")),
    (lambda s, r: s.update_attempt(r.rollout_id, "latest", last_heartbeat_time="now"), ("now",)),
    (lambda s, r: s.add_span({"name": "x"}), ("span", "Span")),
    (lambda s, r: s.add_span(replace(span(r), sequence_id="1")), ("sequence_id", "'1'")),
    (lambda s, r: s.add_many_spans(span(r)), ("spans",)),
    (lambda s, r: s.get_many_span_sequence_ids(["ro"]), ("pairs", "ro")),
    (lambda s, r: s.query_spans(r.rollout_id, name=1), ("name", "1")),
    (lambda s, r: s.query_spans(r.rollout_id, sort_by="attributes"), ("sort_by", "attributes")),
    (lambda s, r: s.add_resources(["x"]), ("resources", "x")),
    (lambda s, r: s.update_resources("", {}), ("resources_id", "''")),
    (lambda s, r: s.query_workers(status_in=["lazy"]), ("status_in", "lazy", "busy")),
    (lambda s, r: s.update_worker("w", None), ("heartbeat_stats", "None")),
)


async def check_bad_values_are_named_and_change_nothing(store: Store) -> None:
    rollout = await store.start_rollout(1)
    for call, words in BAD_CALLS:
        try:
            with refused(InvalidArgument, *words):
                await call(store, rollout)
        except WrongCall as error:  # a link has refused it before the store saw it, by the annotations
            assert words[0] in str(error)  # noqa: PT017 (it is no pytest that runs this)
    assert await store.query_rollouts() == [rollout]
    counted = await store.statistics()
    assert (counted.total_spans, counted.total_resources, counted.total_workers) == (0, 0, 0)


CALLS_WITH_UNKNOWN_IDS: tuple[tuple[Call, str], ...] = (
    (lambda s, r: s.update_rollout(NOBODY, mode=None), NOBODY),
    (lambda s, r: s.update_rollout(r.rollout_id, resources_id="rs-1", mode="val"), "rs-1"),
    (lambda s, r: s.update_attempt(NOBODY, "latest", status="running"), NOBODY),
    (lambda s, r: s.update_attempt(r.rollout_id, "at-1", status="running"), "at-1"),
    (lambda s, r: s.get_next_span_sequence_id(NOBODY, "at-1"), NOBODY),
    (lambda s, r: s.query_spans(NOBODY), NOBODY),
    (lambda s, r: s.enqueue_rollout(1, resources_id="rs-1"), "rs-1"),
    (lambda s, r: s.start_rollout(1, resources_id="rs-1"), "rs-1"),
)


async def check_unknown_ids_are_named(store: Store) -> None:
    rollout = await store.start_rollout(1)
    for call, name in CALLS_WITH_UNKNOWN_IDS:
        with refused(NotFound, name):
            await call(store, rollout)
    assert await store.query_rollouts() == [rollout]


async def check_texts_that_nobody_could_keep_are_refused(store: Store) -> None:
    for text in ("a\0b", "two\nlines", ""):
        with refused(InvalidArgument, "rollout_id"):
            await store.enqueue_rollout(1, rollout_id=text)
        with refused(InvalidArgument, "worker_id"):
            await store.dequeue_rollout(text)
    assert await store.query_rollouts() == []
    assert await store.query_workers() == []
