"""What PostgreSQL's errors mean for a store, and what to do about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightactors.errors import InvalidArgument, StoreDamaged, StoreUnavailable
from lightactors.training.stores.sql.database import Interrupted
from lightactors.training.stores.sql.postgres.server import load_driver

if TYPE_CHECKING:
    import psycopg

_PASSING = ("08", "40", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "25P03", "23505")
"""States (or classes of them) that may pass by themselves; a key that somebody else was quicker with is one."""

_DAMAGED = ("XX001", "XX002", "42P01", "42703")
_BAD_VALUES = ("22",)

_CURES = {
    "53100": "its disk is full; make room: nothing of this call was kept",
    "25006": "it takes no writes (a standby, or default_transaction_read_only); name the primary in the URL",
    "42501": "its user may not do this; GRANT CREATE ON DATABASE, or let an administrator create the schema",
}

_REFUSALS = {
    "no password supplied": "give the password: in the URL, in PGPASSWORD or in ~/.pgpass",
    "password": "check the password: in the URL, in PGPASSWORD or in ~/.pgpass",
    "role": "check the user in the URL",
    "database": "create the database first (createdb), or check its name in the URL",
    "pg_hba.conf": "let the server's pg_hba.conf admit this user from here",
    "host name": "check the host in the URL",
    "resolve host": "check the host in the URL",
    "Connection refused": "check that the server runs, and host and port in the URL",
    "No such file": "check that the server runs, and the folder of its socket in the URL",
    "timeout expired": "check host and port in the URL, and the firewalls in between",
}
"""What to do about a connection that can't be had, by words of the driver's text."""

_COMING_BACK = ("starting up", "shutting down", "recovery mode", "not yet accepting", "too many clients")
"""Words of the driver's text about a server that will soon take connections."""


def explanation(server: str, error: psycopg.Error, *, is_connected: bool) -> Exception:
    """Return what to raise for the error of a statement."""
    driver, state, text = load_driver(), error.sqlstate or "", first_line(error)
    if not is_connected or state.startswith(_PASSING):
        return Interrupted(f"{server}: {text}")
    if state.startswith(_DAMAGED):
        return StoreDamaged(f"the store at {server} is damaged: {text}; restore a backup of it")
    if state.startswith(_BAD_VALUES) or isinstance(error, driver.DataError):
        return InvalidArgument(f"a value can't be kept in PostgreSQL: {text}")
    if isinstance(error, driver.OperationalError) or state in _CURES:
        return StoreUnavailable(f"{server}: {text}; {_CURES.get(state, 'nothing of this call was kept')}")
    return error


def refusal(server: str, error: psycopg.Error) -> StoreUnavailable:
    """Return what to say about a first connection that can't be had."""
    text = first_line(error)
    cure = next((cure for words, cure in _REFUSALS.items() if words in text), "check the URL and the server's log")
    return StoreUnavailable(f"{server} can't be opened: {text}; {cure}")


def is_coming_back(error: psycopg.Error) -> bool:
    """Tell whether a server that takes no connections will soon take them."""
    return any(words in str(error) for words in _COMING_BACK)


def first_line(error: BaseException) -> str:
    """Return what the driver says, without what the server adds to it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
