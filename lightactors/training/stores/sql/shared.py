"""What the tables of a store in a database share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from lightactors.training.stores.sql.database import Database


class Shared(Protocol):
    """All the tables, as one of them sees them: their connection, their clock and what is counted."""

    database: Database
    holding: str
    holding_free: str
    clock: Callable[[], float]

    @property
    def counters(self) -> dict[str, int]:
        """The counters, as they are in the database."""
        ...

    def count(self, name: str, more: int) -> None:
        """Add to a counter when the rest is written."""
        ...

    def write(self) -> None:
        """Write what has changed so that queries see it, but for what is counted."""
        ...

    def flush(self) -> None:
        """Write what has changed, to be committed."""
        ...
