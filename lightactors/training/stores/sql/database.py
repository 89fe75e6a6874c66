"""What the durable store asks of a database: one connection, and the few statements in which databases differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from lightactors.training.stores.sql.schema import Table

Row: TypeAlias = tuple[Any, ...]


class Interrupted(Exception):
    """The transaction did not happen; it may be run again, after `recover`."""


class InDoubt(Interrupted):
    """The transaction may have been committed: `was_committed` tells, after `recover`."""


class Database(Protocol):
    """One connection, used by one thread. SQL has `?` for each parameter.

    Raises `Interrupted` for what may pass by itself, `StoreUnavailable` for what a user has to do something about,
    and `StoreDamaged` for a store that can't be read.
    """

    keeps: bool
    """Whether what was read stays true until `begin` says that others have written."""

    holding: str
    """What a SELECT ends with whose rows nobody else may change until the transaction ends; `{}` is their table."""

    holding_free: str
    """The same, for those rows that nobody else holds."""

    def open(self) -> None:
        """Connect, and make or check the schema."""
        ...

    def close(self) -> None: ...

    def begin(self) -> bool:
        """Begin a transaction that writes; tell whether others have written since the last one."""
        ...

    def begin_to_read(self) -> None: ...
    def commit(self) -> None:
        """Commit; `InDoubt`: nobody knows whether it happened, any other `Interrupted`: it surely did not."""
        ...

    def was_committed(self) -> bool:
        """Tell what has become of a commit that was in doubt."""
        ...

    def rollback(self) -> None: ...

    def recover(self) -> None:
        """Make the connection fit for a transaction again after `Interrupted`."""
        ...

    def has_news(self) -> bool:
        """Tell, outside a transaction, whether others may have written since the last one."""
        ...

    def rows(self, sql: str, *parameters: Any) -> Sequence[Row]: ...

    def run(self, sql: str, *parameters: Any) -> None: ...

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows whose keys are new."""
        ...

    def write(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert rows; those whose key is there already are replaced."""
        ...

    def among(self, column: str) -> str:
        """Return the condition that a column is among the values of one parameter, which is `listed`."""
        ...

    def listed(self, values: Sequence[Any]) -> Any: ...

    def contains(self, column: str) -> str:
        """Return the condition that a column contains the text of one parameter."""
        ...

    def count(self, changes: Mapping[str, int]) -> Mapping[str, int]:
        """Add to counters and return them; nobody else can until this transaction ends. `moment` is raised to."""
        ...

    def numbers(self, name: str, count: int) -> Sequence[int]:
        """Allot the next numbers of a row of numbers; those that are not used leave gaps."""
        ...

    def size_bytes(self) -> int:
        """Return what the store takes where it is kept."""
        ...

    def used_bytes(self) -> int:
        """Return how much of that its rows take, about; less when rows have been deleted in this transaction."""
        ...

    def give_back_space(self, most_bytes: int) -> bool:
        """Give back to the system some of the space that is free, in this transaction; tell whether there is more."""
        ...

    def tell_others(self) -> None:
        """Let the other nodes know, once this transaction is committed, that there is something for them."""
        ...

    def watch(self, tell: Callable[[], None]) -> None:
        """Call `tell`, in a thread, whenever another node has told, until `close`."""
        ...
