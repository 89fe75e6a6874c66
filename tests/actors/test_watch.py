"""Whoever watches an actor is told of its end."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

import lightactors as la
from lightactors.actors.ref import cell_of
from lightactors.testing import Gate
from tests.actors.cast import Oops, Porter, settle


async def test_watch_brings_the_end() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        watched = la.watch(porter)
        await la.stop(porter)

        assert await watched == la.Terminated(porter, la.Reason.STOPPED)


async def test_watch_of_an_actor_that_has_ended_brings_its_end_at_once() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        await la.stop(porter)

        assert await la.watch(porter) == la.Terminated(porter, la.Reason.STOPPED)


async def test_watch_may_be_awaited_by_several_and_again() -> None:
    ends: list[la.Terminated] = []
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        watched = la.watch(porter)

        async def wait() -> None:
            ends.append(await watched)

        tg.start_soon(wait)
        tg.start_soon(wait)
        await settle()
        assert ends == []
        await la.stop(porter)
        await wait()
        await settle()

        assert ends == [la.Terminated(porter, la.Reason.STOPPED)] * 3


async def test_end_says_that_the_actor_was_interrupted() -> None:
    gate = Gate()
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        await la.stop(porter, grace=1)

        assert (await la.watch(porter)).reason is la.Reason.INTERRUPTED


async def test_end_says_what_the_actor_failed_of() -> None:
    @la.actor
    class Owner:
        def __init__(self) -> None:
            self.ends: list[la.Terminated] = []

        async def on_start(self) -> None:
            child = await la.spawn(Porter)
            la.watch(child)
            await child.fail.tell(Oops("child"))

        def on_terminated(self, terminated: la.Terminated) -> None:
            self.ends.append(terminated)

        @la.handler
        def read(self) -> list[la.Terminated]:
            return self.ends

    async with la.open_system() as system:
        owner = await system.spawn(Owner)
        await settle()
        (end,) = await owner.read()

        assert end.reason is la.Reason.FAILED
        assert isinstance(end.error, Oops)
        assert not la.is_running(end.ref)


@la.actor
class Watcher:
    """Collects the ends it is told of."""

    def __init__(self) -> None:
        self.ends: list[la.Terminated] = []

    @la.handler
    def watch(self, ref: object) -> None:
        la.watch(ref)

    @la.handler
    async def watch_and_wait(self, ref: object) -> la.Terminated:
        return await la.watch(ref)

    @la.handler
    def read(self) -> list[la.Terminated]:
        return self.ends

    async def on_terminated(self, terminated: la.Terminated) -> None:
        await anyio.lowlevel.checkpoint()
        self.ends.append(terminated)


async def test_actor_is_told_by_signal_of_whom_it_watches() -> None:
    async with la.open_system() as system:
        watcher = await system.spawn(Watcher)
        porter = await system.spawn(Porter)
        await watcher.watch(porter)
        await la.stop(porter)
        await settle()

        assert await watcher.read() == [la.Terminated(porter, la.Reason.STOPPED)]


async def test_actor_is_told_of_an_actor_that_had_ended_before() -> None:
    async with la.open_system() as system:
        watcher = await system.spawn(Watcher)
        porter = await system.spawn(Porter)
        await la.stop(porter)
        await watcher.watch(porter)
        await settle()

        assert await watcher.read() == [la.Terminated(porter, la.Reason.STOPPED)]


async def test_actor_may_wait_for_an_end_in_a_turn() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        watcher = await system.spawn(Watcher)
        porter = await system.spawn(Porter)

        async def stop_later() -> None:
            await anyio.sleep(1)
            await la.stop(porter)

        tg.start_soon(stop_later)
        assert (await watcher.watch_and_wait(porter)).reason is la.Reason.STOPPED


async def test_actor_that_ended_while_watching_is_told_nothing() -> None:
    async with la.open_system() as system:
        watcher = await system.spawn(Watcher)
        porter = await system.spawn(Porter)
        await watcher.watch(porter)
        await la.stop(watcher)
        await la.stop(porter)


async def test_watcher_does_not_remember_children_that_have_ended() -> None:
    @la.actor
    class Nursery:
        @la.handler
        async def raise_one(self) -> None:
            child = await la.spawn(Porter)
            la.watch(child)
            await la.stop(child)

        def on_terminated(self, terminated: la.Terminated) -> None:
            pass

    async with la.open_system() as system:
        nursery = await system.options(name="n").spawn(Nursery)
        await nursery.raise_one()
        await nursery.raise_one()

        assert not system.children["n"].watched


@pytest.mark.parametrize("wrong", [None, Porter()])
async def test_watch_takes_refs_only(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"watch\(\) takes a ref"):
        la.watch(wrong)


async def test_watchers_of_a_living_actor_leave_nothing_with_it() -> None:
    @la.actor
    class Watcher:
        async def on_start(self) -> None:
            la.watch(watched)
            la.watch(watched)

        async def on_terminated(self, terminated: la.Terminated) -> None: ...

    async with la.open_system():
        watched = await la.spawn(Porter)
        watchers = cell_of(watched, "test")._watchers or []  # noqa: SLF001 (nothing public counts them)
        before = len(watchers)
        for _ in range(10):
            await la.stop(await la.spawn(Watcher))
            with anyio.move_on_after(1):
                await la.watch(watched)
        assert len(watchers) == before


async def test_late_watch_on_an_abandoned_actor_says_so() -> None:
    @la.actor
    class Stuck:
        @la.handler
        async def hold(self) -> None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(100)

    async with la.open_system():
        stuck = await la.spawn(Stuck)
        await stuck.hold.tell()
        await settle()
        assert await la.stop(stuck) is la.Rung.ABANDON
        assert (await la.watch(stuck)).reason is la.Reason.ABANDONED
        await anyio.sleep(100)
        assert (await la.watch(stuck)).reason is la.Reason.ABANDONED
