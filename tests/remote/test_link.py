"""Asks and tells over a link: they behave as they do in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.actors.ref import cell_of
from lightactors.errors import ActorNotRunning, CannotTravel, LinkLost, MailboxFull, UnknownHandler, WrongCall
from lightactors.remote import StandIn
from lightactors.remote.link import WINDOW
from tests.actors.cast import Later, settle
from tests.remote.pair import open_pair, standin_of


class Oops(Exception):
    """What actors here fail with."""


@la.actor
class Desk:
    """Does at the other end what it is asked to."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gate = anyio.Event()

    @la.handler
    def add(self, a: int, b: int = 1, *more: int, times: int = 1) -> int:
        return (a + b + sum(more)) * times

    @la.handler
    async def add_slowly(self, a: int, b: int = 1) -> int:
        await anyio.sleep(1)
        return a + b

    @la.handler
    def note(self, text: str) -> None:
        self.log.append(text)

    @la.handler
    def read(self) -> list[str]:
        return self.log

    @la.handler
    def fail(self, text: str) -> None:
        raise Oops(text)

    @la.handler
    async def hold(self) -> str:
        try:
            await self.gate.wait()
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise
        return "held"

    @la.handler(interleaved=True)
    async def stay(self) -> str:
        try:
            await self.gate.wait()
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise
        return "stayed"

    @la.handler(interleaved=True)
    def open(self) -> None:
        self.gate.set()

    @la.handler
    def take(self, value: object) -> object:
        return value

    @la.handler
    def bring_what_cannot_travel(self) -> object:
        return object()

    @la.handler
    async def count(self, end: int) -> AsyncIterator[int]:
        try:
            for number in range(end):
                self.log.append(str(number))
                yield number
        finally:
            self.log.append("closed")


async def test_ask_brings_the_reply() -> None:
    async with open_pair() as pair:
        desk = await pair.reach(Desk, await la.spawn(Desk))
        assert await desk.add(1) == 2
        assert await desk.add(1, 2) == 3
        assert await desk.add(1, 2, 3, 4) == 10
        assert await desk.add(b=2, a=1, times=2) == 6
        assert await desk.add_slowly(1, 2) == 3


async def test_tells_arrive_in_order_with_the_asks() -> None:
    async with open_pair() as pair:
        desk = await pair.reach(Desk, await la.spawn(Desk))
        for number in range(10):
            await desk.note.tell(str(number))
            desk.note.tell_nowait(f"{number}!")
        assert await desk.read() == [f"{n}{mark}" for n in range(10) for mark in ("", "!")]


async def test_error_arrives_as_itself_with_the_remote_traceback() -> None:
    async with open_pair() as pair:
        desk = await pair.reach(Desk, await la.spawn(Desk))
        with pytest.raises(Oops, match="no") as caught:
            await desk.fail("no")
        assert "raise Oops(text)" in str(caught.value.__cause__)


async def test_what_cannot_travel_raises_at_the_sender() -> None:
    async with open_pair() as pair:
        desk = await pair.reach(Desk, await la.spawn(Desk))
        with pytest.raises(
            CannotTravel, match=r"Desk.take\(\): argument 'value' can't travel: no bytes stand for type object"
        ):
            await desk.take(object())
        with pytest.raises(CannotTravel, match=r"reply of Desk\.bring_what_cannot_travel"):
            await desk.bring_what_cannot_travel()


async def test_wrong_call_raises() -> None:
    async with open_pair() as pair:
        desk = await pair.reach(Desk, await la.spawn(Desk))
        with pytest.raises(WrongCall, match="missing a required argument: 'a'"):
            await desk.add()
        with pytest.raises(WrongCall, match="Expected `int`, got `str`"):
            await desk.add("1")
        with pytest.raises(UnknownHandler, match="did you mean 'add'"):
            await desk.ad(1)


@pytest.mark.parametrize("method", ["hold", "stay"])
async def test_who_gives_up_cancels_the_handler_there(method: str) -> None:
    async with open_pair() as pair:
        desk = await pair.reach(Desk, await la.spawn(Desk))
        with anyio.move_on_after(1):
            await getattr(desk, method)()
        await desk.add(1)  # comes after the cancel
        await settle()
        assert await desk.read() == ["cancelled"]


async def test_ask_that_waits_in_line_is_forgotten_when_its_asker_gives_up() -> None:
    async with open_pair() as pair, anyio.create_task_group() as tg:
        near = await la.spawn(Desk)
        desk = await pair.reach(Desk, near)
        Later(tg, desk.hold)
        await settle()
        with anyio.move_on_after(1):
            await desk.note("never")
        await settle()
        await la.stop(near, grace=0)


async def test_ask_of_a_stopped_actor_is_refused() -> None:
    async with open_pair() as pair:
        near = await la.spawn(Desk)
        desk = await pair.reach(Desk, near)
        await la.stop(near)
        with pytest.raises(ActorNotRunning):
            await desk.add(1)


async def test_credit_comes_back_from_an_actor_that_has_ended() -> None:
    async with open_pair() as pair:
        near = await la.spawn(Desk)
        standin = pair.stand_in(Desk)
        standin.attach(pair.link, pair.there.export(cell_of(near, "a test")))
        desk: Any = standin.ref
        for _ in range(WINDOW // 3):
            await desk.note("while it lives")
        await la.stop(near)
        for _ in range(WINDOW + 1):
            with pytest.raises(ActorNotRunning):
                await desk.add(1)
            await desk.note.tell("and a message that nobody hears of")
        with pytest.raises(ActorNotRunning):
            await desk.add(1)
        await anyio.sleep(1)
        assert pair.link.join(standin, standin.target, WINDOW).is_open()


async def test_lost_link_fails_what_is_unanswered_and_keeps_what_is_not_sent() -> None:
    async with open_pair() as pair, anyio.create_task_group() as tg:
        near = await la.spawn(Desk)
        desk = await pair.reach(Desk, near)
        held = Later(tg, desk.hold)
        await settle()
        pair.far_link.lose("cut")
        assert isinstance(await held.done(), LinkLost)
        later = Later(tg, desk.add, 1)
        await settle()
        assert later.outcome == "pending"
        await pair.open()
        again = await la.spawn(Desk)
        pair.there.export_root(pair.far_link, again)
        standin_of(desk).attach(pair.link)
        assert await later.done() == 2


async def test_loss_of_a_link_looks_once_at_what_is_unanswered() -> None:
    async with open_pair() as pair:
        looks = 0

        class Asked:
            def __init__(self, standin: StandIn) -> None:
                self._standin = standin
                self.error: Exception | None = None

            @property
            def standin(self) -> StandIn:
                nonlocal looks
                looks += 1
                return self._standin

            def lost(self, error: Exception) -> None:
                self.error = error

        asked = []
        for number in range(50):
            standin = pair.stand_in(Desk, name=f"far{number}")
            standin.attach(pair.link, number)
            asked.append(Asked(standin))
            pair.link.ask(number, "hold", b"\x90", asked[-1])  # type: ignore[arg-type]
        pair.link.lose("cut")
        assert all(isinstance(one.error, LinkLost) for one in asked)
        assert looks == len(asked)


async def test_outbox_is_bounded_while_there_is_no_link() -> None:
    async with open_pair() as pair:
        cell = pair.stand_in(Desk, mailbox=2)
        desk: Any = cell.ref
        desk.note.tell_nowait("1")
        desk.note.tell_nowait("2")
        with pytest.raises(MailboxFull):
            desk.note.tell_nowait("3")
        near = await la.spawn(Desk)
        pair.there.export_root(pair.far_link, near)
        cell.attach(pair.link)
        await desk.note("3")
        assert await near.read() == ["1", "2", "3"]


async def test_stream_brings_its_items() -> None:
    async with open_pair() as pair:
        desk = await pair.reach(Desk, await la.spawn(Desk))
        assert [item async for item in desk.count(100)] == list(range(100))
        assert (await desk.read())[-1] == "closed"
