"""A stream's consumer sets the pace, and its end, however it comes, ends the handler."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.actors.streams import AHEAD
from lightactors.errors import ActorNotRunning, ActorStopped, AskCycle
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, Porter, gathered, settle


@la.actor
class Source:
    """Streams of every kind; what they do on their way out goes into a log that outlives the actor."""

    def __init__(self, log: list[str] | None = None) -> None:
        self.log: list[str] = [] if log is None else log

    @la.handler
    async def fail_after(self, items: int) -> AsyncIterator[int]:
        for item in range(items):
            yield item
        raise Oops

    @la.handler
    async def nothing(self) -> AsyncIterator[int]:
        for item in range(0):
            yield item

    @la.handler
    async def count(self, end: int) -> AsyncIterator[int]:
        try:
            for item in range(end):
                yield item
        finally:
            self.log.append("closed")

    @la.handler(interleaved=True)
    async def count_aside(self, gate: Gate, end: int) -> AsyncIterator[int]:
        try:
            for item in range(end):
                await gate.wait()
                yield item
        finally:
            self.log.append("closed")

    @la.handler
    async def close_badly(self) -> AsyncIterator[int]:
        try:
            for item in range(100):
                yield item
        finally:
            raise Oops

    @la.handler
    async def close_never(self) -> AsyncIterator[int]:
        try:
            for item in range(100):
                yield item
        finally:
            await anyio.sleep_forever()

    @la.handler
    async def consume_myself(self) -> int:
        async for item in la.ref_of(self).count(3):
            return item
        return -1

    @la.handler
    def note(self, text: str) -> None:
        self.log.append(text)

    @la.handler
    def fail(self) -> None:
        raise Oops

    @la.handler
    def read(self) -> list[str]:
        return self.log


@pytest.mark.parametrize("items", [0, 1, AHEAD - 1, AHEAD, AHEAD + 1, 5 * AHEAD])
async def test_consumer_gets_every_item_in_order(items: int) -> None:
    async with la.open_system() as system:
        source = await system.spawn(Source)
        assert [item async for item in source.count(items)] == list(range(items))
        assert await source.read() == ["closed"]


async def test_stream_that_is_over_stays_over() -> None:
    async with la.open_system() as system:
        source = await system.spawn(Source)
        stream = source.count(1)
        assert [item async for item in stream] == [0]
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_stream_starts_with_the_first_item_asked_for() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        stream = porter.count(2)
        await settle()
        assert await porter.read() == []
        assert await anext(stream) == 0
        assert await porter.read() == [0, 1, "closed"]


async def test_producer_is_never_more_than_a_few_items_ahead() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        taken = 0
        async with aclosing(porter.count(10 * AHEAD)) as stream:
            async for item in stream:
                taken += 1
                await settle()
                produced = [entry for entry in await porter.read() if entry != "closed"]
                assert item == taken - 1
                assert len(produced) <= taken + AHEAD


async def test_slow_consumer_holds_up_nobody_else() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        stream = porter.count(10 * AHEAD)
        assert await anext(stream) == 0
        with anyio.fail_after(0.1):
            await porter.note("beside")


async def test_two_streams_of_one_actor_advance_side_by_side() -> None:
    async with la.open_system() as system:
        source = await system.spawn(Source)
        one, two = source.count(50), source.count(50)
        pairs = [(await anext(one), await anext(two)) for _ in range(50)]
        assert pairs == [(item, item) for item in range(50)]


async def test_messages_are_handled_between_the_steps_of_a_stream() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        consumed = Later(tg, gathered, porter.count_through, gate, 5)
        await gate.reached()
        noted = Later(tg, porter.note, "between")
        await settle()
        gate.open()
        await noted.done()
        await consumed.done()

        assert consumed.outcome == [0, 1, 2, 3, 4]
        assert await porter.read() == ["between", "closed"]


async def test_error_in_a_stream_arrives_after_the_items_before_it() -> None:
    async with la.open_system() as system:
        source = await system.spawn(Source)
        items = []

        async def consume() -> None:
            async for item in source.fail_after(3):
                items.append(item)  # noqa: PERF401 (it fails half-way)

        with pytest.raises(Oops):
            await consume()
        assert items == [0, 1, 2]
        assert la.statistics(source).failed == 1
        assert await source.read() == []


async def test_leaving_the_loop_closes_the_handler() -> None:
    async with la.open_system() as system:
        source = await system.spawn(Source)
        async for item in source.count(100):
            if item == 3:
                break
        gc.collect()
        await settle()

        assert await source.read() == ["closed"]


@pytest.mark.parametrize("started", [False, True])
async def test_closing_the_stream_closes_the_handler(started: bool) -> None:
    async with la.open_system() as system:
        source = await system.spawn(Source)
        stream: Any = source.count(100)
        if started:
            await anext(stream)
        await stream.aclose()
        await stream.aclose()
        await settle()

        assert await source.read() == (["closed"] if started else [])
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_interleaved_stream_may_wait_without_holding_the_mailbox() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        source = await system.spawn(Source)
        consumed = Later(tg, gathered, source.count_aside, gate, 40)
        await gate.reached()
        await source.note("beside")
        gate.open()

        assert await consumed.done() == list(range(40))
        assert await source.read() == ["beside", "closed"]


async def test_interleaved_stream_is_closed_when_its_consumer_goes() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        source = await system.spawn(Source)
        consumed = Later(tg, gathered, source.count_aside, gate, 40)
        await gate.reached()
        await consumed.cancel()
        await settle()

        assert await source.read() == ["closed"]
        assert la.statistics(source).interleaved == 0


async def test_cancelled_wait_for_an_item_does_not_end_the_stream() -> None:
    gate = Gate()
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        stream = porter.count_through(gate, 2)
        with anyio.move_on_after(1) as scope:
            await anext(stream)
        assert scope.cancelled_caught
        gate.open()

        assert [item async for item in stream] == [0, 1]


async def test_consumer_that_gave_up_waiting_for_room_may_begin_again() -> None:
    gate = Gate()
    async with la.open_system() as system:
        porter = await system.options(mailbox=1).spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        await porter.note.tell(1)
        stream = porter.count(2)
        with anyio.move_on_after(1) as scope:
            await anext(stream)
        assert scope.cancelled_caught
        gate.open()

        assert [item async for item in stream] == [0, 1]


async def test_second_task_on_one_stream_is_told_so() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        stream = porter.count_through(gate, 2)
        first = Later(tg, anext, stream)
        await gate.reached()
        with pytest.raises(RuntimeError, match="give each task its own stream"):
            await anext(stream)
        gate.open()

        assert await first.done() == 0


async def test_stopping_the_actor_ends_its_streams() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        source = await system.spawn(Source, log)
        stream = source.count(100)
        await anext(stream)
        assert await la.stop(source) is la.Rung.DRAIN

        assert log == ["closed"]

        async def rest() -> None:
            async for _ in stream:
                pass

        with pytest.raises(ActorStopped, match=r"Source\.count\(\) ended before it was finished"):
            await rest()


async def test_stream_of_a_stopped_actor_cannot_start() -> None:
    async with la.open_system() as system:
        source = await system.spawn(Source)
        await la.stop(source)
        stream = source.count(1)
        with pytest.raises(ActorNotRunning) as caught:
            await anext(stream)

        assert caught.value.message == "Source.count(1)"
        with pytest.raises(ActorNotRunning):
            await anext(stream)


async def test_stream_that_was_queued_when_the_actor_ended_did_not_start() -> None:
    gate = Gate()
    async with la.open_system(grace=1) as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        first = Later(tg, anext, porter.count(3))
        await settle()
        await la.stop(porter)

        refused = await first.done()
        assert isinstance(refused, ActorNotRunning)
        assert refused.message == "Porter.count(3)"


async def test_failing_actor_closes_the_streams_it_has_under_way() -> None:
    log: list[str] = []

    async def fail_half_way() -> None:
        async with la.open_system() as system:
            source = await system.spawn(Source, log)
            stream = source.count(100)
            await anext(stream)
            source.fail.tell_nowait()
            for _ in range(AHEAD):
                await anext(stream)
            with pytest.raises(ActorStopped):
                await anext(stream)
            await anyio.sleep_forever()

    with pytest.raises(Oops):
        await fail_half_way()
    assert log == ["closed"]


async def test_error_in_a_streams_clean_up_arrives_at_the_consumer_when_the_actor_stops() -> None:
    async with la.open_system() as system:
        source = await system.spawn(Source)
        stream = source.close_badly()
        await anext(stream)
        assert await la.stop(source) is la.Rung.DRAIN

        async def rest() -> None:
            async for _ in stream:
                pass

        with pytest.raises(Oops):
            await rest()


async def test_clean_up_of_a_stream_has_the_systems_grace(caplog: pytest.LogCaptureFixture) -> None:
    async with la.open_system(grace=2) as system:
        source = await system.spawn(Source)
        stream = source.close_never()
        await anext(stream)
        await la.stop(source)

        assert anyio.current_time() == pytest.approx(2, abs=0.01)
        assert "Source.close_never() was cancelled in its clean-up" in caplog.text


async def test_stream_of_an_actor_that_is_abandoned_ends() -> None:
    gate, release = Gate(), Gate()

    @la.actor
    class Stuck:
        @la.handler
        async def items(self) -> AsyncIterator[int]:
            yield 0
            with anyio.CancelScope(shield=True):
                gate.open()
                await release.wait()

    async with la.open_system(grace=1) as system, anyio.create_task_group() as tg:
        stuck = await system.spawn(Stuck)
        stream = stuck.items()
        await anext(stream)
        waiting = Later(tg, anext, stream)
        await gate.wait()
        assert await la.stop(stuck) is la.Rung.ABANDON

        assert isinstance(await waiting.done(), ActorStopped)
        release.open()


async def test_actor_that_reads_its_own_stream_in_a_turn_is_refused() -> None:
    async with la.open_system() as system:
        source = await system.spawn(Source)
        with pytest.raises(AskCycle):
            await source.consume_myself()
