"""Bringing objects here that another host lends: once for all who ask, in pieces, no faster than they are written."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from lightactors.actors.elsewhere import run_on
from lightactors.contract import contract_of
from lightactors.errors import ConnectFailed, ObjectError, ObjectLost, SendError
from lightactors.objects.client import Client, Held
from lightactors.objects.lent import Lent
from lightactors.objects.line import Slow
from lightactors.objects.records import Id, Op, Status, text_of
from lightactors.objects.shelf import PIECE, Shelf
from lightactors.objects.values import is_plain_object
from lightactors.remote.link import SHELF

if TYPE_CHECKING:
    from lightactors.objects.client import Lease
    from lightactors.objects.store import ObjectStore
    from lightactors.remote.node import Node


_AT_ONCE = 32
"""Objects that a process brings, or waits for, at the same time."""


class Pulling:
    """What a node brings here from others."""

    def __init__(self, node: Node, store: ObjectStore) -> None:
        self.store = store
        self._node = node
        self._under_way: dict[Id, anyio.Event] = {}  # what this process brings, or waits for; on the node's loop

    async def nearer(self, lent: Lent, size: int) -> Held:
        """Return an object of another host once it is here; from any loop. Raises `ObjectError`s."""
        held = await run_on(self._node.loop, lambda: self._nearer(lent, size), self._node.system.context)
        held.origin = lent.link, lent.lent_as
        return held

    async def _nearer(self, lent: Lent, size: int) -> Held:
        while (held := await self.store.claim(lent.id)) is None:
            if (under_way := self._under_way.get(lent.id)) is not None:
                await under_way.wait()
                continue
            over = self._under_way[lent.id] = anyio.Event()
            try:
                if (held := await self._brought(lent, size)) is not None:
                    return held
            finally:
                del self._under_way[lent.id]
                over.set()
        return held

    async def _brought(self, lent: Lent, size: int) -> Held | None:
        """Bring it; or wait until another process has, or leaves it to us."""
        async with self._at_once:
            turn = await _Turn.of(self.store.home, lent.id, self._waiters)
            try:
                return await self._bring(lent, size) if turn.is_mine else None
            finally:
                turn.end()

    @cached_property
    def _at_once(self) -> anyio.CapacityLimiter:
        """Each takes a line and a thread. Whoever has a turn needs no other one, so nobody waits for each other."""
        return anyio.CapacityLimiter(_AT_ONCE)

    @cached_property
    def _waiters(self) -> anyio.CapacityLimiter:
        """A thread for each: who brings something may need one of those that others have, to go on."""
        return anyio.CapacityLimiter(math.inf)

    async def _bring(self, lent: Lent, size: int) -> Held:
        lease = await self.store.lease(size)
        client = self.store.home
        try:
            await self._copy(lent, lease, size)
        except BaseException:
            client.give_back(lease)
            raise
        client.seal(lease, size, lent.id, is_cached=True)
        client.give_back_rest(lease)
        held = client.new(lent.id)
        # Asked before the turn is over: else the next one might have it before the owner has heard of the object.
        if not await self.store.contains(held.id):
            raise ObjectLost(
                f"object {text_of(lent.id)} was lost with the object store, or deleted, as soon as it came"
            )
        return held

    async def _copy(self, lent: Lent, lease: Lease, size: int) -> None:
        """Write what comes, piece by piece."""
        client, done = self.store.home, 0
        async with aclosing(self._from_afar(lent)) as pieces:
            async for piece in pieces:
                if not done and not is_plain_object(piece):
                    raise ObjectError(
                        f"object {text_of(lent.id)} holds a pickled value, which only the processes of its own program "
                        "may read; put arrays, bytes and plain data for other hosts"
                    )
                if done + piece.nbytes > size:
                    raise ObjectError(f"object {text_of(lent.id)} came with more than the {size} bytes it was to have")
                client.copy(lease.offset + done, piece)
                done += piece.nbytes
        if done < size or not size:
            raise ObjectLost(f"object {text_of(lent.id)} broke off after {done} of {size} bytes")

    async def _from_afar(self, lent: Lent) -> AsyncGenerator[memoryview]:
        """Yield what the lender sends. Raises `ObjectLost`."""
        try:
            refs = self._node.refs_of(lent.link)
            shelf: Any = refs.standin("objects", SHELF, contract_of(Shelf)).ref
            async with aclosing(shelf.pull(*lent.lent_as)) as pieces:
                async for piece in pieces:
                    yield piece
        except (SendError, ConnectFailed) as error:
            raise ObjectLost(f"object {text_of(lent.id)} is lost with the link to its host: {error}") from error

    async def pieces(self, kept: Held | Lent) -> AsyncGenerator[memoryview]:
        """Yield the bytes of an object that is lent to others."""
        held = await self.store.claim(kept.id) if isinstance(kept, Lent) else kept
        if held is not None:
            view = await self.store.viewed(held)
            for at in range(0, view.nbytes, PIECE):
                yield view[at : at + PIECE]
        elif isinstance(kept, Lent):
            # Passed on, and not brought here first: who wants it may be a process of this program, whose turn it is to
            # bring it here.
            async with aclosing(self._from_afar(kept)) as pieces:
                async for piece in pieces:
                    yield piece


class _Turn:
    """One's turn to bring an object to this host: the others wait until it is here, or somebody else's turn."""

    def __init__(self, line: Client, *, is_mine: bool) -> None:
        self._line = line
        self.is_mine = is_mine

    @classmethod
    async def of(cls, client: Client, id: Id, waiters: anyio.CapacityLimiter) -> _Turn:
        """Return the turn when it has come, or when the object has."""
        line = client.line("fetching")
        try:
            return cls(line, is_mine=await _asked(line, id, waiters) is Status.GO)
        except BaseException:
            line.hang_up()
            raise

    def end(self) -> None:
        self._line.hang_up()


async def _asked(line: Client, id: Id, waiters: anyio.CapacityLimiter) -> Status:
    while True:
        try:
            ask = partial(line.ask, Op.FETCH, *id, patience=60.0)
            return (await anyio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=waiters)).status
        except Slow:
            continue  # whoever brings it is still at it
