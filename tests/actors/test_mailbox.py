"""A mailbox is bounded: who finds it full waits, everybody is served, and what is not handled is accounted for."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import pytest

import lightactors as la
from lightactors.errors import ActorNotRunning, MailboxFull
from lightactors.testing import Gate
from tests.actors.cast import Later, Porter, settle


async def full_porter(system: la.System, gate: Gate) -> Porter:
    """Spawn a porter that is held, with a message in its mailbox, which has room for no other."""
    porter = await system.options(mailbox=1).spawn(Porter)
    await porter.hold.tell(gate)
    await gate.reached()
    await porter.note.tell("fits")
    return porter


async def test_tell_waits_for_room() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await full_porter(system, gate)
        waiting = Later(tg, porter.note.tell, "waits")
        await settle()
        assert waiting.outcome == "pending"
        assert la.statistics(porter).senders_waiting == 1
        gate.open()
        assert await waiting.done() is None

        assert await porter.read() == ["held", "fits", "waits"]


async def test_ask_waits_for_room() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await full_porter(system, gate)
        asked = Later(tg, porter.note, "waits")
        await settle()
        assert la.statistics(porter).senders_waiting == 1
        gate.open()

        assert await asked.done() == 3


async def test_tell_nowait_raises_when_there_is_no_room() -> None:
    gate = Gate()
    async with la.open_system() as system:
        porter = await system.options(mailbox=2).spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        porter.note.tell_nowait(1)
        porter.note.tell_nowait(2)
        with pytest.raises(MailboxFull, match="holds 2 messages") as caught:
            porter.note.tell_nowait(3)
        gate.open()

        assert caught.value.message == "Porter.note(3)"
        assert await porter.read() == ["held", 1, 2]


async def test_a_thousand_messages_may_wait_unless_said_otherwise() -> None:
    gate = Gate()
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        for number in range(1000):
            porter.note.tell_nowait(number)
        with pytest.raises(MailboxFull):
            porter.note.tell_nowait(1000)
        gate.open()


async def test_infinite_mailbox_always_has_room() -> None:
    gate = Gate()
    async with la.open_system() as system:
        porter = await system.options(mailbox=math.inf).spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        for number in range(3000):
            porter.note.tell_nowait(number)
        gate.open()
        assert len(await porter.read()) == 3001


@pytest.mark.parametrize("capacity", [1, 2, 5])
async def test_all_waiting_senders_are_served(capacity: int) -> None:
    async with la.open_system() as system:
        porter = await system.options(mailbox=capacity).spawn(Porter)
        async with anyio.create_task_group() as tg:
            for number in range(100):
                tg.start_soon(porter.note.tell, number)

        assert sorted(await porter.read()) == list(range(100))


async def test_greedy_sender_does_not_starve_another() -> None:
    async with la.open_system() as system:
        porter = await system.options(mailbox=1).spawn(Porter)

        async def send_for_ever(name: str) -> None:
            while True:
                await porter.note.tell(name)

        async with anyio.create_task_group() as tg:
            for name in "abcd":
                tg.start_soon(send_for_ever, name)
            for _ in range(300):
                await anyio.lowlevel.checkpoint()
            tg.cancel_scope.cancel()

        log = await porter.read()
        assert {log.count(name) > len(log) / 20 for name in "abcd"} == {True}


async def test_sender_cancelled_while_it_waits_leaves_no_message() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await full_porter(system, gate)
        impatient = Later(tg, porter.note.tell, "never")
        patient = Later(tg, porter.note.tell, "waits")
        await settle()
        await impatient.cancel()
        assert la.statistics(porter).senders_waiting == 1
        gate.open()
        await patient.done()

        assert await porter.read() == ["held", "fits", "waits"]


async def test_sender_woken_and_cancelled_at_once_does_not_take_the_room_with_it() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await full_porter(system, gate)
        senders = [Later(tg, porter.note.tell, number) for number in range(4)]
        await settle()
        gate.open()
        tg.start_soon(senders[0].cancel)
        tg.start_soon(senders[1].cancel)
        for sender in senders[2:]:
            await sender.done()

        assert {2, 3} <= set(await porter.read())


async def test_waiting_senders_are_refused_when_the_actor_stops() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await full_porter(system, gate)
        waiting = Later(tg, porter.note.tell, "never")
        await settle()
        stopping = Later(tg, la.stop, porter)
        refused = await waiting.done()
        assert isinstance(refused, ActorNotRunning)
        assert refused.message == "Porter.note('never')"
        gate.open()
        await stopping.done()


async def tell_nowait(porter: Porter) -> None:
    porter.note.tell_nowait(1)


@pytest.mark.parametrize("send", [lambda porter: porter.note(1), lambda porter: porter.note.tell(1), tell_nowait])
async def test_nothing_can_be_sent_to_a_stopped_actor(send: Callable[[Porter], Awaitable[object]]) -> None:
    async with la.open_system() as system:
        porter = await system.options(name="p").spawn(Porter)
        await la.stop(porter)
        with pytest.raises(ActorNotRunning, match="'p' is not running; spawn it") as caught:
            await send(porter)

        assert caught.value.message == "Porter.note(1)"


async def test_told_messages_that_nobody_will_handle_are_dead_letters() -> None:
    gate = Gate()
    async with la.open_system(grace=1) as system, anyio.create_task_group() as tg:
        porter = await system.options(name="p").spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        await porter.note.tell(1)
        await porter.note.tell(entry=2)
        asked = Later(tg, porter.note, 3)
        await settle()
        assert await la.stop(porter) is la.Rung.INTERRUPT

        assert system.statistics().dead_letters == 2
        assert system.dead_letters == [
            la.DeadLetter("local/p", "Porter.note(1)"),
            la.DeadLetter("local/p", "Porter.note(entry=2)"),
        ]
        refused = await asked.done()
        assert isinstance(refused, ActorNotRunning)
        assert refused.message == "Porter.note(3)"


async def test_only_the_last_hundred_dead_letters_are_kept_but_all_are_counted() -> None:
    gate = Gate()
    async with la.open_system(grace=1) as system:
        porter = await system.spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        for number in range(150):
            await porter.note.tell(number)
        await la.stop(porter)

        assert system.statistics().dead_letters == 150
        assert [letter.message for letter in system.dead_letters] == [f"Porter.note({n})" for n in range(50, 150)]


async def test_signals_overtake_messages() -> None:
    gate = Gate()

    @la.actor
    class Watcher:
        def __init__(self) -> None:
            self.log: list[str] = []

        @la.handler
        async def watch(self, ref: Porter) -> None:
            la.watch(ref)

        @la.handler
        async def hold(self) -> None:
            await gate.wait()

        @la.handler
        def note(self, text: str) -> None:
            self.log.append(text)

        @la.handler
        def read(self) -> list[str]:
            return self.log

        def on_terminated(self, terminated: la.Terminated) -> None:
            self.log.append("signal")

    async with la.open_system() as system:
        watcher = await system.spawn(Watcher)
        porter = await system.spawn(Porter)
        await watcher.watch(porter)
        await watcher.hold.tell()
        await gate.reached()
        await watcher.note.tell("message")
        await la.stop(porter)
        gate.open()

        assert await watcher.read() == ["signal", "message"]


async def test_statistics_tell_what_waits() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.options(name="p", mailbox=2).spawn(Porter)
        stay = Later(tg, porter.stay, gate)
        await gate.reached()
        hold = Gate()
        await porter.hold.tell(hold)
        await hold.reached()
        await porter.note.tell(1)
        await porter.note.tell(2)
        told = Later(tg, porter.note.tell, 3)
        await settle()

        assert la.statistics(porter) == la.Statistics(
            name="p",
            state="running",
            place="task",
            mailbox=2,
            capacity=2,
            senders_waiting=1,
            interleaved=1,
            handled=2,
            failed=0,
            restarts=0,
            children=0,
        )
        hold.open()
        gate.open()
        await told.done()
        await stay.done()
