"""Opening the store that an address means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.sql import DurableStore

IN_MEMORY = ("memory", "memory://")


def open_store(url: str, **options: Any) -> Store:
    """Return the store at an address; a durable one connects when it is first asked.

    `"memory"` is a new store in this process. A file such as `"run.db"`, or `"sqlite:///run.db"`, and
    `"postgresql://user@host/name"` are durable; `options` are theirs (see `MemoryStore`, `DurableStore`). Behind a
    question mark an address may say `durability=normal`, and what is kept of finished rollouts: `keep_days=7`,
    `keep=10000`, `max_size=5GB` (see `Retention`). Raises `ConfigurationError` for an address that is none.
    """
    if url in IN_MEMORY:
        return MemoryStore(**options)
    # Its methods are read off the contract while the program starts, which a type checker can't see.
    return DurableStore(url, **options)  # type: ignore[abstract]


def opened(store: Store | str | Path) -> Store:
    """Return a store that is given as one, or by its address."""
    if isinstance(store, Path):
        # Whatever its name is, it is no address's.
        return open_store(f"sqlite:///{quote(os.path.abspath(store.expanduser()))}")
    return open_store(store) if isinstance(store, str) else store
