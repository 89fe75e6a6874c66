"""Bringing objects here that another host lends: once for all who ask, in pieces, no faster than they are written."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from lightactors.actors.elsewhere import run_on
from lightactors.contract import contract_of
from lightactors.errors import ConnectFailed, ObjectError, ObjectLost, SendError
from lightactors.objects.client import Client, Held, Slow, text_of
from lightactors.objects.records import Id, Op, Status
from lightactors.objects.shelf import Shelf
from lightactors.objects.values import is_plain_object
from lightactors.remote.link import SHELF

if TYPE_CHECKING:
    from lightactors.objects.client import Lease
    from lightactors.objects.lent import Lent
    from lightactors.objects.store import ObjectStore
    from lightactors.remote.node import Node


class Pulling:
    """What a node brings here from others."""

    def __init__(self, node: Node, store: ObjectStore) -> None:
        self.store = store
        self._node = node

    async def nearer(self, lent: Lent, size: int) -> Held:
        """Return an object of another host once it is here. Raises `ObjectError`s."""
        while True:
            turn = await _Turn.of(self.store.home, lent.id)
            try:
                if turn.is_mine:
                    return await self._bring(lent, size)
                held = self.store.home.hold(lent.id)
            finally:
                turn.end()
            if await self.store.contains(lent.id):  # else nobody held it for a moment, and its space was needed
                return held

    async def _bring(self, lent: Lent, size: int) -> Held:
        lease = await self.store.lease(size)
        client = self.store.home
        try:
            await run_on(self._node.loop, lambda: self._copy(lent, lease, size), self._node.system.context)
            if not is_plain_object(client.writable(lease.offset, size)):
                raise ObjectError(
                    f"object {text_of(lent.id)} holds a pickled value, which only the processes of its own program may "
                    "read; put arrays, bytes and plain data for other hosts"
                )
        except BaseException:
            client.give_back(lease)
            raise
        client.seal(lease, size, lent.id, is_cached=True)
        client.give_back_rest(lease)
        return client.new(lent.id)

    async def _copy(self, lent: Lent, lease: Lease, size: int) -> None:
        """Write what comes, piece by piece."""
        shelf: Any = self._node.refs_of(lent.link).standin("objects", SHELF, contract_of(Shelf)).ref
        client, done = self.store.home, 0
        try:
            async for piece in shelf.pull(*lent.id, 0):
                if done + len(piece) > size:
                    raise ObjectError(f"object {text_of(lent.id)} came with more than the {size} bytes it was to have")
                client.copy(lease.offset + done, memoryview(piece))
                done += len(piece)
        except (SendError, ConnectFailed) as error:
            raise ObjectLost(f"object {text_of(lent.id)} is lost with the link to its host: {error}") from error
        if done < size:
            raise ObjectLost(f"object {text_of(lent.id)} broke off after {done} of {size} bytes")


class _Turn:
    """One's turn to bring an object to this host: the others wait until it is here, or somebody else's turn."""

    def __init__(self, line: Client, *, is_mine: bool) -> None:
        self._line = line
        self.is_mine = is_mine

    @classmethod
    async def of(cls, client: Client, id: Id) -> _Turn:
        """Return the turn when it has come, or when the object has."""
        line = client.line("fetching")
        try:
            return cls(line, is_mine=await _asked(line, id) is Status.GO)
        except BaseException:
            line.hang_up()
            raise

    def end(self) -> None:
        self._line.hang_up()


async def _asked(line: Client, id: Id) -> Status:
    while True:
        try:
            ask = partial(line.ask, Op.FETCH, *id, patience=60.0)
            return (await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)).status
        except Slow:
            continue  # whoever brings it is still at it
