"""Where a store in PostgreSQL is, and how it is connected to."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

from lightactors.errors import ConfigurationError
from lightactors.training.stores.sql.database import Row

if TYPE_CHECKING:
    import psycopg

Durability = Literal["full", "normal"]

_SESSION = """
SET search_path TO {schema};
SET jit = off;
SET enable_seqscan = off;
SET synchronous_commit = {synchronous};
SET idle_in_transaction_session_timeout = '15s';
SET lock_timeout = '10s';
SET client_min_messages = warning
"""
# Every query has its index, which a server without statistics of what came lately would not always choose.
# A node that is frozen in the midst of a transaction would hold its locks for ever: the server ends it.

_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""How soon a server that is gone without a word is given up, unless the URL says otherwise."""


def load_driver() -> Any:
    """Return psycopg, which only those need who use PostgreSQL."""
    try:
        import psycopg
    except ImportError as error:
        raise ConfigurationError(
            f"a store in PostgreSQL needs psycopg ({error}); install it: pip install 'lightactors[postgres]'"
        ) from None
    return psycopg


class Server:
    """Where a store is: what its URL says, of which the password is shown to nobody.

    Beside what libpq takes there are `schema` (several stores may share a database), and `durability`: with `normal`
    a crash of the server costs the last moments.
    """

    def __init__(self, url: str, *, schema: str = "lightactors", durability: Durability = "full") -> None:
        driver = load_driver()
        self.schema = schema
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", self.schema):
            raise ConfigurationError(f"schema={self.schema!r}; give lower-case letters, digits and underscores")
        self.synchronous = "on" if durability == "full" else "off"
        try:
            self.options: dict[str, Any] = {**_PATIENCE, **driver.conninfo.conninfo_to_dict(url)}
        except driver.Error:
            raise _unreadable(url, {one.keyword.decode() for one in driver.pq.Conninfo.get_defaults()}) from None
        if not re.fullmatch(r"([^@/]*@)?[^@]*", url.partition("://")[2].partition("?")[0]):
            # libpq ends a password at its first @ or /, and takes the rest for something that may be shown.
            raise _unreadable(url, ())

    def __str__(self) -> str:
        shown = {name: self.options.get(name) or "" for name in ("user", "host", "port", "dbname")}
        login = f"{shown['user']}@" if shown["user"] else ""
        port = f":{shown['port']}" if shown["port"] else ""
        return f"postgresql://{login}{shown['host']}{port}/{shown['dbname']}"

    __repr__ = __str__

    @property
    def channel(self) -> str:
        """The name under which nodes tell each other of news."""
        return f"lightactors_{self.schema}"

    def connect(self, application_name: str) -> psycopg.Connection[Row]:
        """Return a connection with the store's settings."""
        driver = load_driver()
        options = {**self.options, "application_name": application_name}
        connection: psycopg.Connection[Row] = driver.connect(
            **options, autocommit=True, cursor_factory=driver.RawCursor
        )
        settings = _SESSION.format(schema=self.schema, synchronous=self.synchronous)
        try:
            connection.execute(settings.encode())
        except BaseException:
            connection.close()
            raise
        return connection


def _unreadable(url: str, known: Collection[str]) -> ConfigurationError:
    """Return what to say of a URL; no more of it is shown than an option's name: a password may be anywhere."""
    query = url.partition("?")[2]
    names = [part.partition("=")[0] for part in query.split("&")] if known and "@" not in query else []
    unknown = next((name for name in names if name.isidentifier() and name not in known), None)
    if unknown is not None:
        return ConfigurationError(
            f"a PostgreSQL has no option {unknown!r}; it has libpq's, schema, durability, keep_days, keep and max_size"
        )
    return ConfigurationError(
        "the URL of a PostgreSQL can't be read; give postgresql://user:password@host:port/database, "
        "with %-codes for what is special in a password, such as %40 for @"
    )
