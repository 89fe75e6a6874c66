"""A queue of tasks and workers in processes of their own, some of which are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import anyio
import numpy as np
import pytest

import lightactors as la

Array = np.ndarray[Any, np.dtype[np.int64]]

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@la.actor
class Taker:
    """Works through a queue in its process, or keeps what it claims."""

    def __init__(self) -> None:
        self.done: list[int] = []

    @la.handler
    def pid(self) -> int:
        return os.getpid()

    @la.handler(interleaved=True)
    async def work(self, queue: la.TaskQueue[int], at_once: int = 1) -> list[int]:
        async with la.tasks_of(queue, at_once=at_once) as tasks:
            async for number in tasks:
                self.done.append(number)
                await anyio.sleep(0.001)
        return self.done

    @la.handler
    async def keep(self, queue: la.TaskQueue[int], count: int) -> int:
        await queue.join("keeper", la.ref_of(self))
        return len(await queue.claim("keeper", count))

    @la.handler
    async def have_one_below_keep(self, queue: la.TaskQueue[int], count: int) -> int:
        """The same, for an actor that only lives in this process."""
        below = await la.spawn(Taker)
        return await below.keep(queue, count)


@la.actor
class Server:
    """Works through a queue as long as it lives, also when it was started again."""

    def __init__(self, queue: la.TaskQueue[int]) -> None:
        self.queue = queue

    async def on_start(self) -> None:
        await la.ref_of(self).work.tell()

    @la.handler
    def pid(self) -> int:
        return os.getpid()

    @la.handler(interleaved=True)
    async def work(self) -> None:
        async with la.tasks_of(self.queue, at_once=4) as tasks:
            async for _ in tasks:
                await anyio.sleep(0.001)


@la.actor
class Adder:
    """Adds up the arrays that it is given refs of."""

    @la.handler(interleaved=True)
    async def work(self, queue: la.TaskQueue[la.ObjectRef[Array]]) -> list[int]:
        sums = []
        async with la.tasks_of(queue) as tasks:
            async for ref in tasks:
                array = await la.get(ref)
                assert not array.flags.owndata
                sums.append(int(array.sum()))
        return sums


async def until(is_so: Callable[[la.QueueStatistics], bool], queue: la.TaskQueue[int]) -> la.QueueStatistics:
    with anyio.fail_after(5):
        while not is_so(figures := await queue.statistics()):  # noqa: ASYNC110 (the kernel raises no event of ours)
            await anyio.sleep(0.005)
    return figures


async def test_killed_worker_loses_nothing() -> None:
    async with la.open_system() as system, la.supervise() as supervisor:
        queue = await system.spawn(la.TaskQueue[int])
        takers = [await system.options(place="process").spawn(Taker) for _ in range(2)]
        victim = await supervisor.options(place="process", restart="temporary").spawn(Taker)
        pid = await victim.pid()
        worked: list[int] = []

        async def work(taker: Taker) -> None:
            worked.extend(await taker.work(queue, 4))

        await queue.add_many(list(range(7)))
        assert await victim.keep(queue, 7) == 7
        await queue.add_many(list(range(7, 300)))
        async with anyio.create_task_group() as tg:
            for taker in takers:
                tg.start_soon(work, taker)
            await until(lambda figures: figures.finished >= 20, queue)
            os.kill(pid, signal.SIGKILL)
            await queue.done()
            await queue.close()

        assert sorted(worked) == list(range(300))
        figures = await queue.statistics()
        assert (figures.finished, figures.given_back, figures.gone) == (300, 7, 3)


async def test_worker_that_is_killed_at_work_has_its_tasks_done_by_another() -> None:
    async with la.open_system() as system, la.supervise() as supervisor:
        queue = await system.spawn(la.TaskQueue[int])
        victim = await supervisor.options(place="process", restart="temporary").spawn(Taker)
        pid = await victim.pid()
        await queue.add_many(list(range(300)))
        await victim.work.tell(queue, 8)
        await until(lambda figures: figures.finished >= 20, queue)
        os.kill(pid, signal.SIGKILL)
        before = await until(lambda figures: figures.gone == 1, queue)
        taker = await system.options(place="process").spawn(Taker)
        await queue.close()
        worked = await taker.work(queue, 8)

        assert before.held == 0
        assert worked == list(range(before.finished, 300))


@pytest.mark.parametrize("handler", ["keep", "have_one_below_keep"])
async def test_killed_process_gives_back_what_its_actors_hold(handler: str) -> None:
    async with la.open_system() as system, la.supervise() as supervisor:
        queue = await system.spawn(la.TaskQueue[int])
        await queue.add_many(list(range(10)))
        taker = await supervisor.options(place="process").spawn(Taker)
        assert await getattr(taker, handler)(queue, 4) == 4
        os.kill(await taker.pid(), signal.SIGKILL)
        await until(lambda figures: figures.gone == 1, queue)

        assert await getattr(taker, handler)(queue, 10) == 10  # by the process that was started in its place
        assert (await queue.states())["keeper"].tasks == list(range(10))


async def test_queue_in_a_process_hears_of_workers_in_others() -> None:
    async with la.open_system() as system:
        queue = await system.options(place="process").spawn(la.TaskQueue[int])
        await queue.add_many(list(range(10)))
        async with la.supervise() as supervisor:
            taker = await supervisor.options(place="process").spawn(Taker)
            assert await taker.keep(queue, 4) == 4
            os.kill(await taker.pid(), signal.SIGKILL)
            await until(lambda figures: figures.gone == 1, queue)
            figures = await queue.statistics()

        assert (figures.ready, figures.held, figures.given_back) == (10, 0, 4)


async def test_worker_that_was_killed_goes_on_when_it_is_started_again() -> None:
    async with la.open_system() as system, la.supervise(max_restarts=3) as supervisor:
        queue = await system.spawn(la.TaskQueue[int])
        await queue.add_many(list(range(600)))
        server = await supervisor.options(place="process").spawn(Server, queue)
        for finished in (20, 60, 100):
            await until(lambda figures, finished=finished: figures.finished > finished, queue)  # type: ignore[misc]
            os.kill(await server.pid(), signal.SIGKILL)
        with anyio.fail_after(10):
            await queue.done()

        assert (await queue.statistics()).finished == 600
        await queue.close()


async def test_arrays_stay_where_they_are_while_their_refs_are_tasks() -> None:
    async with la.open_system() as system:
        queue = await system.spawn(la.TaskQueue[la.ObjectRef[Array]])
        adder = await system.options(place="process").spawn(Adder)
        for number in range(4):
            await queue.add(await la.put(np.full(10_000, number)))
        await queue.close()

        assert await adder.work(queue) == [0, 10_000, 20_000, 30_000]
