"""An interleaved handler may wait without holding the mailbox."""

from __future__ import annotations

from collections.abc import Generator

import anyio
import pytest

import lightactors as la
from lightactors.errors import ActorStopped
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, Porter, settle


@la.actor
class Shop:
    """Delivers what it has at once, and the rest when it comes."""

    def __init__(self) -> None:
        self.stock: list[str] = []
        self.delivery = anyio.Event()

    @la.handler
    def deliver(self, thing: str) -> None:
        self.stock.append(thing)
        self.delivery.set()

    @la.handler(interleaved=True)
    def take(self) -> la.Eventually[str]:
        return self.stock.pop() if self.stock else self._take_later()

    async def _take_later(self) -> str:
        await self.delivery.wait()
        return self.stock.pop()

    @la.handler(interleaved=True)
    async def wait_and_fail(self) -> None:
        await self.delivery.wait()
        raise Oops

    @la.handler(interleaved=True)
    def fail_later(self) -> la.Eventually[None]:
        return self.wait_and_fail_directly()

    async def wait_and_fail_directly(self) -> None:
        await self.delivery.wait()
        raise Oops


async def test_interleaved_async_handlers_run_beside_other_messages() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        stays = [Later(tg, porter.stay, gate) for _ in range(3)]
        await gate.reached()
        assert await porter.note(1) == 1
        gate.open()

        assert [await stay.done() for stay in stays] == ["stayed"] * 3


async def test_plain_interleaved_handler_may_answer_at_once() -> None:
    async with la.open_system() as system:
        shop = await system.spawn(Shop)
        await shop.deliver("bread")
        assert await shop.take() == "bread"


@pytest.mark.parametrize("busy", [False, True])
async def test_plain_interleaved_handler_may_answer_later(busy: bool) -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        hold = Gate()
        if busy:
            tg.start_soon(porter.hold, hold)
            await hold.reached()
        waiting = Later(tg, porter.wait, gate)
        await settle()
        hold.open()
        await gate.reached()
        await porter.note("meanwhile")
        gate.open()

        assert await waiting.done() == "waited"


@pytest.mark.parametrize("busy", [False, True])
async def test_any_awaitable_is_awaited_on_every_path(busy: bool) -> None:
    class Promise:
        def __await__(self) -> Generator[None, None, int]:
            return self._keep().__await__()

        async def _keep(self) -> int:
            await anyio.sleep(1)
            return 7

    @la.actor
    class Promiser:
        @la.handler(interleaved=True)
        def promise(self) -> la.Eventually[int]:
            return Promise()

        @la.handler
        async def hold(self, gate: Gate) -> None:
            await gate.wait()

    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        promiser = await system.spawn(Promiser)
        if busy:
            tg.start_soon(promiser.hold, gate)
            await gate.reached()
        promised = Later(tg, promiser.promise)
        gate.open()

        assert await promised.done() == 7


async def test_turns_of_plain_interleaved_handlers_keep_their_order() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        await porter.note.tell(1)
        waiting = Later(tg, porter.wait, gate)
        await settle()
        await porter.note.tell(2)
        gate.open()
        await waiting.done()

        assert await porter.read() == [1, "asked to wait", 2]


@pytest.mark.parametrize("handler", ["wait_and_fail", "fail_later"])
async def test_late_error_arrives_at_the_asker_and_the_actor_lives(handler: str) -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        shop = await system.spawn(Shop)
        asked = Later(tg, getattr(shop, handler))
        await settle()
        await shop.deliver("bread")

        assert isinstance(await asked.done(), Oops)
        assert await shop.take() == "bread"
        assert la.statistics(shop).failed == 1


@pytest.mark.parametrize("handler", ["wait_and_fail", "fail_later"])
async def test_late_error_of_a_told_handler_ends_the_actor(handler: str) -> None:
    async def tell_and_wait() -> None:
        async with la.open_system() as system:
            shop = await system.options(name="shop").spawn(Shop)
            await getattr(shop, handler).tell()
            await settle()
            await shop.deliver("bread")
            await anyio.sleep_forever()

    with pytest.raises(Oops) as caught:
        await tell_and_wait()
    assert any("local/shop" in note for note in caught.value.__notes__)


async def test_what_only_waits_is_given_up_as_soon_as_the_actor_stops() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        waiting = Later(tg, porter.wait, gate)
        await gate.reached()
        start = anyio.current_time()
        assert await la.stop(porter) is la.Rung.DRAIN

        assert anyio.current_time() == start
        assert isinstance(await waiting.done(), ActorStopped)


async def test_interleaved_async_handler_may_finish_while_the_actor_drains() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        staying = Later(tg, porter.stay, gate)
        await gate.reached()
        stopping = Later(tg, la.stop, porter)
        await settle()
        assert stopping.outcome == "pending"
        gate.open()

        assert await stopping.done() is la.Rung.DRAIN
        assert await staying.done() == "stayed"


async def test_interleaved_async_handler_is_cancelled_when_the_grace_is_over() -> None:
    gate = Gate()
    async with la.open_system(grace=2) as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        staying = Later(tg, porter.stay, gate)
        await gate.reached()
        assert await la.stop(porter) is la.Rung.INTERRUPT

        assert anyio.current_time() == pytest.approx(2)
        assert isinstance(await staying.done(), ActorStopped)


async def test_asker_hears_when_an_interleaved_handler_that_resists_is_abandoned() -> None:
    gate = Gate()

    @la.actor
    class Resister:
        @la.handler(interleaved=True)
        async def resist(self) -> None:
            with anyio.CancelScope(shield=True):
                await gate.wait()

    async with la.open_system(grace=1) as system, anyio.create_task_group() as tg:
        resister = await system.spawn(Resister)
        asked = Later(tg, resister.resist)
        await gate.reached()
        assert await la.stop(resister) is la.Rung.ABANDON

        assert isinstance(await asked.done(), ActorStopped)
        gate.open()


async def test_interleaved_handler_may_ask_its_own_actor() -> None:
    @la.actor
    class Selfish:
        @la.handler(interleaved=True)
        async def outer(self) -> int:
            return await la.ref_of(self).inner() + 1

        @la.handler
        async def inner(self) -> int:
            return 1

    async with la.open_system() as system:
        selfish = await system.spawn(Selfish)
        assert await selfish.outer() == 2
