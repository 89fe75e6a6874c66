"""Pools of actors in threads and in processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Awaitable, Callable

import anyio
import pytest

import lightactors as la
from lightactors.errors import ActorNotRunning
from tests.actors.cast import Later
from tests.real_time.zoo import Worker

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@la.actor
class Blocker:
    """Blocks its thread until as many others do."""

    def __init__(self, barrier: threading.Barrier) -> None:
        self.barrier = barrier

    @la.handler
    def meet(self) -> int:
        self.barrier.wait(10)
        return threading.get_ident()

    @la.handler
    def ident(self) -> int:
        return threading.get_ident()

    @la.handler
    def fail(self) -> None:
        raise ValueError("blocker")


async def until(is_so: Callable[[], bool], seconds: float = 5) -> None:
    with anyio.fail_after(seconds):
        while not is_so():  # noqa: ASYNC110 (it happens in another thread or process)
            await anyio.sleep(0.005)


async def threads(met: list[Later[int]]) -> set[int]:
    idents = {await each.done() for each in met}
    assert all(isinstance(ident, int) for ident in idents)
    return {ident for ident in idents if isinstance(ident, int)}


def threads_of_actors() -> int:
    return sum(thread.name.startswith("actor ") for thread in threading.enumerate())


async def test_members_in_threads_block_side_by_side() -> None:
    async with la.open_system(), anyio.create_task_group() as tg:
        pool = await la.options(place="thread", restart="permanent").spawn_many(4, Blocker, threading.Barrier(4))
        router = pool.router()
        for _ in range(2):
            met = [Later(tg, router.meet) for _ in range(4)]
            assert len(await threads(met)) == 4
        await router.fail.tell()
        await until(lambda: pool.statistics().restarts == 1 and pool.statistics().running == 4)
        met = [Later(tg, router.meet) for _ in range(4)]
        assert len(await threads(met)) == 4
        await pool.resize(2)
        assert threads_of_actors() == 2
        assert await pool.stop() is la.Rung.DRAIN
        with pytest.raises(ActorNotRunning):
            await router.meet()
    assert threads_of_actors() == 0


async def test_member_whose_thread_is_blocked_gets_less_to_do() -> None:
    async with la.open_system(), anyio.create_task_group() as tg:
        barrier = threading.Barrier(2)
        pool = await la.options(place="thread").spawn_many(3, Blocker, barrier)
        router = pool.router("least_loaded")
        blocked = Later(tg, router.meet)
        await until(lambda: barrier.n_waiting == 1)
        others = {await router.ident() for _ in range(10)}
        barrier.wait()
        assert await blocked.done() not in others


async def test_router_may_be_used_from_other_threads() -> None:
    async with la.open_system():
        pool = await la.options(place="thread").spawn_many(3, Worker)
        router = pool.router()

        async def use() -> int:
            return [await router.add(1) for _ in range(300)][-1]

        user = await la.options(place="thread").spawn(User)
        await user.use(use)
        assert [await ref.add(0) for ref in pool] == [100, 100, 100]


@la.actor
class User:
    @la.handler
    async def use(self, function: Callable[[], Awaitable[object]]) -> None:
        await function()


async def test_members_in_processes_are_replaced_when_they_die() -> None:
    async with la.open_system():
        pool = await la.options(place="process", name="workers").spawn_many(2, Worker, 10)
        router = pool.router()
        pids = [await router.pid() for _ in range(2)]
        assert len({*pids, os.getpid()}) == 3
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda: pool.statistics().restarts == 1)
        assert {await router.add(0) for _ in range(4)} == {10}
        await until(lambda: pool.statistics().running == 2)
        again = [await router.pid() for _ in range(2)]
        assert pids[1] in again
        assert pids[0] not in again
        await pool.resize(3)
        assert len({await router.pid() for _ in range(3)}) == 3
        assert await pool.stop() is la.Rung.DRAIN
