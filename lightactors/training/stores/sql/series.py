"""The rows of numbers that rollouts, workers and the like are numbered by."""

from __future__ import annotations

from collections import deque

from lightactors.training.stores.sql.database import Database


class Series:
    """A row of numbers, of which some are in stock."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._stock: deque[int] = deque()
        self.wanted = 1

    def next(self) -> int:
        if not self._stock:
            self._stock.extend(self._database.numbers(self._name, self.wanted))
        return self._stock.popleft()

    def forget(self) -> None:
        self._stock.clear()
