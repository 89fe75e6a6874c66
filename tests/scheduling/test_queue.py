"""A queue of tasks hands them out in order, each to one worker at a time, and takes back what was lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup

import lightactors as la
from lightactors.errors import ConfigurationError, NameTaken, NotJoined
from lightactors.scheduling import ledger
from tests.actors.cast import Later, Oops, Porter, settle


@asynccontextmanager
async def queue_of(tasks: int, *workers: str) -> AsyncGenerator[la.TaskQueue[int]]:
    """Give a queue of that many tasks, and let workers join it."""
    async with la.open_system() as system:
        queue = await system.spawn(la.TaskQueue[int])
        await queue.add_many(list(range(tasks)))
        for worker in workers:
            await queue.join(worker)
        yield queue


async def claimed(queue: la.TaskQueue[int], worker: str, count: int = 1) -> list[int]:
    return [claim.task for claim in await queue.claim(worker, count)]


def waits(tg: TaskGroup, queue: la.TaskQueue[int], worker: str, count: int = 1) -> Later[list[int]]:
    return Later(tg, claimed, queue, worker, count)


# Order


async def test_tasks_are_claimed_in_the_order_they_were_added() -> None:
    async with queue_of(2, "w") as queue:
        await queue.add(2, 3)

        assert [*await claimed(queue, "w"), *await claimed(queue, "w", 9)] == [0, 1, 2, 3]


async def test_each_task_wakes_the_worker_that_waits_longest() -> None:
    async with queue_of(0, "a", "b", "c") as queue, anyio.create_task_group() as tg:
        claims = []
        for worker in "abc":
            claims.append(waits(tg, queue, worker))
            await settle()
        await queue.add(1, 2)
        await settle()

        assert [claim.outcome for claim in claims] == [[1], [2], "pending"]
        assert (await queue.statistics()).claims_waiting == 1
        await claims[2].cancel()


async def test_waiting_claim_takes_as_many_as_come_at_once() -> None:
    async with queue_of(0, "a", "b") as queue, anyio.create_task_group() as tg:
        first = waits(tg, queue, "a", 2)
        await settle()
        second = waits(tg, queue, "b", 2)
        await settle()
        await queue.add(1, 2, 3)

        assert (await first.done(), await second.done()) == ([1, 2], [3])


async def test_what_is_given_back_comes_first_in_its_old_order() -> None:
    async with queue_of(6, "a", "b", "c") as queue:
        early, late = await queue.claim("a", 2), await queue.claim("b", 2)
        await queue.give_back("a", [claim.number for claim in early])
        await queue.give_back("b", [claim.number for claim in reversed(late)])

        assert await claimed(queue, "c", 9) == [0, 1, 2, 3, 4, 5]


async def test_what_is_given_back_goes_to_who_waits() -> None:
    async with queue_of(1, "a", "b") as queue, anyio.create_task_group() as tg:
        (claim,) = await queue.claim("a")
        waiting = waits(tg, queue, "b")
        await settle()
        await queue.give_back("a", [claim.number])

        assert await waiting.done() == [0]


# Claims that come to nothing


async def test_cancelled_claim_leaves_the_line() -> None:
    async with queue_of(0, "a", "b") as queue, anyio.create_task_group() as tg:
        first = waits(tg, queue, "a")
        await settle()
        second = waits(tg, queue, "b")
        await settle()
        await first.cancel()
        await queue.add(1)

        assert await second.done() == [1]


async def test_claim_that_is_cancelled_as_it_is_served_gives_back_when_its_worker_leaves() -> None:
    async with queue_of(0, "a", "b") as queue, anyio.create_task_group() as tg:
        first = waits(tg, queue, "a")
        await settle()
        await queue.add(1)
        await first.cancel()
        await queue.leave("a")

        assert await claimed(queue, "b") == [1]


async def test_late_report_of_what_was_given_back_changes_nothing() -> None:
    async with queue_of(1, "a", "b") as queue:
        (lost,) = await queue.claim("a")
        await queue.leave("a")
        (again,) = await queue.claim("b")

        assert await queue.finish("a", [lost.number]) == 0
        assert await queue.finish("b", [lost.number]) == 0
        assert await queue.finish("b", [again.number, again.number]) == 1


async def test_claim_of_a_stranger_is_refused() -> None:
    async with queue_of(1, "gone") as queue:
        await queue.leave("gone")
        with pytest.raises(NotJoined, match="'stranger' has not joined this queue; join"):
            await queue.claim("stranger")
        with pytest.raises(NotJoined, match="'gone' is gone from this queue; join"):
            await queue.claim("gone")


async def test_claim_of_no_task_is_refused() -> None:
    async with queue_of(1, "w") as queue:
        with pytest.raises(ConfigurationError, match="count=0"):
            await queue.claim("w", 0)


async def test_worker_has_its_name_for_itself() -> None:
    async with queue_of(1, "w") as queue:
        with pytest.raises(NameTaken, match="'w' is at work on this queue already"):
            await queue.join("w")
        await queue.leave("w")
        await queue.join("w")


# The end


async def test_done_waits_for_what_is_held() -> None:
    async with queue_of(1, "w") as queue, anyio.create_task_group() as tg:
        done = Later(tg, queue.done)
        (claim,) = await queue.claim("w")
        await settle()
        assert done.outcome == "pending"
        await queue.finish("w", [claim.number])

        assert await done.done() is None


async def test_closed_queue_lets_claims_wait_until_all_is_finished() -> None:
    async with queue_of(1, "a", "b") as queue, anyio.create_task_group() as tg:
        (claim,) = await queue.claim("a")
        waiting = waits(tg, queue, "b")
        await queue.close()
        await settle()
        assert waiting.outcome == "pending"
        await queue.finish("a", [claim.number])

        assert await waiting.done() == []
        assert await queue.claim("b") == []


# States


async def test_states_tell_what_each_worker_is_at_and_for_how_long() -> None:
    async with queue_of(3, "idle", "busy", "gone") as queue:
        await anyio.sleep(1)
        await queue.claim("busy", 2)
        await queue.leave("gone")
        await anyio.sleep(2)

        assert await queue.states() == {
            "idle": la.WorkerState("idle", 3.0, []),
            "busy": la.WorkerState("busy", 2.0, [0, 1]),
            "gone": la.WorkerState("gone", 2.0, []),
        }


async def test_statistics_count_tasks_claims_and_workers() -> None:
    async with queue_of(4, "busy", "gone") as queue:
        await queue.claim("gone", 2)
        await queue.leave("gone")
        first, *_ = await queue.claim("busy", 3)
        await queue.finish("busy", [first.number])

        assert await queue.statistics() == la.QueueStatistics(
            ready=1, held=2, claims_waiting=0, idle=0, busy=1, gone=1, added=4, finished=1, given_back=2
        )


async def test_only_the_last_of_those_that_are_gone_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "GONE_KEPT", 2)
    async with queue_of(0, *"abcd") as queue:
        for worker in "abc":
            await queue.leave(worker)

        assert list(await queue.states()) == ["d", "b", "c"]


# Workers that are actors


async def test_end_of_its_actor_gives_back_what_a_worker_holds() -> None:
    async with queue_of(2, "other") as queue:
        actor = await la.spawn(Porter)
        await queue.join("worker", actor)
        await queue.claim("worker")
        await la.stop(actor)
        await settle()

        assert (await queue.states())["worker"].status == "gone"
        assert await claimed(queue, "other", 2) == [0, 1]


async def test_restart_of_its_actor_gives_back_what_a_worker_holds() -> None:
    async with queue_of(1, "other") as queue, la.supervise() as supervisor:
        actor = await supervisor.spawn(Porter)
        await queue.join("worker", actor)
        await queue.claim("worker")
        await actor.fail.tell(Oops("for good"))

        assert await actor.note(1) == 1  # by another incarnation
        assert await claimed(queue, "other") == [0]
        await queue.join("worker", actor)
        await la.stop(actor)
        await settle()
        assert (await queue.states())["worker"].status == "gone"


async def test_end_of_an_actor_is_nothing_to_who_has_taken_its_workers_name() -> None:
    async with queue_of(1) as queue:
        first, second = await la.spawn(Porter), await la.spawn(Porter)
        await queue.join("worker", first)
        await queue.leave("worker")
        await queue.join("worker", second)
        await la.stop(first)
        await settle()

        assert (await queue.states())["worker"].status == "idle"
