"""The moves that the checks are made of."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from lightactors.training.records import (
    AttemptedRollout,
    AttemptStatus,
    Rollout,
    RolloutConfig,
    RolloutStatus,
    Span,
)
from lightactors.training.stores.contract import Store

RETRY = RolloutConfig(max_attempts=2, retry_condition=["failed"])
NOBODY = "ro-000000000000"


@contextmanager
def refused(kind: type[Exception], *words: str) -> Generator[None]:
    """Expect an error of this kind whose text holds each of the words."""
    text = None
    try:
        yield
    except kind as error:
        text = str(error)
    if text is None:
        raise AssertionError(f"{kind.__name__} was not raised")
    if missing := [word for word in words if word not in text]:
        raise AssertionError(f"{text!r} does not name {missing}")


def span(rollout: AttemptedRollout, sequence_id: int = 1, **fields: Any) -> Span:
    """Make a span of a rollout's latest attempt."""
    plain = Span(
        rollout_id=rollout.rollout_id,
        attempt_id=rollout.attempt.attempt_id,
        sequence_id=sequence_id,
        trace_id=f"{1:032x}",
        span_id=f"{sequence_id:016x}",
        name=f"step {sequence_id}",
    )
    return replace(plain, **fields)


async def claim(store: Store, **arguments: Any) -> AttemptedRollout:
    """Claim a rollout that must be there."""
    claimed = await store.dequeue_rollout(**arguments)
    assert claimed is not None, "the queue is empty"
    return claimed


async def report(store: Store, rollout: AttemptedRollout, status: AttemptStatus) -> None:
    """Say how a rollout's attempt goes."""
    await store.update_attempt(rollout.rollout_id, rollout.attempt.attempt_id, status=status)


async def status_of(store: Store, rollout: Rollout) -> RolloutStatus:
    found = await store.get_rollout_by_id(rollout.rollout_id)
    assert found is not None
    return found.status


def ids(rollouts: Sequence[Rollout]) -> list[str]:
    return [rollout.rollout_id for rollout in rollouts]


class Waiting:
    """A worker that waits for work under the claim id "c", and the input that it got; None: nothing."""

    def __init__(self, store: Store, worker_id: str) -> None:
        self._store = store
        self._worker_id = worker_id
        self.input: object = None
        self.ended = anyio.Event()

    async def run(self) -> None:
        claimed = await self._store.dequeue_rollout(self._worker_id, timeout=None, claim_id="c")
        self.input = claimed and claimed.input
        self.ended.set()


async def until_waiting(store: Store, number: int) -> None:
    """Let those get in line who are on their way there: by any door, which may take its time."""
    while (await store.statistics()).waiters != number:
        await anyio.lowlevel.checkpoint()
