"""A worker that goes through a queue finishes what it did and gives back the rest, however it ends."""

from __future__ import annotations

import anyio
import pytest

import lightactors as la
from lightactors.errors import ConfigurationError
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, settle


@la.actor
class Squarer:
    """Squares what it finds in a queue."""

    def __init__(self, stays_at: int | None = None, gate: Gate | None = None) -> None:
        self.squares: list[int] = []
        self.stays_at = stays_at
        self.gate = gate or Gate()

    @la.handler(interleaved=True)
    async def work(self, queue: la.TaskQueue[int], at_once: int = 1) -> list[int]:
        async with la.tasks_of(queue, at_once=at_once) as tasks:
            async for number in tasks:
                if number == self.stays_at:
                    await self.gate.wait()
                if number < 0:
                    raise Oops(number)
                self.squares.append(number**2)
        return self.squares


async def counts(queue: la.TaskQueue[int]) -> tuple[int, int, int]:
    figures = await queue.statistics()
    return figures.ready, figures.held, figures.finished


async def test_workers_share_a_queue_until_it_is_closed_and_done() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        queue: la.TaskQueue[int] = await system.spawn(la.TaskQueue[int])
        work = [Later(tg, (await system.spawn(Squarer)).work, queue) for _ in range(3)]
        await settle()
        await queue.add_many(list(range(30)))
        await queue.done()
        await queue.close()

        squares = [square for one in work for square in await one.done()]  # type: ignore[union-attr]
        assert sorted(squares) == [number**2 for number in range(30)]
        assert await counts(queue) == (0, 0, 30)


async def test_error_gives_back_the_task_under_way_and_those_not_begun() -> None:
    async with la.open_system() as system:
        queue = await system.spawn(la.TaskQueue[int])
        await queue.add(1, 2, -3, 4, 5)
        worker = await system.spawn(Squarer)
        with pytest.raises(Oops):
            await worker.work(queue, at_once=4)

        assert await counts(queue) == (3, 0, 2)
        await queue.join("next")
        assert [claim.task for claim in await queue.claim("next", 9)] == [-3, 4, 5]


async def test_cancelled_worker_gives_back_what_it_holds() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        queue = await system.spawn(la.TaskQueue[int])
        await queue.add(1, 2, 3)
        worker = await system.spawn(Squarer, stays_at=2, gate=gate)
        work = Later(tg, worker.work, queue, 3)
        await gate.reached()
        assert [state.tasks for state in (await queue.states()).values()] == [[1, 2, 3]]
        await work.cancel()
        await settle()

        assert await counts(queue) == (2, 0, 1)


async def test_worker_that_is_cancelled_while_it_waits_leaves_the_line() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        queue = await system.spawn(la.TaskQueue[int])
        work = Later(tg, (await system.spawn(Squarer)).work, queue)
        await settle()
        await work.cancel()
        await settle()

        assert (await queue.statistics()).claims_waiting == 0
        assert [state.status for state in (await queue.states()).values()] == ["gone"]


async def test_worker_survives_the_end_of_its_queue() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        queue = await system.spawn(la.TaskQueue[int])
        work = Later(tg, (await system.spawn(Squarer)).work, queue)
        await settle()
        await la.stop(queue)

        assert isinstance(await work.done(), Exception)


async def test_worker_that_was_taken_for_gone_joins_again() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        queue = await system.spawn(la.TaskQueue[int])
        await queue.add(1, 2)
        worker = await system.spawn(Squarer, stays_at=1, gate=gate)
        work = Later(tg, worker.work, queue)
        await gate.reached()
        (name,) = await queue.states()
        await queue.leave(name)  # as when its link is lost
        gate.open()
        await queue.done()
        await queue.close()

        assert await work.done() == [1, 1, 4]  # at least once
        assert await counts(queue) == (0, 0, 2)


async def test_program_works_through_a_queue_under_a_name() -> None:
    async with la.open_system() as system:
        queue = await system.spawn(la.TaskQueue[int])
        await queue.add(1, 2, 3)
        async with la.tasks_of(queue, worker="me", at_once=2) as tasks:
            async for number in tasks:
                if number == 3:
                    break

        assert await counts(queue) == (1, 0, 2)


async def test_program_without_a_name_is_told_to_take_one() -> None:
    async with la.open_system() as system:
        queue = await system.spawn(la.TaskQueue[int])
        with pytest.raises(ConfigurationError, match="worker="):
            async with la.tasks_of(queue):
                pass
