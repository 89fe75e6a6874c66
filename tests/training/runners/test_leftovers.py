"""What dead programs have left under way goes back to the queue, and nobody who lives loses anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from lightactors.training.records import RolloutConfig, Worker
from lightactors.training.runners.leftovers import leftovers_given_back, own_name
from lightactors.training.runners.workers import birth_of, is_alive, release_workers, whereabouts
from lightactors.training.stores.memory import MemoryStore

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")

HERE = whereabouts()
ELSEWHERE = {**HERE, "process": "another", "machine": "another", "host": "far"}


def dead() -> Mapping[str, object]:
    """Return where a worker was whose process is gone."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        born = birth_of(process.pid)
        process.communicate(b"\n")
    return {**HERE, "process": "dead", "pid": process.pid, "born": born}


async def busy(**workers: Mapping[str, object] | None) -> MemoryStore:
    """Return a store in which each of these workers is on a rollout that has its name."""
    store = MemoryStore()
    for name, said in workers.items():
        await store.enqueue_rollout(name, rollout_id=name)
        await store.dequeue_rollout(name, claim_id="c")
        if said is not None:
            await store.update_worker(name, said)
    return store


async def queued(store: MemoryStore) -> list[str]:
    return [rollout.rollout_id for rollout in await store.query_rollouts(status_in=["requeuing"])]


def worker(said: Mapping[str, Any]) -> Worker:
    return Worker(worker_id="w", heartbeat_stats=said)


def test_who_is_alive() -> None:
    assert is_alive(worker(HERE)) is True
    assert is_alive(worker({**HERE, "process": "another"})) is True  # as a fork of ours would be
    assert is_alive(worker(dead())) is False
    assert is_alive(worker({**dead(), "pid": os.getpid()})) is False  # its pid is another process's by now
    assert is_alive(worker({**dead(), "pid": 1})) is False
    assert is_alive(worker(ELSEWHERE)) is None
    assert is_alive(worker({})) is None
    assert is_alive(worker({**dead(), "pid": "1; DROP TABLE"})) is None
    assert is_alive(worker({**dead(), "pid": -1})) is None


async def test_rollout_of_a_dead_program_is_queued_again_at_once() -> None:
    store = await busy(dead=dead(), alive={**HERE, "process": "another"}, ours=HERE, elsewhere=ELSEWHERE)
    async with leftovers_given_back(store):
        assert await queued(store) == ["dead"]
    gone = await store.get_worker_by_id("dead")
    assert gone is not None
    assert gone.status == "unknown"


async def test_all_that_a_dead_worker_was_on_is_queued_again() -> None:
    store = await busy(dead=dead())
    await store.enqueue_rollout("late", config=RolloutConfig(timeout_seconds=1))
    await store.dequeue_rollout("dead")
    await anyio.sleep(2)
    store.expire()
    worker = await store.get_worker_by_id("dead")
    assert worker is not None
    assert worker.status == "unknown"  # and yet it is on the other one
    async with leftovers_given_back(store):
        assert await queued(store) == ["dead"]


async def test_rollout_of_who_is_silent_elsewhere_is_queued_again_in_time() -> None:
    store = await busy(silent=ELSEWHERE, talks=ELSEWHERE)
    async with leftovers_given_back(store):
        for _ in range(7):
            await anyio.sleep(10)
            await store.update_worker("talks", ELSEWHERE)
        assert await queued(store) == ["silent"]


async def test_rollout_of_who_never_beats_is_left_to_it() -> None:
    store = await busy(by_hand=None)
    async with leftovers_given_back(store):
        await anyio.sleep(600)
        assert await queued(store) == []


async def test_who_is_heard_of_at_last_keeps_its_rollout() -> None:
    store = await busy(late=ELSEWHERE)
    async with leftovers_given_back(store):
        await anyio.sleep(57)
        await store.update_worker("late", ELSEWHERE)
        await anyio.sleep(600)
        assert await queued(store) == []


async def test_execution_does_not_wait_for_who_is_silent() -> None:
    store = await busy(silent=ELSEWHERE)
    async with leftovers_given_back(store):
        pass
    assert anyio.current_time() == 0


async def test_errors_of_the_block_come_out_as_themselves() -> None:
    store = await busy(silent=ELSEWHERE)
    with pytest.raises(KeyError, match="mine"):
        async with leftovers_given_back(store):
            raise KeyError("mine")


async def test_name_of_a_worker_that_may_be_alive_is_left_to_it() -> None:
    store = await busy(alive={**HERE, "process": "another"}, dead=dead(), ours=HERE)
    async with leftovers_given_back(store):
        assert await own_name(store, "nobody") == "nobody"
        assert await own_name(store, "dead") == "dead"
        assert await own_name(store, "ours") == "ours"
        assert (await own_name(store, "alive")).startswith("alive.")


async def test_rollout_of_a_process_that_was_stopped_is_queued_again() -> None:
    store = await busy(died={**HERE, "process": "a"}, stopped={**HERE, "process": "b"})
    await release_workers(store, "a")
    await release_workers(store, "b", was_asked=True)
    assert await queued(store) == ["stopped"]
    (failed,) = await store.query_rollouts(status_in=["failed"])
    assert failed.rollout_id == "died"
