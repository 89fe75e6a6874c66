"""Runners of another node's store: rollouts per second over gRPC, and how soon an idle runner is at work.

All runners of a row are tasks of one process and the store is in another one, for us and for the peer. Each enqueues
a rollout, claims one and succeeds.
"""

from __future__ import annotations

import statistics
import sys
import time
from subprocess import PIPE

import anyio

import lightactors as la
from tests.benchmarks.measure import Row, per_second
from tests.benchmarks.node import other_node
from tests.benchmarks.rollouts import rollouts

COUNTS = {1: 500, 8: 4_000, 32: 6_400}
"""How many rollouts so many runners do in a round."""

_WAKES = 100
_PAUSE = 0.02


async def rows(backend: str) -> list[Row]:
    """Measure on the running loop."""
    found = [Row(name(runners), "rollouts/s", await _rollouts(backend, runners)) for runners in COUNTS]
    return [*found, Row("wake of an idle runner, p50", "ms", await _wake(backend), more_is_better=False)]


def name(runners: int) -> str:
    return f"rollouts over gRPC, {runners} runner{'' if runners == 1 else 's'}"


async def _rollouts(backend: str, runners: int) -> float:
    async with other_node(backend) as addresses, la.open_system():
        store = await la.connect(la.Store, addresses.actor_over_tcp("store"))

        async def work(count: int) -> None:
            async with anyio.create_task_group() as tg:
                for number in range(runners):
                    tg.start_soon(rollouts, store, count // runners, f"w{number}", 10.0)

        return await per_second(work, COUNTS[runners])


async def _wake(backend: str) -> float:
    """Return the milliseconds from an enqueue in another process until the runner, which waits, has its rollout."""
    took: list[float] = []
    async with other_node(backend) as addresses, la.open_system():
        store = await la.connect(la.Store, addresses.actor_over_tcp("store"))
        command = [sys.executable, "-m", __name__, backend, addresses.actor_over_tcp("store")]
        async with await anyio.open_process(command, stdin=PIPE, stdout=None, stderr=None) as algorithm:
            for _ in range(_WAKES):
                claimed = await store.dequeue_rollout(worker_id="w", timeout=30)
                assert claimed is not None
                took.append(time.monotonic() - claimed.input)
            await algorithm.wait()
    return statistics.median(took) * 1e3


async def enqueue(address: str) -> None:
    """Be the algorithm: enqueue the time, which is the same for all processes of a machine, now and then."""
    async with la.open_system():
        store = await la.connect(la.Store, address)
        for _ in range(_WAKES):
            await anyio.sleep(_PAUSE)
            await store.enqueue_rollout(time.monotonic())


if __name__ == "__main__":
    anyio.run(enqueue, sys.argv[2], backend=sys.argv[1])
