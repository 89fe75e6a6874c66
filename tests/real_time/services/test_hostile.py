"""Requests that are nearly right: each is answered or refused for what it is, and the node goes on."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import grpc
import pytest

from lightactors.remote.grpc.credentials import metadata_of
from lightactors.services.descriptors import Classes
from lightactors.services.model import Message
from lightactors.services.schema import file_of
from lightactors.services.writing import Writers
from lightactors.training.records import LLM, EnqueueRolloutRequest, PromptTemplate, RolloutConfig, Span
from lightactors.training.stores.contract import Store
from tests.real_time.remote import blobs
from tests.real_time.remote.test_hostile_bytes import MANY, attack
from tests.real_time.remote.victim import open_target
from tests.real_time.services.callers import Caller

CONFIG = RolloutConfig(timeout_seconds=5, max_attempts=2, retry_condition=["failed"])
SPAN = Span(
    rollout_id="ro-1",
    attempt_id="at-1",
    sequence_id=1,
    trace_id="0" * 32,
    span_id="0" * 16,
    name="step",
    attributes={"tokens": 3, "words": ["a", 1, 2.5, True]},
)
CALLS: dict[str, dict[str, object]] = {
    "enqueue_rollout": {"input": {"q": [1, "two", None]}, "mode": "train", "config": CONFIG, "metadata": {"a": 1.5}},
    "enqueue_many_rollouts": {"requests": [EnqueueRolloutRequest("x", "val", config=CONFIG)] * 2},
    "update_rollout": {"rollout_id": "ro-1", "status": "failed", "mode": None},
    "add_many_spans": {"spans": [SPAN, SPAN]},
    "add_resources": {"resources": {"llm": LLM("http://x", "m"), "p": PromptTemplate("{a}"), "raw": b"123"}},
    "get_many_span_sequence_ids": {"pairs": [("ro-1", "at-1")]},
    "update_worker": {"worker_id": "w", "heartbeat_stats": {"load": [1, 2]}},
    "query_spans": {"rollout_id": "ro-1", "sort_by": None, "limit": 5},
}
ANSWERS = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "ALREADY_EXISTS"}
"""What a broken request may end with. Not UNKNOWN, nor INTERNAL, nor silence."""


def requests_of(caller: Caller) -> list[tuple[str, bytes]]:
    """Return requests that are right, with the paths of their methods."""
    writers, classes = Writers(), Classes(caller.file)

    def written(message: Message, values: dict[str, object]) -> bytes:
        wire = classes[message]()
        for field in message.fields:
            if field.name in values:
                writers.put(field)(values[field.name], wire)
        return bytes(wire.SerializeToString())

    return [(caller.path(name), written(caller.rpc_by_name[name].request, values)) for name, values in CALLS.items()]


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=MANY)])
async def test_mutated_requests(anyio_backend_name: str, tmp_path: Path, count: int) -> None:
    with open_target(anyio_backend_name, tmp_path) as target:
        rng = random.Random(count)
        caller = Caller(target.address, file_of(Store))
        right = requests_of(caller)
        metadata = metadata_of(target.tokens.of("algorithm"))
        codes = Counter[str]()

        def blow(_: int) -> None:
            path, body = rng.choice(right)
            try:
                caller.channel.unary_unary(path)(blobs.mutated(rng, body), timeout=10, metadata=metadata)
            except grpc.RpcError as error:
                codes[error.code().name] += 1
            else:
                codes["OK"] += 1

        with caller.channel:
            await attack(target, blow, count)
        assert set(codes) <= ANSWERS
        assert codes["INVALID_ARGUMENT"] > count / 10
