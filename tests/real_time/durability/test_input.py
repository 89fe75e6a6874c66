"""What can't be kept is refused by name, value and cure, and spoils nothing beside it; what can comes back as it is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from lightactors.errors import InvalidArgument
from lightactors.training.records import LLM, EnqueueRolloutRequest, PromptTemplate, RolloutConfig, Span
from lightactors.training.stores.opening import open_store
from tests.real_time.marks import chiefly_on

pytestmark = chiefly_on("asyncio")

ENGINES = ["memory", "sqlite", "postgresql"]
DURABLE = ENGINES[1:]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    store: Any = open_store(url)
    try:
        yield store
    finally:
        if url != "memory":
            await anyio.to_thread.run_sync(store.close)


on_all = pytest.mark.parametrize("store_url", ENGINES, indirect=True)
on_disks = pytest.mark.parametrize("store_url", DURABLE, indirect=True)


class Thing:
    """Nothing that bytes stand for."""

    def __repr__(self) -> str:
        return "<a thing>"


class Broken:
    """Nothing that can even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


KEPT: list[Any] = [
    None,
    True,
    -0.0,
    1e308,
    float("inf"),
    2**63,
    2**64 - 1,
    -(2**63),
    "",
    "a\0b",
    "Zoë 🎭 \u202e\ufeff\n",
    b"\0\xff",
    [],
    {},
    {"": {"$ref": "%s ? ' \" -- ;"}},
    {1: "a", "1": "b", None: "c"},
    nested(250),
    "x" * 100_000,
    list(range(10_000)),
]

REFUSED = [
    (Thing(), "no bytes stand for type Thing; .* It is <a thing>"),
    (Broken(), "no bytes stand for type Broken"),
    ({Thing()}, "no bytes stand for type Thing"),
    ({"a": [1, {"b": Thing()}]}, "no bytes stand for type Thing; .* It is {'a': \\[1, {'b': <a thing>}\\]}"),
    (lambda: 1, "no bytes stand for type function"),
    (2**64, "can't serialize ints .* It is 18446744073709551616"),
    (-(2**63) - 1, "can't serialize ints"),
    ("\ud800", ".*surrogates not allowed; .* It is '\\\\ud800'"),
    ({"\ud800": 1}, ".*surrogates not allowed"),
]

DEEP = [nested(3000), endless()]


@on_all
async def test_what_can_be_kept_comes_back_as_it_was(store_url: str) -> None:
    async with opened(store_url) as store:
        for number, value in enumerate(KEPT):
            await store.enqueue_rollout(value, rollout_id=f"ro-{number}", metadata={"value": value})
        found = await store.query_rollouts()
        assert [rollout.input for rollout in found] == KEPT
        assert [rollout.metadata["value"] for rollout in found] == KEPT
        nan = await store.enqueue_rollout(float("nan"))
        assert (await store.get_rollout_by_id(nan.rollout_id)).input != nan.input


@on_disks
async def test_what_no_bytes_stand_for_is_refused_wherever_it_is_given(store_url: str) -> None:
    async with opened(store_url) as store:
        started = await store.start_rollout(0, worker_id="w")
        ids = started.rollout_id, started.attempt.attempt_id
        before = await store.query_rollouts(), await store.query_workers(), await store.statistics()
        for value, complaint in REFUSED:
            request = EnqueueRolloutRequest(0), EnqueueRolloutRequest(value)
            calls: list[tuple[str, Callable[[], Any]]] = [
                ("input", partial(store.enqueue_rollout, value)),
                ("input", partial(store.start_rollout, value)),
                ("input", partial(store.update_rollout, ids[0], input=value)),
                ("input", partial(store.enqueue_many_rollouts, request)),
                ("metadata", partial(store.enqueue_rollout, 0, metadata={"k": value})),
                ("metadata", partial(store.update_rollout, ids[0], metadata={"k": value})),
                ("metadata", partial(store.update_attempt, *ids, metadata={"k": value})),
                ("heartbeat_stats", partial(store.update_worker, "w", heartbeat_stats={"k": value})),
                (r"resources\['k'\]", partial(store.add_resources, {"k": value})),
                ("span", partial(store.add_span, span(*ids, attributes={"k": value}))),
            ]
            for name, call in calls:
                # What it is part of is shown with it, where there is room.
                match = complaint if name == "input" else complaint.partition("; ")[0].partition(" It is")[0]
                with pytest.raises(InvalidArgument, match=f"^{name} can't be kept on a disk: {match}"):
                    await call()
        after = await store.query_rollouts(), await store.query_workers(), await store.statistics()
        assert after[:2] == before[:2]
        assert (after[2].total_resources, after[2].total_spans) == (0, 0)


@on_disks
async def test_what_is_nested_without_end_is_refused(store_url: str) -> None:
    async with opened(store_url) as store:
        for value in DEEP:
            for call in (
                partial(store.enqueue_rollout, value),
                partial(store.enqueue_rollout, 0, metadata={"k": value}),
                partial(store.update_worker, "w", heartbeat_stats={"k": value}),
                partial(store.add_resources, {"k": value}),
            ):
                with pytest.raises(InvalidArgument, match=r"maximum recursion depth|nest it less deeply"):
                    await call()
        assert await store.query_rollouts() == []


def span(rollout_id: str, attempt_id: str, **fields: Any) -> Span:
    given: dict[str, Any] = {"sequence_id": 1, "trace_id": "0", "span_id": "s", "name": "n", **fields}
    return Span(rollout_id=rollout_id, attempt_id=attempt_id, **given)


MISTYPED: list[dict[str, Any]] = [
    {"start_time": "noon"},
    {"name": 5},
    {"trace_id": None},
    {"attributes": {"a": {"b": 1}}},
    {"events": [{"when": 1}]},
    {"status": "OK"},
]


@on_disks
async def test_record_that_could_not_be_read_again_is_refused(store_url: str) -> None:
    async with opened(store_url) as store:
        started = await store.start_rollout(0)
        ids = started.rollout_id, started.attempt.attempt_id
        for fields in MISTYPED:
            with pytest.raises(InvalidArgument, match=r"span .* can't be read again: (Expected|Object missing)"):
                await store.add_span(span(*ids, **fields))
        wrong: list[Any] = [LLM(5, "model"), LLM("http://there", "model", sampling_parameters=3), PromptTemplate(None)]  # type: ignore[arg-type]
        for resource in wrong:
            with pytest.raises(InvalidArgument, match=r"resources\['model'\] can't be read again: Expected"):
                await store.add_resources({"model": resource})
        assert await store.query_spans(ids[0]) == []
        assert await store.query_resources() == []


IDS = ["", "a\0b", "a\ud800", "line\n", 5, b"ro", None, 1.5, ("a",)]


@on_all
@pytest.mark.parametrize("bad", IDS, ids=repr)
async def test_id_that_is_none_is_refused_alike(store_url: str, bad: Any) -> None:
    async with opened(store_url) as store:
        started = await store.start_rollout(0)
        ids = started.rollout_id, started.attempt.attempt_id
        calls = {
            "rollout_id": [partial(store.get_rollout_by_id, bad), partial(store.update_rollout, bad, mode="val")],
            "worker_id": [partial(store.update_worker, bad), partial(store.release_worker, bad)],
            "resources_id": [partial(store.update_resources, bad, {}), partial(store.get_resources_by_id, bad)],
            "span.span_id": [partial(store.add_span, span(*ids, span_id=bad))],
            "claim_id": [],
            "a member of rollout_id_in": [partial(store.query_rollouts, rollout_id_in=[bad])],
        }
        if bad is not None:
            calls["rollout_id"].append(partial(store.enqueue_rollout, 0, rollout_id=bad))
            calls["claim_id"].append(partial(store.give_back, "w", bad))
            calls["claim_id"].append(partial(store.dequeue_rollout, "w", claim_id=bad))
        for name, several in calls.items():
            for call in several:
                with pytest.raises(InvalidArgument) as raised:
                    await call()
                assert str(raised.value).startswith(f"{name} is {bad!r}; give a string")
        assert (await store.statistics()).total_rollouts == 1


HARMLESS = ["a'b", 'a"b', "a%b_", "a\\b", "a;--", "?", "$1", "%s", "🎭", "a" * 100_000]


@on_all
async def test_id_may_hold_what_sql_or_json_would_read_as_its_own(store_url: str) -> None:
    async with opened(store_url) as store:
        for one in HARMLESS:
            await store.enqueue_rollout(one, rollout_id=one)
            assert (await store.get_rollout_by_id(one)).input == one
            assert [rollout.rollout_id for rollout in await store.query_rollouts(rollout_id_in=[one])] == [one]
            await store.update_worker(one)
            assert (await store.update_resources(one, {one: b""})).resources_id == one
        for one in HARMLESS:
            expected = [other for other in HARMLESS if one in other]
            assert [r.rollout_id for r in await store.query_rollouts(rollout_id_contains=one)] == expected
        assert [worker.worker_id for worker in await store.query_workers()] == HARMLESS


@on_all
@pytest.mark.parametrize("number", [2**63, 2**64, 10**30])
async def test_number_that_no_column_takes_is_refused_alike(store_url: str, number: int) -> None:
    async with opened(store_url) as store:
        started = await store.start_rollout(0)
        ids = started.rollout_id, started.attempt.attempt_id
        for call in (
            partial(store.query_rollouts, limit=number),
            partial(store.query_rollouts, offset=number),
            partial(store.query_completions, number),
            partial(store.dequeue_many_rollouts, number),
            partial(store.dequeue_rollout, timeout=number),
            partial(store.update_attempt, *ids, last_heartbeat_time=number),
            partial(store.add_span, span(*ids, sequence_id=number)),
        ):
            with pytest.raises(InvalidArgument, match=f" is {number}; give a "):
                await call()
        for field in ("max_attempts", "timeout_seconds", "unresponsive_seconds"):
            fields: dict[str, Any] = {field: number}
            with pytest.raises(InvalidArgument, match=f"{field} is {number}; give a "):
                RolloutConfig(**fields)
        assert len(await store.query_rollouts(limit=2**63 - 1, offset=0)) == 1
        assert await store.query_rollouts(limit=2**63 - 1, offset=2**63 - 1) == []


@on_disks
async def test_bad_call_spoils_none_that_comes_with_it(store_url: str) -> None:
    refused: list[int] = []

    async def enqueue(number: int) -> None:
        try:
            if number % 7:
                await store.enqueue_rollout(number, rollout_id=f"ro-{number:03}")
            else:
                await store.enqueue_rollout(number, metadata={"thing": Thing()})
        except InvalidArgument:
            refused.append(number)

    async with opened(store_url) as store:
        async with anyio.create_task_group() as tg:
            for number in range(200):
                tg.start_soon(enqueue, number)
        assert sorted(refused) == list(range(0, 200, 7))
        expected = [f"ro-{number:03}" for number in range(200) if number % 7]
        assert sorted(rollout.rollout_id for rollout in await store.query_rollouts()) == expected
        assert (await store.statistics()).queue_length == len(expected)


@on_disks
async def test_what_is_changed_after_the_call_is_not_changed_in_the_store(store_url: str) -> None:
    async with opened(store_url) as store:
        task: dict[str, Any] = {"list": [1]}
        metadata: dict[str, Any] = {"list": [1]}
        answer = await store.enqueue_rollout(task, metadata=metadata, rollout_id="ro")
        for value in (task, metadata, answer.input, answer.metadata):
            value["list"].append(2)
        for _ in range(2):
            kept = await store.get_rollout_by_id("ro")
            assert kept.input == kept.metadata == {"list": [1]}
            kept.input["list"].append(3)
            kept.metadata["list"].append(3)
        claimed = await store.dequeue_rollout("w")
        assert claimed.input == {"list": [1]}
        claimed.input["list"].append(4)
        assert (await store.get_rollout_by_id("ro")).input == {"list": [1]}
        again = await store.enqueue_rollout({"list": [1]}, metadata={"list": [1]}, rollout_id="ro")
        assert again.rollout_id == "ro"


async def check_large(store_url: str, size: int) -> None:
    async with opened(store_url) as store:
        weights = os.urandom(size)
        await store.add_resources({"weights": weights})
        await store.enqueue_rollout({"weights": weights, "text": "x" * (size // 100)}, rollout_id="ro")
        claimed = await store.dequeue_rollout("w")
        assert claimed.input["weights"] == weights
        assert (await store.get_latest_resources()).resources["weights"] == weights


@on_disks
async def test_large_input_comes_back(store_url: str) -> None:
    await check_large(store_url, 10_000_000)


@pytest.mark.stress
@on_disks
async def test_input_of_a_hundred_megabytes_comes_back(store_url: str) -> None:
    await check_large(store_url, 100_000_000)


@pytest.mark.stress
@pytest.mark.timeout(300)
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_value_that_is_too_large_for_sqlite_is_refused(store_url: str) -> None:
    async with opened(store_url) as store:
        half = os.urandom(550_000_000)
        with pytest.raises(InvalidArgument, match="more than 1 GB, which SQLite can't keep; put it in a file"):
            await store.enqueue_rollout([half, half])
        assert await store.query_rollouts() == []
        await store.enqueue_rollout("small")
