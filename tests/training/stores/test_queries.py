"""Indexes and listings: the same as with lists, for less."""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightactors.errors import InvalidArgument
from lightactors.training.records import (
    Attempt,
    EnqueueRolloutRequest,
    ResourcesUpdate,
    Rollout,
    Span,
    Worker,
    WorkerStatus,
)
from lightactors.training.stores import queries
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.memory.bitmap import CHUNK, Bitmap, Combined, listed
from lightactors.training.stores.memory.selecting import select
from lightactors.training.stores.memory.table import Row, Table

NUMBERS = st.sets(st.integers(0, 5 * CHUNK))


@given(NUMBERS, NUMBERS, st.integers(0, 50), st.booleans())
def test_bitmap_lists_what_a_sorted_set_does(add: set[int], discard: set[int], skip: int, descending: bool) -> None:
    bitmap = Bitmap(add)
    for number in discard:
        bitmap.discard(number)
    expected = sorted(add - discard, reverse=descending)
    assert list(listed(bitmap, skip=skip, descending=descending)) == expected[skip:]


@given(st.lists(NUMBERS, max_size=3))
def test_combined_sets_are_unions_and_intersections(sets: list[set[int]]) -> None:
    bitmaps = [Bitmap(numbers) for numbers in sets]
    assert list(listed(Combined(operator.or_, bitmaps))) == sorted(set().union(*sets))
    assert list(listed(Combined(operator.and_, bitmaps))) == (sorted(set.intersection(*sets)) if sets else [])


def test_table_finds_by_id_and_status() -> None:
    table: Table[Row] = Table()
    for number, name in enumerate("abc"):
        table.append(name, Row(number, Worker(worker_id=name)))
    table.replace(table.rows[1], Worker(worker_id="b", status="busy"))
    assert (table.by_id["b"].number, table[1].status, len(table)) == (1, "busy", 3)
    assert list(listed(table.with_status(["unknown"]))) == [0, 2]
    assert list(listed(table.with_status(["busy", "unknown", "idle"]))) == [0, 1, 2]
    assert list(listed(table.with_ids(["c", "x", "a"]))) == [0, 2]
    table.replace(table.rows[1], Worker(worker_id="b", status="unknown"))
    assert list(listed(table.with_status(["busy"]))) == []


def test_index_keeps_up_with_more_changes_than_it_lets_wait() -> None:
    table: Table[Row] = Table()
    for number in range(2500):
        table.append(str(number), Row(number, Worker(worker_id=str(number))))
        table.replace(table.rows[number], Worker(worker_id=str(number), status="busy" if number % 2 else "idle"))
    assert list(listed(table.with_status(["busy"]))) == list(range(1, 2500, 2))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Rollout, {"rollout_id", "start_time", "end_time", "mode", "resources_id", "status"}),
        (ResourcesUpdate, {"resources_id", "create_time", "update_time", "version"}),
        (Attempt, set(Attempt.__struct_fields__) - {"metadata"}),
        (Worker, set(Worker.__struct_fields__) - {"heartbeat_stats"}),
        (Span, {*Span.__struct_fields__[:7], "start_time", "end_time"}),
    ],
)
def test_number_and_string_fields_are_sortable(kind: Any, fields: set[str]) -> None:
    assert set(queries.sortable(kind)) == fields


def test_refused_sort_field_comes_with_those_that_work() -> None:
    with pytest.raises(InvalidArgument, match=r"sort_by is 'resources'; use one of 'resources_id', 'create_time'"):
        queries.page_of(ResourcesUpdate, "resources", "asc", -1, 0)


STATUSES: Sequence[WorkerStatus] = ("idle", "busy", "idle", "unknown", "busy")
WORKERS = [Worker(worker_id=f"w{number}", status=status) for number, status in enumerate(STATUSES)]


@given(
    statuses=st.none() | st.sets(st.sampled_from(["idle", "busy", "unknown"])),
    ids=st.none() | st.sets(st.sampled_from(["w0", "w1", "w2", "w3", "w4", "w5"])),
    contains=st.none() | st.sampled_from(["1", "w", "9"]),
    logic=st.sampled_from(["and", "or"]),
    sort_by=st.sampled_from([None, "status", "worker_id"]),
    order=st.sampled_from(["asc", "desc"]),
    limit=st.integers(-1, 6),
    offset=st.integers(0, 6),
)
def test_selection_is_what_a_scan_would_find(
    statuses: set[str] | None,
    ids: set[str] | None,
    contains: str | None,
    logic: str,
    sort_by: str | None,
    order: str,
    limit: int,
    offset: int,
) -> None:
    table: Table[Row] = Table()
    for number, worker in enumerate(WORKERS):
        table.append(worker.worker_id, Row(number, worker))
    sets = [] if statuses is None else [table.with_status(statuses)]
    sets += [] if ids is None else [table.with_ids(ids)]
    page = queries.page_of(Worker, sort_by, order, limit, offset)
    found = select(table, sets, queries.texts(worker_id_contains=contains), logic, page)

    def wanted(worker: Worker) -> bool:
        asked = [
            statuses is None or worker.status in statuses,
            ids is None or worker.worker_id in ids,
            contains is None or contains in worker.worker_id,
        ]
        given = [answer for answer, value in zip(asked, (statuses, ids, contains), strict=True) if value is not None]
        return (all if logic == "and" or not given else any)(given)

    expected = sorted(filter(wanted, WORKERS), key=lambda worker: getattr(worker, sort_by) if sort_by else 0)
    expected = expected[::-1] if order == "desc" else expected
    assert found == expected[offset:][: None if limit == -1 else limit]


async def filled(count: int) -> MemoryStore:
    store = MemoryStore()
    await store.enqueue_many_rollouts([EnqueueRolloutRequest(number) for number in range(count)])
    for _ in range(count // 20):
        claimed = await store.dequeue_rollout("w")
        assert claimed is not None
        await store.update_attempt(claimed.rollout_id, "latest", status="failed")
    return store


async def seconds(store: MemoryStore, **wanted: Any) -> float:
    """Return what one query takes, at its best."""
    times = []
    for _ in range(30):
        before = time.perf_counter()
        assert len(await store.query_rollouts(limit=10, **wanted)) == 10
        times.append(time.perf_counter() - before)
    return min(times)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "wanted", [{}, {"status_in": ["failed"]}, {"status_in": ["queuing", "failed"], "sort_order": "desc"}]
)
async def test_page_costs_the_same_in_a_large_store(wanted: dict[str, Any]) -> None:
    small, large = await filled(1_000), await filled(30_000)
    # Generous, because of the other work on the machine: a scan would take thirty times as long.
    assert await seconds(large, **wanted) < 3 * await seconds(small, **wanted)
