"""The shelf: where the other end of a link gets the objects that it was lent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from lightactors.contract import ROLES, actor, handler
from lightactors.errors import ObjectLost
from lightactors.objects.client import Held, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightactors.objects.pulling import Pulling
    from lightactors.objects.records import Id

PIECE = 2**20
"""Bytes that are sent at once."""


@actor
class Shelf:
    """What is lent over one link."""

    def __init__(self, pulling: Pulling, lent: Mapping[Id, Any]) -> None:
        self._pulling = pulling
        self._lent = lent

    @handler(roles=ROLES)
    async def pull(self, first: int, second: int, start: int) -> AsyncIterator[bytes]:
        """Yield an object's bytes from `start` on, in pieces. Raises `ObjectLost` for what was not lent."""
        content = self._lent.get((first, second))
        if content is None:
            raise ObjectLost(f"object {text_of((first, second))} was not lent over this link, or was given back")
        held = (
            await self._pulling.nearer(content.kept, content.size)
            if not isinstance(content.kept, Held)
            else content.kept
        )
        view = await self._pulling.store.viewed(held)
        for at in range(start, view.nbytes, PIECE):
            yield bytes(view[at : at + PIECE])
