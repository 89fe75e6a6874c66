"""Which database a store's address means."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import get_args
from urllib.parse import parse_qsl, unquote, urlsplit

from lightactors.errors import ConfigurationError
from lightactors.training.stores.sql.database import Database
from lightactors.training.stores.sql.postgres import PostgresDatabase, Server
from lightactors.training.stores.sql.sqlite import Durability, SqliteDatabase

Connect = Callable[[bool], Database]
"""Makes a connection that is not open yet; the argument: whether it only reads."""

_CURE = "give a file such as run.db, sqlite:///run.db, or postgresql://user@host/name"


def database_of(url: str) -> Connect:
    """Return how to connect to the database at an address; raise `ConfigurationError` for one that is none."""
    if not url:
        raise ConfigurationError(f"store={url!r} is no address of a database; {_CURE}")
    scheme = urlsplit(url).scheme if "://" in url else "file"
    if scheme == "file" and url.isidentifier():
        raise ConfigurationError(f"store={url!r} is no address; for a file of that name write {url}.db or ./{url}")
    if re.match(r"(sqlite|postgres(ql)?):(?!//)", url):
        # No more of it is shown: there may be a password in it.
        name = url.partition(":")[0]
        raise ConfigurationError(f"the store's address lacks slashes behind {name}:; {_CURE}")
    if scheme == "file" and "://" not in url:
        return lambda is_reader: SqliteDatabase(url, is_reader=is_reader)
    if scheme == "sqlite":
        return _sqlite(url)
    if scheme in ("postgresql", "postgres"):
        server = Server(url)
        return lambda is_reader: PostgresDatabase(server, is_reader=is_reader)
    raise ConfigurationError(f"there are no stores at {scheme}://; {_CURE}")


def shown(url: str) -> str:
    """Return an address as it may be seen by everybody: without a password."""
    return url if url.startswith("sqlite:") or "://" not in url else str(Server(url))


def _sqlite(url: str) -> Connect:
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path:
        raise ConfigurationError(f"store={url!r} names no file; write sqlite:///run.db, or sqlite:////tmp/run.db")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    durability = given.pop("durability", "full")
    if durability not in get_args(Durability):
        raise ConfigurationError(f"store={url!r}: durability is 'full' or 'normal', not {durability!r}")
    if given:
        names = "durability, keep_days, keep and max_size"
        raise ConfigurationError(f"store={url!r}: there is no option {next(iter(given))!r}; there are {names}")
    return lambda is_reader: SqliteDatabase(path, durability=durability, is_reader=is_reader)  # type: ignore[arg-type]
