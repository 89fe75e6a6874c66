"""Cancelling an ask cancels its handler, wherever the message is; the actor goes on with the next one."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.testing import Gate
from tests.actors.cast import Later, Porter, gathered, settle


async def test_cancelled_ask_cancels_an_async_handler() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        held = Later(tg, porter.hold, gate)
        await gate.reached()
        await held.cancel()

        assert await porter.note("next") == 2
        assert await porter.read() == ["cancelled", "next"]


async def test_cancelled_ask_does_not_touch_messages_behind_it() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        held = Later(tg, porter.hold, gate)
        await gate.reached()
        second = Later(tg, porter.note_slowly, 2)
        await settle()
        await porter.note.tell(3)
        third = Later(tg, porter.note_slowly, 4)
        await settle()
        await held.cancel()
        await second.done()
        await third.done()

        assert await porter.read() == ["cancelled", 2, 3, 4]


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("handler", ["stay", "wait"])
async def test_cancelled_ask_cancels_an_interleaved_handler(handler: str, busy: bool) -> None:
    gate, hold = Gate(), Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        if busy:
            tg.start_soon(porter.hold, hold)
            await hold.reached()
        asked = Later(tg, getattr(porter, handler), gate)
        await settle()
        hold.open()
        await gate.reached()
        await asked.cancel()
        await settle()

        assert (await porter.read())[-1] == "cancelled"
        assert la.statistics(porter).interleaved == 0


async def test_cancelled_ask_that_is_still_queued_is_skipped() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        asks = [Later(tg, handler, 1) for handler in (porter.note, porter.note_slowly)]
        await settle()
        for ask in asks:
            await ask.cancel()
        gate.open()

        assert await porter.read() == ["held"]


async def test_cancelled_consumer_cancels_a_step_of_its_stream() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        consumed = Later(tg, gathered, porter.count_through, gate, 3)
        await gate.reached()
        await consumed.cancel()
        await settle()

        assert await porter.read() == ["closed"]


async def test_deadline_is_a_scope_around_the_ask() -> None:
    gate = Gate()
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(3):
                await porter.hold(gate)

        assert anyio.current_time() == pytest.approx(3)
        assert await porter.read() == ["cancelled"]


async def test_deadline_may_pass_while_the_ask_waits_for_room() -> None:
    gate = Gate()
    async with la.open_system() as system:
        porter = await system.options(mailbox=1).spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        await porter.note.tell(1)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(3):
                await porter.note(2)
        gate.open()

        assert await porter.read() == ["held", 1]


async def test_handler_may_swallow_its_cancellation_and_the_actor_goes_on() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        shrugging = Later(tg, porter.shrug_off, gate)
        await gate.reached()
        await shrugging.cancel()

        assert await porter.note_slowly("next") == 2
        assert await porter.read() == ["shrugged", "next"]


async def test_handler_may_finish_before_it_hears_of_its_cancellation() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        resisting = Later(tg, porter.resist, gate)
        await gate.reached()
        await resisting.cancel()
        next_one = Later(tg, porter.note_slowly, "next")
        await settle()
        gate.open()

        assert await next_one.done() == 2
        assert await porter.read() == ["resisted", "next"]


async def test_cancellation_travels_down_a_chain_of_asks() -> None:
    @la.actor
    class Chain:
        def __init__(self, below: Any) -> None:
            self.below = below

        @la.handler
        async def hold(self, gate: Gate) -> str:
            held: str = await self.below.hold(gate)
            return held

    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        top = await system.spawn(Chain, await system.spawn(Chain, porter))
        asked = Later(tg, top.hold, gate)
        await gate.reached()
        await asked.cancel()
        await settle()

        assert await porter.read() == ["cancelled"]


async def test_reply_and_cancellation_at_the_same_moment_lose_nothing() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        for _ in range(20):
            gate = Gate()
            held = Later(tg, porter.hold, gate)
            await gate.reached()
            gate.open()
            await held.cancel()
        await settle()

        assert await porter.note_slowly("next") == 21
