"""A handler serves one message at a time, in the order in which each sender sent, on every path alike."""

from __future__ import annotations

import traceback
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import UnknownHandler, WrongCall
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, Porter, settle


@la.actor
class Turns:
    """Records when each turn begins and ends."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @la.handler
    async def slow(self, name: str) -> None:
        self.log.append(f"{name} begins")
        await anyio.sleep(1)
        self.log.append(f"{name} ends")

    @la.handler
    def fast(self, name: str) -> None:
        self.log.append(name)

    @la.handler
    def read(self) -> list[str]:
        return self.log


async def test_one_message_at_a_time_is_handled() -> None:
    async with la.open_system() as system:
        turns = await system.spawn(Turns)
        async with anyio.create_task_group() as tg:
            for name in "ab":
                tg.start_soon(turns.slow, name)
                tg.start_soon(turns.fast, name.upper())

        log = await turns.read()
        for name in "ab":
            assert log.index(f"{name} ends") == log.index(f"{name} begins") + 1


async def test_plain_ask_of_a_busy_actor_waits_for_its_turn() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        held = Later(tg, porter.hold, gate)
        await gate.reached()
        noted = Later(tg, porter.note, "later")
        await settle()
        assert noted.outcome == "pending"
        gate.open()
        assert await held.done() == "held"
        assert await noted.done() == 2


async def test_tells_asks_and_inline_asks_of_one_sender_stay_in_order() -> None:
    async with la.open_system() as system:
        porter = await system.options(mailbox=3).spawn(Porter)
        for number in range(0, 100, 4):
            await porter.note.tell(number)
            await porter.note(number + 1)
            porter.note.tell_nowait(number + 2)
            await porter.note_slowly(number + 3)

        assert await porter.read() == list(range(100))


async def test_each_of_several_senders_keeps_its_order() -> None:
    async with la.open_system() as system:
        porter = await system.options(mailbox=5).spawn(Porter)

        async def send(sender: int) -> None:
            for number in range(0, 60, 3):
                await porter.note.tell((sender, number))
                await porter.note((sender, number + 1))
                await porter.note.tell((sender, number + 2))

        async with anyio.create_task_group() as tg:
            for sender in range(4):
                tg.start_soon(send, sender)

        log = await porter.read()
        for sender in range(4):
            assert [number for who, number in log if who == sender] == list(range(60))


async def test_ask_returns_what_the_handler_returned_on_every_path() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        inline = await porter.note("inline")
        tg.start_soon(porter.hold, gate)
        await gate.reached()
        queued = Later(tg, porter.note, "queued")
        gate.open()

        assert inline == 1
        assert await queued.done() == 3


@pytest.mark.parametrize("path", ["inline", "queued", "async"])
async def test_handlers_error_arrives_at_the_asker_with_the_handlers_traceback(path: str) -> None:
    gate = Gate()
    error = Oops("no")
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        if path == "queued":
            tg.start_soon(porter.hold, gate)
            await gate.reached()
        asked = Later(tg, porter.fail_slowly if path == "async" else porter.fail, error)
        gate.open()

        assert await asked.done() is error
        frames = traceback.extract_tb(error.__traceback__)
        assert frames[-1].name == ("fail_slowly" if path == "async" else "fail")


async def test_actor_lives_on_after_a_failed_ask() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        with pytest.raises(Oops):
            await porter.fail(Oops())
        with pytest.raises(Oops):
            await porter.fail_slowly(Oops())

        assert await porter.note(1) == 1
        assert la.statistics(porter).failed == 2


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("arguments", [(), (1, 2)])
async def test_ask_with_wrong_arguments_is_refused_at_the_caller(busy: bool, arguments: tuple[int, ...]) -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter: Any = await system.spawn(Porter)
        if busy:
            tg.start_soon(porter.hold, gate)
            await gate.reached()
        with pytest.raises(WrongCall, match=r"Porter\.note\(\): .* note\(entry: object\) -> int"):
            await porter.note(*arguments)
        gate.open()


async def test_wrong_arguments_are_refused_alike_by_tell_and_streams_and_keywords() -> None:
    async with la.open_system() as system:
        porter: Any = await system.spawn(Porter)
        with pytest.raises(WrongCall):
            await porter.note.tell()
        with pytest.raises(WrongCall):
            porter.note.tell_nowait(1, 2)
        with pytest.raises(WrongCall):
            porter.count()
        with pytest.raises(WrongCall):
            await porter.note(entri=1)
        with pytest.raises(WrongCall):
            await porter.hold()
        with pytest.raises(TypeError):
            await porter.note.tell(entri=1)

        assert la.statistics(porter).failed == 0
        assert await porter.note(entry=1) == 1


async def test_type_error_inside_a_handler_is_the_handlers_own() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        with pytest.raises(TypeError, match=r"^mine$") as caught:
            await porter.fail(TypeError("mine"))

        assert not isinstance(caught.value, WrongCall)


async def test_defaults_keywords_and_variable_arguments_reach_the_handler() -> None:
    @la.actor
    class Echo:
        @la.handler
        def echo(self, /, a: int, b: int = 2, *rest: int, c: int = 3, **others: int) -> tuple[Any, ...]:
            return a, b, rest, c, others

        @la.handler
        def named(self, *, only: int) -> int:
            return only

    async with la.open_system() as system:
        echo = await system.spawn(Echo)
        assert await echo.echo(1) == (1, 2, (), 3, {})
        assert await echo.echo(1, 5, 6, c=7, d=8) == (1, 5, (6,), 7, {"d": 8})
        assert await echo.named(only=4) == 4
        with pytest.raises(WrongCall):
            await echo.named()  # type: ignore[call-arg]


async def test_long_run_of_inline_asks_lets_others_have_turns() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                await anyio.lowlevel.checkpoint()
                others += 1

        tg.start_soon(other)
        for _ in range(1000):
            await porter.note(1)
        tg.cancel_scope.cancel()

    assert others > 5


async def test_long_run_of_inline_asks_can_be_cancelled() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        with anyio.CancelScope() as scope:
            scope.cancel()
            for _ in range(1000):
                await porter.note(1)

        assert scope.cancelled_caught
        assert len(await porter.read()) < 100


async def test_long_queue_lets_others_have_turns() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        for number in range(1000):
            porter.note.tell_nowait(number)
        passes = 0
        while la.statistics(porter).mailbox:
            await anyio.lowlevel.checkpoint()
            passes += 1

        assert passes > 5


async def test_handler_may_tell_its_own_actor_without_waiting() -> None:
    @la.actor
    class Looper:
        def __init__(self) -> None:
            self.rounds = 0

        @la.handler
        def loop(self, rounds: int) -> int:
            self.rounds += 1
            if rounds > 1:
                la.ref_of(self).loop.tell_nowait(rounds - 1)
            return self.rounds

        @la.handler
        async def read(self) -> int:
            return self.rounds

    async with la.open_system() as system:
        looper = await system.spawn(Looper)
        assert await looper.loop(3) == 1
        await settle()
        assert await looper.read() == 3


async def test_ref_has_the_handlers_and_nothing_else() -> None:
    async with la.open_system() as system:
        porter: Any = await system.spawn(Porter)
        assert "note" in dir(porter)
        assert "log" not in dir(porter)
        with pytest.raises(UnknownHandler, match="did you mean 'note'"):
            _ = porter.noet
        with pytest.raises(UnknownHandler, match="'log' belongs to the actor alone"):
            _ = porter.log
        with pytest.raises(AttributeError, match="'log' belongs to the actor alone"):
            porter.log = []
        assert not hasattr(porter, "__deepcopy__")


async def test_looking_for_a_handler_runs_no_property_of_the_actor() -> None:
    @la.actor
    class Shy:
        @property
        def secret(self) -> int:
            raise RuntimeError("looked at")

    async with la.open_system() as system:
        shy: Any = await system.spawn(Shy)
        with pytest.raises(UnknownHandler, match="belongs to the actor alone"):
            _ = shy.secret


async def test_handler_and_its_ref_say_what_they_are() -> None:
    async with la.open_system() as system:
        porter = await system.options(name="p").spawn(Porter)
        assert repr(porter) == "<ref Porter local/p#1 running>"
        assert repr(porter.note) == f"<handler Porter.note() of {porter!r}>"
        assert repr(porter.count) == f"<stream handler Porter.count() of {porter!r}>"
        assert repr(Porter.note) == "<handler Porter.note()>"


async def test_plain_object_serves_the_same_calls_directly() -> None:
    gate = Gate()
    gate.open()
    porter = Porter()
    assert await porter.note(1) == 1
    assert await porter.hold(gate) == "held"
    assert await porter.wait(gate) == "waited"
    await porter.note.tell(2)
    porter.note.tell_nowait(3)
    assert [item async for item in porter.count(2)] == [0, 1]
    assert porter.log == [1, "held", "asked to wait", 2, 3, 0, 1, "closed"]
    with pytest.raises(WrongCall, match="use tell"):
        porter.hold.tell_nowait(gate)


async def test_handled_and_failed_messages_are_counted_alike_on_both_paths() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        for handler in porter.fail, porter.fail_slowly:
            with pytest.raises(Oops):
                await handler(Oops())
        await porter.note(1)

        statistics = la.statistics(porter)
        assert (statistics.handled, statistics.failed) == (3, 2)
