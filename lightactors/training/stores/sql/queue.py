"""The queue in a database."""

from __future__ import annotations

from collections import deque

from lightactors.training.stores.sql.kept import Kept
from lightactors.training.stores.sql.rollouts import SqlRollouts
from lightactors.training.stores.sql.series import Series
from lightactors.training.stores.sql.shared import Shared

_HEADS = 256
"""How many of the queue are fetched at a time."""


class SqlQueue:
    """The queue: a row's position says where in it a rollout is.

    `_heads` are the first of it, by position and number, or all if `_is_whole`; who has left is still among them.
    """

    def __init__(self, tables: Shared, rollouts: SqlRollouts) -> None:
        self._tables = tables
        self._rollouts = rollouts
        self._heads: deque[tuple[int, int]] = deque()
        self._is_whole = False
        self._fetched = 0
        self.positions = Series(tables.database, "position")
        self.wanted = 1  # claims that are expected in this transaction

    def __len__(self) -> int:
        return self._tables.counters["queued"]

    def head(self) -> Kept | None:
        while True:
            while self._heads:
                position, number = self._heads[0]
                entry = self._rollouts.at(number)
                if entry is not None and entry.position == position:
                    return entry
                self._heads.popleft()
            if self._is_whole:
                return None
            self._fetch()

    def _fetch(self) -> None:
        self._tables.write()
        limit = _HEADS if self._tables.database.keeps else max(self.wanted, 1)
        entries = self._rollouts.fetch(
            "r.position > ? ORDER BY r.position LIMIT ?",
            self._fetched,
            limit,
            holding=self._tables.holding_free,
        )
        self._is_whole = len(entries) < limit
        for entry in entries:
            assert entry.position is not None
            self._heads.append((entry.position, entry.number))
            self._fetched = entry.position

    def put(self, entry: Kept) -> bool:
        if entry.position is not None:
            return False
        entry.position = self.positions.next()
        self._tables.count("queued", 1)
        if self._is_whole:
            if len(self._heads) < 16 * _HEADS:
                self._heads.append((entry.position, entry.number))
                self._fetched = entry.position
            else:
                self._is_whole = False
        return True

    def drop(self, entry: Kept) -> None:
        if entry.position is not None:
            entry.position = None
            self._tables.count("queued", -1)

    def forget(self) -> None:
        self._heads.clear()
        self._is_whole = False
        self._fetched = 0
        self.positions.forget()
