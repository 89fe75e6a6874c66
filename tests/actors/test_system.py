"""A system is the root of a tree: nothing outlives the block that opened it."""

from __future__ import annotations

import anyio
import pytest

import lightactors as la
from lightactors.testing import Gate
from tests.actors.cast import Porter, Stopper, settle


async def test_nothing_outlives_the_block() -> None:
    gate = Gate()
    tasks = len(anyio.get_running_tasks())
    async with la.open_system(grace=1) as system:
        porter = await system.spawn(Porter)
        await porter.stay.tell(gate)
        await porter.hold.tell(gate)
        await gate.reached()
    await settle()

    assert len(anyio.get_running_tasks()) == tasks
    assert not la.is_running(porter)
    assert system.children == {}


async def test_block_that_is_cancelled_stops_its_actors() -> None:
    log: list[str] = []
    with anyio.move_on_after(1):
        async with la.open_system() as system:
            await system.spawn(Stopper, "stopped", log)
            await anyio.sleep_forever()

    assert log == ["stopped"]


async def test_block_that_fails_stops_its_actors() -> None:
    log: list[str] = []

    async def fail() -> None:
        async with la.open_system() as system:
            await system.spawn(Stopper, "stopped", log)
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (it has no text)
        await fail()
    assert log == ["stopped"]


async def test_systems_may_be_open_side_by_side_and_nested() -> None:
    async with la.open_system("a") as a, la.open_system("b") as b:
        one = await a.options(name="x").spawn(Porter)
        two = await b.options(name="x").spawn(Porter)
        assert one != two
        assert repr(one) == "<ref Porter a/x#1 running>"
        assert repr(two) == "<ref Porter b/x#1 running>"


async def test_system_says_what_it_holds() -> None:
    async with la.open_system("home") as system:
        await system.spawn(Porter)
        assert repr(system) == "<system home: 1 actors>"
        assert system.statistics().actors == 1
        assert system.statistics().dead_letters == 0


async def test_system_may_be_stopped_before_its_block_ends() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        await system.spawn(Stopper, "stopped", log)
        await system.stop()
        assert log == ["stopped"]
    assert log == ["stopped"]


async def test_state_of_an_actor_can_be_read_all_its_life() -> None:
    gate = Gate()
    states: list[str] = []

    @la.actor
    class Reporter:
        async def on_start(self) -> None:
            states.append(la.statistics(self).state)

        async def on_stop(self) -> None:
            states.append(la.statistics(self).state)

        @la.handler
        async def hold(self) -> None:
            await gate.wait()

    async with la.open_system() as system, anyio.create_task_group() as tg:
        reporter = await system.spawn(Reporter)
        states.append(la.statistics(reporter).state)
        tg.start_soon(reporter.hold)
        await gate.reached()
        tg.start_soon(la.stop, reporter)
        await settle()
        states.append(la.statistics(reporter).state)
        gate.open()
        await la.watch(reporter)
        states.append(la.statistics(reporter).state)

    assert states == ["starting", "running", "draining", "leaving", "stopped"]
