"""Large values go over a link through shared memory: once, read-only, and gone when nobody has them any more."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import psutil
import pytest

import lightactors as la
from lightactors.actors.ref import cell_of
from lightactors.errors import ActorNotRunning, CannotTravel, LinkLost, MailboxFull, WrongCall
from lightactors.remote import Node
from tests.actors.cast import Later, gathered
from tests.real_time.objects.links import (
    SIZE,
    Batch,
    Keeper,
    Weigh,
    empties,
    open_relatives,
    puts,
    scales,
    sharing_of,
    store_of,
)
from tests.remote.pair import Pair, open_pair, standin_of

Opens = Callable[[], AbstractAsyncContextManager[Pair]]


async def shares(pair: Pair, keeper: Keeper) -> None:
    """Send what makes each end offer its store, and wait until the other one has taken the offer."""
    await keeper.echo(np.ones(SIZE))
    with anyio.fail_after(10):
        while not (pair.link.is_near and pair.far_link.is_near):
            await anyio.lowlevel.checkpoint()
    await keeper.echo(np.ones(SIZE))
    for store in (store_of(pair.here), store_of(pair.there)):
        await empties(store)


@pytest.fixture(params=[open_relatives, open_pair], ids=["own process", "other program"])
async def pair(request: pytest.FixtureRequest) -> AsyncGenerator[Pair]:
    opens: Opens = request.param
    async with opens() as pair:
        yield pair


async def reached(pair: Pair) -> Any:
    keeper = await pair.reach(Keeper, await la.spawn(Keeper))
    await shares(pair, keeper)
    return keeper


async def test_array_arrives_as_a_view_that_nobody_can_write_to(pair: Pair) -> None:
    keeper = await reached(pair)
    before = await puts(store_of(pair.here))
    assert await keeper.total(np.ones(SIZE)) == (SIZE, False)
    assert await puts(store_of(pair.here)) == before + 1
    await empties(store_of(pair.here))


async def test_reply_and_items_of_a_stream_arrive_as_views(pair: Pair) -> None:
    keeper = await reached(pair)
    before = await puts(store_of(pair.there))
    ones = await keeper.ones(SIZE)
    assert not ones.flags.writeable
    assert ones.sum() == SIZE
    items = [item async for item in keeper.several(5)]
    assert [item[0] for item in items] == list(range(5))
    assert await puts(store_of(pair.there)) == before + 6
    del ones, items
    await empties(store_of(pair.there))


async def test_tells_bring_arrays_as_they_were_when_they_were_sent(pair: Pair) -> None:
    keeper = await reached(pair)
    array = np.zeros(SIZE)
    for number in range(5):
        array[:] = number
        keeper.keep.tell_nowait(array)
        array[:] = -1
    assert await keeper.keep(None) == 6
    near = standin_of(keeper)
    kept = pair.there.root_of(pair.far_link).actor.kept  # type: ignore[union-attr]
    assert near.handled
    assert [item[0] for item in kept[:5]] == list(range(5))
    kept.clear()
    await empties(store_of(pair.here))


async def test_array_waits_in_line_as_it_was_when_it_was_sent(pair: Pair) -> None:
    standin = pair.stand_in(Keeper)  # of no link yet
    keeper: Any = standin.ref
    near = await la.spawn(Keeper)
    array = np.zeros(SIZE)
    keeper.keep.tell_nowait(array)
    await keeper.keep.tell(array)
    array[:] = -1
    pair.there.export_root(pair.far_link, near)
    standin.attach(pair.link)
    assert await keeper.keep(None) == 3
    assert [kept.sum() for kept in near_actor(near).kept[:2]] == [0, 0]
    near_actor(near).kept.clear()
    await empties(store_of(pair.here))


def near_actor(ref: Any) -> Keeper:
    actor: Keeper = cell_of(ref, "a test").actor
    return actor


async def test_behaviour_takes_and_replies_arrays(pair: Pair) -> None:
    await reached(pair)
    standin = pair.stand_in(scales, name="scales")
    standin.attach(pair.link, pair.there.export(cell_of(await la.spawn(scales), "a test")))
    weigher: Any = standin.ref
    doubled = await weigher.ask(Weigh(np.ones(SIZE)))
    assert doubled.sum() == 2 * SIZE
    assert not doubled.flags.writeable
    del doubled
    for node in (pair.here, pair.there):
        await empties(store_of(node))


async def test_arrays_deep_inside_of_a_dataclass(pair: Pair) -> None:
    keeper = await reached(pair)
    before = await puts(store_of(pair.here))
    batch = Batch("b", np.ones(SIZE), {"a": [np.ones(SIZE), np.ones(10)], "b": [np.ones(SIZE)]})
    assert await keeper.sum_up(batch) == 3 * SIZE + 10
    assert await puts(store_of(pair.here)) == before + 3
    await empties(store_of(pair.here))


async def test_large_bodies_lie_in_the_store_as_a_whole(pair: Pair) -> None:
    keeper = await reached(pair)
    before = await puts(store_of(pair.here))
    assert await keeper.length(bytes(10**6)) == 10**6
    assert await keeper.join(["word"] * 100_000) == 400_000
    assert await puts(store_of(pair.here)) == before + 2
    assert await keeper.keep({"texts": ["x" * 1000] * 1000, "array": np.ones(SIZE)}) == 1
    back = await keeper.last()
    assert (len(back["texts"]), back["array"].sum()) == (1000, SIZE)
    await keeper.drop()
    del back
    for node in (pair.here, pair.there):
        await empties(store_of(node))


async def test_arrow_table_and_many_arrays_of_one_message(pair: Pair) -> None:
    arrow = pytest.importorskip("pyarrow")
    keeper = await reached(pair)
    table = arrow.table({"n": list(range(SIZE))})
    await keeper.keep([table, *(np.full(20_000, float(number)) for number in range(2000))])
    back = await keeper.last()
    assert back[0].equals(table)
    assert [array[0] for array in back[1:]] == list(range(2000))
    await keeper.drop()
    del back
    for node in (pair.here, pair.there):
        await empties(store_of(node))


async def test_view_that_is_sent_on_is_not_copied_again() -> None:
    async with open_relatives() as pair:
        keeper = await reached(pair)
        ones = await keeper.ones(SIZE)
        before = await puts(store_of(pair.here))
        again = await keeper.echo(ones)
        part = await keeper.echo(again[1000:-1000])
        assert again.sum() == SIZE
        assert part.sum() == SIZE - 2000
        assert await puts(store_of(pair.here)) == before
        del ones, again, part
        await empties(store_of(pair.here))


async def test_what_a_relay_sends_on_is_not_copied() -> None:
    async with open_relatives() as pair:
        near = await pair.reach(Keeper, await la.spawn(Keeper))
        await shares(pair, near)
        further = Node(pair.system)
        # A relay of the same program: what comes over one link leaves over another one of the same node.
        beyond = Pair(pair.system)
        beyond.here, beyond.there = pair.there, further
        await beyond.open()
        beyond.far_link.on_home = further.join_store
        beyond.here.sharing.welcome(beyond.link)
        relay = await beyond.reach(Keeper, await la.spawn(Keeper), name="relay")
        pair.there.export_root(pair.far_link, relay)
        before = await puts(store_of(pair.here))
        standin = pair.stand_in(Keeper, name="relayed")
        standin.attach(pair.link)
        relayed: Any = standin.ref
        assert await relayed.total(np.ones(SIZE)) == (SIZE, False)
        echoed = await relayed.echo(np.ones(SIZE))
        assert echoed.sum() == SIZE
        assert await puts(store_of(pair.here)) == before + 2
        del echoed
        await empties(store_of(pair.here))
        beyond.link.goodbye()
        beyond.far_link.goodbye()


# Nothing leaks, whatever goes wrong


async def test_given_up_asks_leave_nothing_behind(pair: Pair) -> None:
    keeper = await reached(pair)
    for _ in range(5):
        with anyio.move_on_after(0.05):
            await keeper.hold(np.ones(SIZE))
    await keeper.open()
    assert await keeper.total(np.ones(SIZE)) == (SIZE, False)
    await empties(store_of(pair.here))


async def test_dead_target_leaves_nothing_behind(pair: Pair) -> None:
    near = await la.spawn(Keeper)
    keeper = await pair.reach(Keeper, near)
    await shares(pair, keeper)
    await la.stop(near)
    for _ in range(3):
        with pytest.raises(ActorNotRunning):
            await keeper.total(np.ones(SIZE))
    await empties(store_of(pair.here))


async def test_full_outbox_leaves_nothing_behind(pair: Pair) -> None:
    keeper = await reached(pair)
    standin = pair.stand_in(Keeper, name="small", mailbox=2)
    small: Any = standin.ref
    refused = 0
    for _ in range(5):
        try:
            small.keep.tell_nowait(np.ones(SIZE))
        except MailboxFull:
            refused += 1
    assert refused >= 2
    standin.attach(pair.link)
    await keeper.drop()
    await keeper.keep(1)
    await keeper.drop()
    await empties(store_of(pair.here))


async def test_what_does_not_fit_the_annotation_leaves_nothing_behind(pair: Pair) -> None:
    keeper = await reached(pair)
    with pytest.raises(WrongCall, match="number"):
        await keeper.numbers_only(np.ones(SIZE))
    with pytest.raises(CannotTravel):
        await keeper.keep([np.ones(SIZE), object()])
    await empties(store_of(pair.here))


async def test_lost_link_leaves_nothing_behind(pair: Pair) -> None:
    near = await la.spawn(Keeper)
    keeper = await pair.reach(Keeper, near)
    await shares(pair, keeper)
    async with anyio.create_task_group() as tg:
        asks = [Later(tg, keeper.hold, np.ones(SIZE)) for _ in range(3)]
        await anyio.sleep(0.05)
        for _ in range(16):
            keeper.keep.tell_nowait(np.ones(SIZE))
        pair.link.lose("the test wants it so")
        assert [type(await ask.done()) for ask in asks] == [LinkLost] * 3
    near_actor(near).gate.set()
    await near.drop()
    del asks
    for node in (pair.here, pair.there):
        await empties(store_of(node))


async def test_threads_send_arrays_at_once(pair: Pair) -> None:
    keeper = await reached(pair)

    @la.actor
    class Sender:
        @la.handler
        async def send(self, to: Keeper, number: float) -> list[float]:
            return [(await to.total(np.full(SIZE // 4, number)))[0] for _ in range(10)]

    senders = [await la.options(place="thread").spawn(Sender) for _ in range(4)]
    totals: dict[int, list[float]] = {}

    async def send(number: int) -> None:
        totals[number] = await senders[number].send(keeper, float(number))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tg:
            for number in range(4):
                tg.start_soon(send, number)
    assert totals == {number: [number * (SIZE // 4)] * 10 for number in range(4)}
    await empties(store_of(pair.here))


# Another link, another store


async def test_what_waits_in_line_is_encoded_again_for_a_link_that_shares_no_memory() -> None:
    async with open_relatives() as pair:
        await reached(pair)
        standin = pair.stand_in(Keeper, name="moving")
        standin.attach(pair.link)
        standin.hold_back()
        moving: Any = standin.ref
        array = np.ones(SIZE)
        ref = await sharing_of(pair.here).store.put("kept")
        await moving.keep.tell(array)
        moving.keep.tell_nowait({"by": [array, ref], "texts": ["x" * 1000] * 1000})
        array[:] = -1
        async with anyio.create_task_group() as tg:
            ask = Later(tg, moving.total, np.ones(SIZE))
            items = Later(tg, gathered, moving.several, 2)
            await anyio.sleep(0.05)
            near = await la.spawn(Keeper)
            ours, theirs = socket.socketpair()
            link = await pair.here.open(ours, pair.log, label="elsewhere")
            elsewhere = Node(pair.system)
            far = await elsewhere.open(theirs, pair.far_log, label="here")
            elsewhere.export_root(far, near)
            standin.detach(LinkLost("the test wants it so"))
            standin.attach(link)
            assert await ask.done() == (SIZE, False)
            arrived = await items.done()
            assert isinstance(arrived, list)
            assert [item[0] for item in arrived] == [0, 1]
        kept = near_actor(near).kept
        assert kept[0].sum() == kept[1]["by"][0].sum() == SIZE
        assert kept[1]["texts"] == ["x" * 1000] * 1000
        assert kept[1]["by"][1].size == ref.size
        kept.clear()
        del ref, items, ask, arrived
        await empties(store_of(pair.here), but=1)  # the proof for a link that has not looked yet
        link.goodbye()
        far.goodbye()


async def test_messages_go_on_when_the_owner_was_killed(pair: Pair) -> None:
    keeper = await reached(pair)
    view = await keeper.echo(np.ones(SIZE))

    async def goes_on() -> None:
        for _ in range(5):
            assert await keeper.total(np.ones(SIZE)) == (SIZE, False)
            assert (await keeper.echo(view)).sum() == SIZE
            assert (await keeper.ones(SIZE)).sum() == SIZE

    await anyio.sleep(1.1)  # an owner that dies at once is not replaced
    kill_owner(pair)
    await goes_on()
    assert await puts(store_of(pair.here)) > 1  # there is another one
    kill_owner(pair)
    await goes_on()  # without any, in the messages
    assert view.sum() == SIZE  # still there for who has it
    assert pair.log.said == []


def kill_owner(pair: Pair) -> None:
    for node in (pair.here, pair.there):
        founder = store_of(node)._founder  # noqa: SLF001
        if founder is not None and founder.pid is not None:
            os.kill(founder.pid, signal.SIGKILL)
            wait_for_end(founder.pid)


def wait_for_end(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)
