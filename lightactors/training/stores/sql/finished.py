"""The order in which the rollouts in a database have ended."""

from __future__ import annotations

from lightactors.training.stores.sql.kept import Kept
from lightactors.training.stores.sql.rollouts import SqlRollouts
from lightactors.training.stores.sql.shared import Shared


class SqlFinished:
    """The finished rollouts: their numbers in the order of ends are given out when they are written."""

    def __init__(self, tables: Shared, rollouts: SqlRollouts) -> None:
        self._tables = tables
        self._rollouts = rollouts
        self._new: list[Kept] = []

    def add(self, entry: Kept) -> None:
        self._new.append(entry)

    @property
    def fresh(self) -> int:
        """How many have no number yet."""
        return len(self._new)

    def number(self, last: int) -> None:
        """Give out numbers, up to `last`, to those that have none."""
        for number, entry in enumerate(self._new, last - len(self._new) + 1):
            entry.finish = number
        self._new.clear()

    def ids_after(self, cursor: int) -> list[str]:
        """Return the ids of those behind the cursor."""
        rows = self._tables.database.rows("SELECT rollout_id FROM rollouts WHERE finish > ?", cursor)
        return [rollout_id for (rollout_id,) in rows]

    def is_beyond(self, cursor: int) -> bool:
        self._tables.flush()
        return bool(self._tables.database.rows("SELECT 1 FROM rollouts WHERE finish > ? LIMIT 1", cursor))

    def after(self, cursor: int, limit: int | None) -> tuple[list[Kept], int]:
        self._tables.flush()
        most = 2**62 if limit is None else limit
        entries = self._rollouts.peek("r.finish > ? ORDER BY r.finish LIMIT ?", cursor, most)
        return entries, (entries[-1].finish or cursor) if entries else cursor

    def forget(self) -> None:
        self._new.clear()
