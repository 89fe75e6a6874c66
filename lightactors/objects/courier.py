"""What one link knows of the objects that go over it: the inboxes of both its ends, and what is lent."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import TYPE_CHECKING

from lightactors.errors import ObjectError
from lightactors.objects.line import SYNC, Slow
from lightactors.objects.records import Op

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.objects.client import Client, Held
    from lightactors.objects.contents import Content
    from lightactors.objects.records import Id


class Courier:
    """What is known of one link."""

    def __init__(self) -> None:
        self.is_own = False  # a process of this program, or its parent, is at the other end
        self.is_offered = False
        self.client: Client | None = None  # of our store, as it was when the inbox was opened
        self.inbox: Id = (0, 0)  # of the other end, there
        self.proof: Id | None = None  # what only they can say who have joined that
        self.client_there: Client | None = None  # of the other end's store
        self.inbox_there: Id = (0, 0)  # ours, there
        self.lent: dict[Id, Content] = {}
        self.lent_times: Counter[Id] = Counter()
        self.key = secrets.token_bytes(16)  # makes the ids that are used here for what the other end lends
        self.shelf: Cell | None = None

    def close_inbox(self) -> None:
        """Close the other end's inbox, which that has never looked into."""
        if self.client is not None:
            self.client.tell(Op.CLOSE, *self.inbox)

    def taken(self, id: Id) -> Held | None:
        """Hold an object that the other end says to have sent; None: it can't be had."""
        client = self.client_there
        if client is None:
            return None
        if self.is_own:
            return client.take(id, self.inbox_there)
        try:
            # Others may be wrong: they might name any object of a store that is also ours.
            return client.claim(id, self.inbox_there, patience=SYNC)
        except (Slow, ObjectError):
            return None
