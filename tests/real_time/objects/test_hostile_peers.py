"""Whoever is at the other end of a link has nothing read that was not sent, and takes nothing but the link along."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from msgspec import Raw, msgpack

import lightactors as la
from lightactors.actors.ref import cell_of
from lightactors.contract import contract_of
from lightactors.errors import LinkLost, ObjectError, ObjectLost, ObjectStoreFull
from lightactors.objects.contents import Content
from lightactors.objects.lent import ELSEWHERE
from lightactors.objects.records import Op
from lightactors.objects.shelf import Shelf
from lightactors.objects.values import take_apart
from lightactors.remote import Listener, frames
from lightactors.remote.link import SHELF
from lightactors.remote.node import Node, _nodes
from tests.real_time.objects.links import SIZE, Keeper, empties, store_of
from tests.remote.pair import Pair, open_pair

STRANGE = (12345, 1)
ALIAS = (ELSEWHERE | 12345, 1)


class Victim:
    """Who is attacked: the far end of a link, and an actor that keeps whatever arrives."""

    def __init__(self, pair: Pair, keeper: Any) -> None:
        self.pair = pair
        self.keeper = keeper  # as the attacker reaches it
        self.kept: list[Any] = []

    async def tell(self, stands_for: Any, *, objects: Any = (), lent: Any = ()) -> None:
        """Send a message with one argument."""
        body = Raw(msgpack.encode([stands_for]))
        self.pair.link.send(frames.Laden(list(objects), list(lent), frames.Tell(0, "keep", "", body)))
        await self.breathe()

    async def breathe(self) -> None:
        """Have the victim deal with all that was sent before."""
        with contextlib.suppress(LinkLost):
            if self.pair.link.error is None:
                await self.keeper.keep(None)

    @property
    def has_read(self) -> list[Any]:
        return [value for value in self.kept if value is not None]

    @property
    def is_linked(self) -> bool:
        return self.pair.far_link.error is None


@pytest.fixture
async def victim() -> AsyncGenerator[Victim]:
    async with open_pair() as pair:
        near = await la.spawn(Keeper)
        victim = Victim(pair, await pair.reach(Keeper, near))
        victim.kept = cell_of(near, "a test").actor.kept
        _nodes[pair.system] = pair.there  # `la.put` and `la.get` are the victim's
        yield victim


def placed(id: tuple[int, int], offset: int = 0, size: int = 8 * SIZE) -> msgpack.Ext:
    """Return what stands for an array in shared memory."""
    return msgpack.Ext(4, msgpack.encode(("numpy", ("<f8", (size // 8,), "C"), (*id, offset, size))))


def referred(id: tuple[int, int], size: int = 100) -> msgpack.Ext:
    return msgpack.Ext(3, msgpack.encode((*id, size)))


async def test_objects_that_did_not_come_are_not_found(victim: Victim) -> None:
    for stands_for in (placed(STRANGE), referred(STRANGE), msgpack.Ext(4, b""), msgpack.Ext(3, b"\x93\xc0\xc0\xc0")):
        await victim.tell(stands_for)
        await victim.tell(stands_for, objects=[STRANGE])
    for stands_for in (msgpack.Ext(4, b"\xff"), msgpack.Ext(2, b"1"), msgpack.Ext(3, b"")):
        await victim.tell(stands_for, lent=[(*STRANGE, *ALIAS)])
    await victim.tell(placed(STRANGE), lent=[(*STRANGE, *ALIAS)])
    assert victim.has_read == []
    assert victim.is_linked


async def test_array_outside_of_its_object_is_not_read(victim: Victim) -> None:
    await shares(victim)
    sender = store_of(victim.pair.here)
    held = (await sender.put(np.ones(SIZE))).held
    inbox = victim.pair.here.sharing._courier(victim.pair.link).inbox  # type: ignore[attr-defined]  # noqa: SLF001
    sender.home.deposit([held.id] * 4, inbox)
    for offset, size in ((2**40, 8 * SIZE), (4096, 8 * SIZE + 8), (0, 2**62), (2**63, 2**63)):
        await victim.tell(placed(held.id, offset, size), objects=[held.id])
    assert victim.has_read == []
    assert victim.is_linked


async def shares(victim: Victim) -> None:
    """Have the attacker's store offered and reached."""
    await victim.keeper.total(np.ones(SIZE))
    with anyio.fail_after(10):
        while not victim.pair.link.is_near:
            await anyio.lowlevel.checkpoint()


async def test_peer_has_nothing_read_of_the_store_of_its_victim(victim: Victim) -> None:
    secret = await la.put(np.full(SIZE, 42.0))
    store = store_of(victim.pair.there)
    await victim.keeper.ones(SIZE)  # has the victim offer its store
    courier = victim.pair.there.sharing._courier(victim.pair.far_link)  # type: ignore[attr-defined]  # noqa: SLF001
    # All of this the peer knows of, or may guess.
    for inbox in (courier.inbox, (1, 1), secret.id):
        victim.pair.link.send(frames.Inbox(store.name, inbox))
        await victim.tell(placed(secret.id, 4096), objects=[secret.id])
        await victim.tell(referred(secret.id), objects=[secret.id])
    assert victim.has_read == []
    assert not victim.pair.far_link.is_near or victim.is_linked
    assert (await la.get(secret)).sum() == 42 * SIZE


async def test_inbox_can_not_be_guessed_by_who_knows_another_one(victim: Victim) -> None:
    await victim.keeper.ones(SIZE)  # has the victim offer its store
    courier = victim.pair.there.sharing._courier(victim.pair.far_link)  # type: ignore[attr-defined]  # noqa: SLF001
    guesses = range(store_of(victim.pair.there).home.new_id()[1] + 1000)
    assert courier.client is not None
    assert courier.inbox[1] not in guesses


async def test_peer_has_nothing_read_of_a_third_program(victim: Victim) -> None:
    third = Node(victim.pair.system)
    secret = await store_of(third).put(np.full(SIZE, 42.0))
    client = store_of(third).home
    inbox = client.new_id()
    client.tell(Op.OPEN, *inbox)
    victim.pair.link.send(frames.Inbox(client.name, inbox))  # as the third program has offered to the peer
    await victim.tell(placed(secret.id, 4096), objects=[secret.id])
    await victim.tell(referred(secret.id), objects=[secret.id])
    assert victim.has_read == []


async def test_ids_of_the_victims_objects_can_not_be_lent_to_it(victim: Victim) -> None:
    secret = await la.put(np.full(SIZE, 42.0))
    await victim.tell(referred(secret.id), lent=[(*secret.id, secret.id[0] | ELSEWHERE, secret.id[1])])
    (ref,) = victim.has_read
    with pytest.raises(ObjectLost):
        await la.get(ref)
    victim.kept.clear()
    await victim.tell(referred(secret.id), lent=[(*secret.id, *secret.id)])
    assert victim.has_read == []
    assert not victim.is_linked


@pytest.mark.parametrize(("size", "error"), [(2**63, ObjectStoreFull), (2**64 - 1, ObjectStoreFull), (100, ObjectLost)])
async def test_sizes_that_are_lies(victim: Victim, size: int, error: type[ObjectError]) -> None:
    await victim.tell(referred(STRANGE, size), lent=[(*STRANGE, *ALIAS)])
    (ref,) = victim.has_read
    with pytest.raises(error):
        await la.get(ref)
    figures = await store_of(victim.pair.there).statistics()
    assert (figures.total_objects, figures.leased) == (0, 0)
    assert victim.is_linked


async def test_object_of_no_bytes_is_none(victim: Victim) -> None:
    await victim.tell(referred(STRANGE, 0), lent=[(*STRANGE, *ALIAS)])
    assert victim.has_read == []
    assert victim.is_linked


async def test_object_that_is_larger_or_smaller_than_its_ref_says(victim: Victim) -> None:
    ours = await store_of(victim.pair.here).put(np.ones(SIZE))
    sharing: Any = victim.pair.here.sharing
    for size, error in ((ours.size - 1, ObjectError), (ours.size + 1, ObjectLost)):
        first, second, *alias = sharing._lend(victim.pair.link, Content(ours.id, ours.held, None))  # noqa: SLF001
        await victim.tell(referred((first, second), size), lent=[(first, second, *alias)])
        with pytest.raises(error):
            await la.get(victim.has_read.pop())
        victim.kept.clear()


NONSENSE: list[frames.AnyFrame] = [
    frames.Inbox("/etc/passwd", STRANGE),
    frames.Inbox("lightactors-objects-1-0123456789abcdef/../x", STRANGE),
    frames.Inbox("lightactors-objects-1-0123456789abcdef", (-1, 0)),
    frames.Home("lightactors-objects-1-0123456789abcdef", "you"),
    frames.Reached((1, 2)),
    frames.LetGo([(*STRANGE, 1)]),
    frames.LetGo([(*ALIAS, -5)]),
    frames.Laden([(-1, 5)], [], frames.Tell(0, "keep", "", Raw(b"\x90"))),
    frames.Laden([], [(1, 2, 3, 4)], frames.Tell(0, "keep", "", Raw(b"\x90"))),
    frames.Laden([], [(1, 2, ELSEWHERE, -4)], frames.Tell(0, "keep", "", Raw(b"\x90"))),
]


@pytest.mark.parametrize("frame", NONSENSE, ids=lambda frame: repr(frame)[:60])
async def test_what_makes_no_sense_ends_the_link(victim: Victim, frame: frames.AnyFrame) -> None:
    victim.pair.link.send(frame)
    with anyio.fail_after(5):
        await victim.pair.far_log.is_lost.wait()
    assert victim.pair.far_link.error is not None
    assert "broke the protocol" in str(victim.pair.far_link.error)


async def test_store_that_is_not_there_is_not_reached(victim: Victim) -> None:
    victim.pair.link.send(frames.Inbox("lightactors-objects-1-0123456789abcdef", STRANGE))
    await victim.tell(placed(STRANGE), objects=[STRANGE])
    assert victim.has_read == []
    assert victim.is_linked
    await empties(store_of(victim.pair.there))


async def test_shelf_gives_only_what_was_lent(victim: Victim) -> None:
    secret = await la.put(np.full(SIZE, 42.0))
    refs = victim.pair.here.refs_of(victim.pair.link)
    shelf: Any = refs.standin("objects", SHELF, contract_of(Shelf)).ref
    for id in (secret.id, (secret.id[0] | ELSEWHERE, secret.id[1]), (0, 0)):
        with pytest.raises(ObjectLost, match="not lent"):
            await anext(shelf.pull(*id))


async def test_table_of_another_host_is_read_through(victim: Victim) -> None:
    arrow = pytest.importorskip("pyarrow")
    parts = take_apart(arrow.table({"text": ["a" * 10, "b" * 10, "c" * 10]}))
    object = bytearray(parts.size)
    parts.write_into(memoryview(object), lambda at, source: object.__setitem__(slice(at, at + source.nbytes), source))
    offsets, far_outside = struct.pack("<4i", 0, 10, 20, 30), struct.pack("<4i", 0, 10, 3000, 30)
    assert object.count(offsets) == 1
    store, id = store_of(victim.pair.there), (ELSEWHERE | 5, 7)
    await store.contains(id)
    lease = store.home.lease(len(object), patience=10.0)
    store.home.copy(lease.offset, memoryview(object.replace(offsets, far_outside)))
    store.home.seal(lease, len(object), id, is_cached=True)  # as one that was brought here
    with pytest.raises(ObjectError, match="offset"):
        await la.get(la.ObjectRef[Any](store.home.new(id), id, len(object)))


async def test_two_lenders_of_one_id_lend_two_objects(victim: Victim) -> None:
    node = victim.pair.there
    here = node.sharing._here  # type: ignore[attr-defined]  # noqa: SLF001
    lent = []
    for link in (victim.pair.far_link, node.link(Listener(), "another host")):
        node.sharing.came(link, frames.Laden([], [(*STRANGE, *ALIAS)], frames.Tell(0, "keep", "", Raw(b"\x90"))))
        lent.append(here[STRANGE])
    assert [one.lent_as for one in lent] == [ALIAS, ALIAS]
    assert lent[0].id != lent[1].id  # else one would decide what is read as the other's
    node.sharing.unpacked()
