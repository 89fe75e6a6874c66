"""Refs of objects and processes: what one was started with, what outlives it, who is killed meanwhile."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio
import numpy as np

import lightactors as la
from lightactors.remote.node import node_of
from tests.real_time.marks import chiefly_on
from tests.real_time.objects.links import SIZE, empties, store_of

pytestmark = chiefly_on("asyncio")


@la.actor
class Worker:
    """Works on objects in a process of its own."""

    def __init__(self, ref: la.ObjectRef[Any] | None = None) -> None:
        self.ref = ref
        self.kept: list[Any] = []

    @la.handler
    def pid(self) -> int:
        return os.getpid()

    @la.handler
    async def total(self) -> float:
        assert self.ref is not None
        return float((await la.get(self.ref)).sum())

    @la.handler
    async def put(self) -> dict[str, list[la.ObjectRef[np.ndarray]]]:
        return {"refs": [await la.put(np.full(SIZE, float(number))) for number in range(3)]}

    @la.handler
    async def look(self, refs: list[la.ObjectRef[np.ndarray]]) -> list[float]:
        return [float((await la.get(ref))[0]) for ref in refs]

    @la.handler
    def sums(self) -> list[float]:
        return [float(array.sum()) for array in self.kept]

    @la.handler
    def keep(self, array: np.ndarray) -> int:
        self.kept.append(array)
        return len(self.kept)


async def test_process_is_started_again_with_its_ref_and_its_queue() -> None:
    async with la.open_system(), la.supervise(max_restarts=5) as supervisor:
        ref = await la.put(np.ones(SIZE))
        worker = await supervisor.options(place="process").spawn(Worker, ref)
        for _ in range(2):
            os.kill(await worker.pid(), signal.SIGKILL)
            await anyio.sleep(0.1)  # it is noticed
            with anyio.fail_after(30):
                for number in range(5):
                    worker.keep.tell_nowait(np.full(SIZE, float(number)))
                assert await worker.sums() == [number * SIZE for number in range(5)]
                assert await worker.total() == SIZE
    del worker, ref


async def test_what_a_process_put_outlives_it() -> None:
    async with la.open_system() as system, la.supervise() as supervisor:
        worker = await supervisor.options(place="process", restart="temporary").spawn(Worker)
        refs = (await worker.put())["refs"]
        os.kill(await worker.pid(), signal.SIGKILL)
        await la.watch(worker)
        assert [(await la.get(ref))[0] for ref in refs] == [0, 1, 2]
        other = await supervisor.options(place="process").spawn(Worker)
        assert await other.look(refs) == [0, 1, 2]
        del refs
        await empties(store_of(node_of(system)))


async def test_object_released_right_after_a_spawn_is_there() -> None:
    async with la.open_system() as system:
        for _ in range(5):
            ref = await la.put(np.ones(SIZE))
            worker = await la.options(place="process").spawn(Worker, ref)
            la.release(ref)
            assert await worker.total() == SIZE
            await la.stop(worker)
        await empties(store_of(node_of(system)))


async def test_process_that_is_killed_with_objects_on_their_way_leaves_nothing_behind() -> None:
    async with la.open_system() as system, la.supervise() as supervisor:
        worker = await supervisor.options(place="process", restart="temporary").spawn(Worker)
        for number in range(5):
            assert await worker.keep(np.ones(SIZE)) == number + 1
        pid = await worker.pid()
        os.kill(pid, signal.SIGSTOP)
        for _ in range(20):
            worker.keep.tell_nowait(np.ones(SIZE))
        await anyio.sleep(0.05)  # they leave
        os.kill(pid, signal.SIGKILL)
        await la.watch(worker)
        await empties(store_of(node_of(system)))
