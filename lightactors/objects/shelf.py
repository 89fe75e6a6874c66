"""The shelf: where the other end of a link gets the objects that it was lent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from lightactors.contract import ROLES, actor, handler
from lightactors.errors import ObjectLost
from lightactors.objects.records import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightactors.objects.pulling import Pulling
    from lightactors.objects.records import Id

PIECE = 96 * 1024
"""Bytes that are sent at once: so few that a link sends them as they are, with small messages between them."""


@actor
class Shelf:
    """What is lent over one link."""

    def __init__(self, pulling: Pulling, lent: Mapping[Id, Any]) -> None:
        self._pulling = pulling
        self._lent = lent

    @handler(roles=ROLES, interleaved=True)
    async def pull(self, first: int, second: int) -> AsyncIterator[memoryview]:
        """Yield an object's bytes, in pieces. Raises `ObjectLost` for what was not lent."""
        content = self._lent.get((first, second))
        if content is None:
            raise ObjectLost(f"object {text_of((first, second))} was not lent over this link, or was given back")
        async with aclosing(self._pulling.pieces(content.kept)) as pieces:
            async for piece in pieces:
                yield piece
