"""Opening the store that an address means."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Literal, overload
from urllib.parse import quote

from lightactors.errors import ConfigurationError
from lightactors.training.records import Span
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.retention import Retention
from lightactors.training.stores.sql import DurableStore
from lightactors.training.stores.sql.sqlite import Durability

IN_MEMORY = ("memory", "memory://")


@overload
def open_store(  # type: ignore[overload-overlap]
    url: Literal["memory", "memory://"],
    *,
    eviction_memory_threshold: float | None = None,
    safe_memory_threshold: float | None = None,
    span_size_estimator: Callable[[Span], int] = ...,
    clock: Callable[[], float] = ...,
    now: Callable[[], float] = ...,
    random: Random | None = None,
) -> MemoryStore: ...
@overload
def open_store(
    url: str | Path,
    *,
    durability: Durability | None = None,
    retention: Retention | None = None,
    prune_seconds: float = ...,
    patience_seconds: float = ...,
    clock: Callable[[], float] = ...,
    now: Callable[[], float] = ...,
    random: Random | None = None,
) -> DurableStore: ...
def open_store(url: str | Path, **options: Any) -> Store:
    """Return the store at an address; a durable one connects when it is first asked.

    `"memory"` is a new store in this process. A file such as `"run.db"`, or `"sqlite:///run.db"`, and
    `"postgresql://user@host/name"` are durable; `options` are theirs (see `MemoryStore`, `DurableStore`). Behind a
    question mark an address may say `durability=normal`, and what is kept of finished rollouts: `keep_days=7`,
    `keep=10000`, `max_size=5GB` (see `Retention`). A `Path` is a file, whatever its name is. Raises
    `ConfigurationError` for an address that is none, and for an option that the store has not got.
    """
    kind: type[Store] = MemoryStore if url in IN_MEMORY else DurableStore
    known = [name for name in inspect.signature(kind).parameters if name != "url"]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"a {kind.__name__} has no {name!r}; it has {', '.join(known)}")
    if url in IN_MEMORY:
        return MemoryStore(**options)
    if isinstance(url, Path):
        url = f"sqlite:///{quote(os.path.abspath(url.expanduser()))}"
    # Its methods are read off the contract while the program starts, which a type checker can't see.
    return DurableStore(url, **options)  # type: ignore[abstract]


def opened(store: Store | str | Path) -> Store:
    """Return a store that is given as one, or by its address."""
    return open_store(store) if isinstance(store, (str, Path)) else store
