"""Which database a store's address means, and what else the address says: nobody else takes one apart."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args
from urllib.parse import unquote

from lightactors.errors import ConfigurationError, check_choice
from lightactors.training.stores import retention
from lightactors.training.stores.retention import Retention
from lightactors.training.stores.sql.database import Database
from lightactors.training.stores.sql.postgres import PostgresDatabase, Server
from lightactors.training.stores.sql.sqlite import Durability, SqliteDatabase

Connect = Callable[[bool], Database]
"""Makes a connection that is not open yet; the argument: whether it only reads."""

_CURE = "give a file such as run.db, sqlite:///run.db, or postgresql://user@host/name"


@dataclass(frozen=True)
class Location:
    """A store's address, taken apart.

    - `shown`: what it may be called before everybody: there is no password in it.
    - `path`: the file, wherever the program goes later; None: it is a server's.
    """

    shown: str
    connect: Connect
    retention: Retention
    path: str | None = None


def location_of(url: str, durability: Durability | None = None) -> Location:
    """Take an address apart; raise `ConfigurationError` for one that is none.

    A `durability` counts more than what the address says.
    """
    check_choice("durability", durability, (*get_args(Durability), None))
    base, _, query = url.partition("?")
    scheme, slashes, rest = base.partition("://")
    scheme = scheme.lower() if slashes else "file"
    _check(base, rest, scheme)
    if scheme in ("postgresql", "postgres"):
        return _on_server(base, query, durability)
    path = unquote(rest.removeprefix("/"), errors="surrogateescape") if scheme == "sqlite" else base
    return _in_file(path, query, durability)


def _check(base: str, rest: str, scheme: str) -> None:
    """Refuse what is no address."""
    if not base:
        raise ConfigurationError(f"store={base!r} is no address of a database; {_CURE}")
    if base in ("memory", "memory://"):
        raise ConfigurationError(f"a store in memory is its program's alone, and takes no options; {_CURE}")
    if scheme == "file":
        _check_file(base)
    elif scheme == "sqlite" and (not rest.startswith("/") or rest == "/"):
        raise ConfigurationError(f"store={base!r} names no file; write sqlite:///run.db, or sqlite:////tmp/run.db")
    elif scheme not in ("sqlite", "postgresql", "postgres"):
        raise ConfigurationError(f"there are no stores at {scheme}://; {_CURE}")


def _check_file(base: str) -> None:
    if base.isidentifier():
        raise ConfigurationError(f"store={base!r} is no address; for a file of that name write {base}.db or ./{base}")
    if re.match(r"(sqlite|postgres(ql)?):", base):
        # No more of it is shown, here and below: there may be a password in it.
        raise ConfigurationError(f"the store's address lacks slashes behind {base.partition(':')[0]}:; {_CURE}")
    if re.match(r"[^/]*:[^@]*@", base):
        raise ConfigurationError(f"the store's address lacks postgresql:// before its user and password; {_CURE}")
    if base.startswith("file:"):
        raise ConfigurationError(f"store={base!r} is no address; leave out file:, and {_CURE}")


def _in_file(given: str, query: str, wanted: Durability | None) -> Location:
    if given == ":memory:":
        raise ConfigurationError("a store in memory is store='memory', and not :memory:")
    if given.endswith("/"):
        raise ConfigurationError(f"{given} is a folder; name a file in it, such as {given}run.db")
    shown = os.path.expanduser(given)
    # Now: a program that changes its folder later means the one that it was in when it said so.
    path = os.path.abspath(shown)
    options = _options(query)
    told, kept = _durability(options), retention.told(options)
    durability = wanted or told
    if options:
        names = "durability, keep_days, keep and max_size"
        name = next(iter(options))
        raise ConfigurationError(f"store={given!r}: there is no option {name!r}; there are {names}")
    return Location(
        shown,
        lambda is_reader: SqliteDatabase(path, name=shown, durability=durability, is_reader=is_reader),
        kept,
        path,
    )


def _on_server(base: str, query: str, wanted: Durability | None) -> Location:
    options = _options(query)
    told, kept = _durability(options), retention.told(options)
    durability, schema = wanted or told, options.pop("schema", "lightactors")
    # As they were written: libpq has its own view of %-codes and of '+'.
    others = [part for part in query.split("&") if part.partition("=")[0] in options]
    server = Server(f"{base}?{'&'.join(others)}" if others else base, schema=schema, durability=durability)
    return Location(str(server), lambda is_reader: PostgresDatabase(server, is_reader=is_reader), kept)


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, _, value in (part.partition("=") for part in query.split("&") if part):
        if name in options and name.isidentifier():
            raise ConfigurationError(f"the store's address says {name} twice; say it once")
        options[name] = unquote(value)
    return options


def _durability(options: dict[str, str]) -> Durability:
    durability = options.pop("durability", "full")
    if durability not in get_args(Durability):
        raise ConfigurationError(
            f"the store's address says durability={durability!r}; durability is 'full' or 'normal'"
        )
    return durability  # type: ignore[return-value]
