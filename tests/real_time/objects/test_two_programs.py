"""Two programs with a store each: on one host they read each other's memory, else what is lent is pulled, once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import lightactors as la
from lightactors.errors import ObjectError, ObjectLost, ObjectStoreFull
from lightactors.objects.sharing import Sharing
from lightactors.remote.node import Node, node_of
from tests.actors.cast import Later
from tests.real_time.marks import chiefly_on
from tests.real_time.objects.links import SIZE, empties, puts, store_of

pytestmark = chiefly_on("asyncio")

MIB = 2**20


@dataclass
class Point:
    x: int


@la.actor
class Lender:
    """Has objects, and looks at those of others."""

    def __init__(self) -> None:
        self.refs: list[la.ObjectRef[Any]] = []

    @la.handler
    async def put(self, size: int) -> la.ObjectRef[np.ndarray]:
        self.refs.append(await la.put(np.full(size // 8, 7.0)))
        return self.refs[-1]

    @la.handler
    async def put_point(self) -> la.ObjectRef[Point]:
        return await la.put(Point(1))

    @la.handler
    async def let_go(self, deleting: bool = False) -> None:
        for ref in self.refs:
            if deleting:
                await la.objects.delete(ref)
        self.refs.clear()

    @la.handler
    async def look(self, ref: la.ObjectRef[np.ndarray]) -> float:
        return float((await la.get(ref)).sum())

    @la.handler
    def echo(self, array: np.ndarray) -> np.ndarray:
        return array

    @la.handler
    def size_of(self, array: np.ndarray) -> int:
        return array.nbytes

    @la.handler
    async def refs_of(self, count: int) -> AsyncIterator[la.ObjectRef[np.ndarray]]:
        for number in range(count):
            yield await la.put(np.full(SIZE, float(number)))


class Programs:
    """A server and a client in one process, each with its own node and store."""

    def __init__(self, server: la.System, client: la.System) -> None:
        self.server, self.client = server, client
        self.lender: Any = None

    @property
    def there(self) -> Node:
        return node_of(self.server)

    @property
    def here(self) -> Node:
        return node_of(self.client)

    @property
    def link(self) -> Any:
        """The client's link."""
        return next(iter(self.here.outside._dialers.values())).link  # noqa: SLF001


@asynccontextmanager
async def open_programs(listen: str = "grpc://127.0.0.1:0", **options: Any) -> AsyncGenerator[Programs]:
    async with la.open_system("server", listen=listen) as server, la.open_system("client", **options) as client:
        await server.options(name="lender").spawn(Lender)
        programs = Programs(server, client)
        programs.lender = await la.connect(Lender, _at(server, "lender"))
        yield programs


def _at(system: la.System, name: str) -> str:
    """Return where an actor can be reached."""
    address = str(system.addresses[0])
    return f"{address}#{name}" if address.startswith("unix:") else f"{address}/{name}"


@pytest.fixture
def no_common_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make both ends find nothing under the names of each other's stores, as on another host."""

    def refuse(self: Sharing, frame: Any) -> Any:
        raise ObjectLost("another host's")

    monkeypatch.setattr(Sharing, "_joined", refuse)


async def near(programs: Programs) -> None:
    """Send what makes both ends offer their stores."""
    await programs.lender.echo(np.ones(SIZE))
    with anyio.fail_after(10):
        while not programs.link.is_near:
            await programs.lender.echo(np.ones(1))
    await programs.lender.echo(np.ones(SIZE))


@pytest.mark.parametrize("listen", ["grpc://127.0.0.1:0", "unix:{}/socket"])
async def test_programs_of_one_host_share_from_the_second_message_on(listen: str, tmp_path: Path) -> None:
    async with open_programs(listen.format(tmp_path)) as programs:
        await near(programs)
        before = await puts(store_of(programs.here)), await puts(store_of(programs.there))
        echoed: Any = None
        for _ in range(5):
            echoed = await programs.lender.echo(np.ones(SIZE))
            assert echoed.sum() == SIZE
            assert not echoed.flags.writeable
        assert await puts(store_of(programs.here)) == before[0] + 5
        assert await puts(store_of(programs.there)) <= before[1] + 5
        del echoed
        for node in (programs.here, programs.there):
            await empties(store_of(node))


async def test_object_of_a_near_program_is_read_where_it_lies() -> None:
    async with open_programs() as programs:
        await near(programs)
        ref = await programs.lender.put(MIB)
        array = await la.get(ref)
        assert array.sum() == 7 * MIB / 8
        assert await puts(store_of(programs.here)) == 1  # the first echo
        assert [(await la.get(ref))[0] async for ref in programs.lender.refs_of(3)] == [0, 1, 2]
        ours = await la.put(np.ones(SIZE))
        assert await programs.lender.look(ours) == SIZE
        del ref, array, ours
        await programs.lender.let_go()
        for node in (programs.here, programs.there):
            await empties(store_of(node))


async def test_pickled_object_of_another_program_is_refused() -> None:
    async with open_programs() as programs:
        far = await programs.lender.put_point()
        with pytest.raises(ObjectError, match="pickled"):
            await la.get(far)
        await near(programs)
        shared = await programs.lender.put_point()
        with pytest.raises(ObjectError, match="pickled"):
            await la.get(shared)


@pytest.mark.usefixtures("no_common_memory")
async def test_several_gets_of_a_far_object_are_one_pull() -> None:
    async with open_programs() as programs:
        ref = await programs.lender.put(10 * MIB)
        again = await programs.lender.look(ref)
        assert again == 7 * 10 * MIB / 8  # it came home, and was not pulled there
        async with anyio.create_task_group() as tg:
            gets = [Later(tg, la.get, ref) for _ in range(100)]
        array: Any = None
        for get in gets:
            array = await get.done()
            assert isinstance(array, np.ndarray)
            assert array.sum() == again
        figures = await la.objects.statistics()
        assert figures.counters.puts == 1
        assert figures.total_objects == 1
        assert not programs.link.is_near
        del gets, get, array, ref
        await programs.lender.let_go()
        await empties(store_of(programs.there))


@pytest.mark.usefixtures("no_common_memory")
async def test_large_arrays_go_on_travelling_in_messages_to_another_host() -> None:
    async with open_programs() as programs:
        for _ in range(4):
            assert (await programs.lender.echo(np.ones(SIZE))).sum() == SIZE
        assert not programs.link.is_near
        for node in (programs.here, programs.there):
            await empties(store_of(node))


@pytest.mark.usefixtures("no_common_memory")
async def test_replicas_go_when_space_is_needed() -> None:
    limits = la.ObjectLimits(capacity=64 * MIB)
    async with open_programs(objects=limits) as programs:
        for _ in range(10):
            ref = await programs.lender.put(16 * MIB)
            assert (await la.get(ref)).sum() == 7 * 2 * MIB
            del ref
        assert (await la.objects.statistics()).counters.evicted >= 6


@pytest.mark.usefixtures("no_common_memory")
async def test_far_object_that_finds_no_room() -> None:
    async with open_programs(objects=la.ObjectLimits(capacity=8 * MIB)) as programs:
        ref = await programs.lender.put(16 * MIB)
        with pytest.raises(ObjectStoreFull, match=r"8\.0 MiB in all"):
            await la.get(ref)


@pytest.mark.usefixtures("no_common_memory")
async def test_far_object_that_was_deleted() -> None:
    async with open_programs() as programs:
        ref = await programs.lender.put(16 * MIB)
        await programs.lender.let_go(deleting=True)
        with pytest.raises(ObjectLost):
            await la.get(ref)


@pytest.mark.usefixtures("no_common_memory")
async def test_deleted_in_mid_pull_it_still_comes() -> None:
    async with open_programs() as programs, anyio.create_task_group() as tg:
        ref = await programs.lender.put(64 * MIB)
        get = Later(tg, la.get, ref)
        await begun(programs)
        await programs.lender.let_go(deleting=True)
        array = await get.done()
        assert isinstance(array, np.ndarray)
        assert array.sum() == 7 * 8 * MIB


@pytest.mark.usefixtures("no_common_memory")
async def test_link_that_is_lost_in_mid_pull() -> None:
    async with open_programs() as programs, anyio.create_task_group() as tg:
        ref = await programs.lender.put(64 * MIB)
        gets = [Later(tg, la.get, ref) for _ in range(3)]
        await begun(programs)
        programs.link.lose("the test wants it so")
        assert {type(await get.done()) for get in gets} == {ObjectLost}
        await programs.lender.let_go()
        await empties(store_of(programs.there))
        figures = await la.objects.statistics()
        assert figures.leased < 64 * MIB  # what is left is for small objects, such as proofs
        assert all(found.size < MIB for found in figures.objects)


@pytest.mark.usefixtures("no_common_memory")
async def test_who_gives_up_a_pull_leaves_it_to_another() -> None:
    async with open_programs() as programs, anyio.create_task_group() as tg:
        ref = await programs.lender.put(64 * MIB)
        first, second = Later(tg, la.get, ref), Later(tg, la.get, ref)
        await begun(programs)
        await first.cancel()
        array = await second.done()
        assert isinstance(array, np.ndarray)
        assert array.sum() == 7 * 8 * MIB


async def begun(programs: Programs) -> None:
    """Wait until a pull has begun."""
    with anyio.fail_after(10):
        while not any(found.viewers for found in (await store_of(programs.there).statistics()).objects):
            await anyio.lowlevel.checkpoint()


@pytest.mark.usefixtures("no_common_memory")
async def test_what_is_lent_goes_when_it_is_let_go_of() -> None:
    async with open_programs() as programs:
        ref: Any = None
        for _ in range(20):
            ref = await programs.lender.put(MIB)
        await programs.lender.let_go()
        del ref
        await empties(store_of(programs.there))


@pytest.mark.usefixtures("no_common_memory")
async def test_ref_is_passed_on_to_a_third_program() -> None:
    async with la.open_system("third", listen="grpc://127.0.0.1:0") as third, open_programs() as programs:
        await third.options(name="looker").spawn(Lender)
        looker = await la.connect(Lender, _at(third, "looker"))
        ref = await programs.lender.put(MIB)
        assert await looker.look(ref) == 7 * MIB / 8
        assert await puts(store_of(programs.here)) <= 1  # it went through, and was not kept: there may be a proof
        assert await puts(store_of(node_of(third))) == 1
        assert (await la.get(ref)).sum() == 7 * MIB / 8
        assert await looker.look(ref) == 7 * MIB / 8
        assert await puts(store_of(node_of(third))) == 1  # by the same id


@la.actor
class Holder:
    """Is started with arrays and refs of them."""

    def __init__(self, array: np.ndarray, ref: la.ObjectRef[np.ndarray]) -> None:
        self.array = array
        self.ref = ref

    @la.handler
    async def total(self) -> float:
        return float(self.array.sum() + (await la.get(self.ref)).sum())


@pytest.mark.parametrize("is_near", [True, False])
async def test_actor_is_spawned_on_another_node_with_arrays_and_refs(is_near: bool) -> None:
    async with (
        la.open_system("server", listen="grpc://127.0.0.1:0", spawnable=[Holder]) as server,
        la.open_system("client") as client,
    ):
        await server.options(name="lender").spawn(Lender)
        programs = Programs(server, client)
        programs.lender = await la.connect(Lender, _at(server, "lender"))
        if is_near:
            await near(programs)
        ref = await la.put(np.ones(SIZE))
        node = await la.connect(server.addresses[0])
        holder = await la.options(place=node).spawn(Holder, np.ones(SIZE), ref)
        assert await holder.total() == 2 * SIZE


async def test_program_that_has_a_store_offers_it_before_anything_is_sent() -> None:
    async with la.open_system("server", listen="grpc://127.0.0.1:0") as server, la.open_system("client") as client:
        await server.options(name="lender").spawn(Lender)
        ours = await la.put(np.ones(SIZE))
        programs = Programs(server, client)
        programs.lender = await la.connect(Lender, _at(server, "lender"))
        await programs.lender.echo(np.ones(1))
        with anyio.fail_after(10):
            while not programs.link.is_near:
                await programs.lender.echo(np.ones(1))
        assert await programs.lender.look(ours) == SIZE
        large = np.ones(10 * MIB)  # more than a message may have
        assert (await programs.lender.size_of(large)) == large.nbytes
