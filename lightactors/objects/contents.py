"""What goes with a message: an object, and what keeps it until it has gone."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightactors.objects.client import Client, Lease
    from lightactors.objects.records import Id
    from lightactors.objects.values import Parts

_HEAVY = 4 * 2**20
"""Bytes of whose copy a loop takes notice."""


class Content:
    """An object that goes with a message, and what keeps it here until it has gone."""

    is_heavy = False

    def __init__(self, id: Id, kept: Any, client: Client | None, size: int = 0) -> None:
        self.id = id
        self.kept: Any = kept  # what holds it, or a view of it
        self.client = client  # of the store where it lies; None: on another host
        self.size = size

    def settle(self) -> None:
        """It is there already."""


class Unwritten(Content):
    """One that has its space, and is still to be copied there."""

    def __init__(self, client: Client, lease: Lease, parts: Parts) -> None:
        super().__init__(client.new_id(), None, client, parts.size)
        self._lease = lease
        self._parts = parts
        # If the message never leaves, nor does anybody need the space.
        self._end = weakref.finalize(self, client.give_back, lease)
        self._end.atexit = False

    @property
    def is_heavy(self) -> bool:  # type: ignore[override]
        return self.kept is None and self.size >= _HEAVY

    def settle(self) -> None:
        if self.kept is None and self._end.detach() is not None:
            assert self.client is not None
            self.kept = self.client.put_into(self._lease, self._parts, self.id)
