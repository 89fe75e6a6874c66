"""PostgreSQL: several nodes over one database, each with a few connections."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import selectors
import threading
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from lightactors.errors import ConfigurationError, InvalidArgument, StoreDamaged, StoreUnavailable
from lightactors.training.stores.sql import schema
from lightactors.training.stores.sql.database import InDoubt, Interrupted, Row
from lightactors.training.stores.sql.schema import Kind, Table

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("lightactors.store")

Durability = Literal["full", "normal"]

OLDEST = 14
"""The oldest version of PostgreSQL that will do."""

_SWEEP_SECONDS = 1.0
"""How often to look for what others have written when none of them tells."""

PARTITION = 100_000
"""How many rollouts' spans are in one partition: what is old is swept apart from what is new."""

_TYPES: dict[Kind, str] = {"integer": "bigint", "real": "float8", "text": 'text COLLATE "C"', "bytes": "bytea"}
_ARRAYS: dict[Kind, str] = {"integer": "bigint[]", "real": "float8[]", "text": "text[]", "bytes": "bytea[]"}
_COPIED: dict[Kind, str] = {"integer": "int8", "real": "float8", "text": "text", "bytes": "bytea"}

# Rows that are written again and again: room on their pages keeps the indexes out of it, and they are swept often.
_STORAGE = " WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000)"
_ENDINGS = {
    "spans": " PARTITION BY RANGE (number)",
    "inputs": "",
    "attempts": "",
    "resources": "",
}

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

_COUNT = """
WITH first AS MATERIALIZED (SELECT FROM counters WHERE name = 'finished' FOR NO KEY UPDATE)
UPDATE counters SET value = CASE counters.name WHEN 'moment' THEN greatest(value, more) ELSE value + more END
FROM unnest(?::text[], ?::bigint[]) AS changes (name, more), first
WHERE counters.name = changes.name
RETURNING counters.name, value
"""
# One counter is everybody's first: nodes wait for each other at it, and never crosswise.

_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""How soon a server that is gone without a word is given up, unless the URL says otherwise."""

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

_names = itertools.count()


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


class PostgresDatabase:
    """A connection to a server (see `Database`)."""

    keeps = False
    holding = " FOR NO KEY UPDATE OF {}"
    holding_free = " FOR NO KEY UPDATE OF {} SKIP LOCKED"

    def __init__(self, server: Server, *, is_reader: bool = False) -> None:
        self._driver = load_driver()
        self._server = server
        self._schema = self._server.schema
        self._is_reader = is_reader
        # Unique, so that what is left of a lost connection can be told from all others.
        self._name = f"lightactors-{os.getpid()}-{next(_names)}-{os.urandom(4).hex()}"
        self._connection: psycopg.Connection[Row] | None = None
        self._cursor: Any = None
        self._listener: Listener | None = None
        self._partitions: set[int] = set()
        self._has_to_tell = False
        self._has_written = False
        self._commits = 0
        self._is_told = threading.Event()
        self._next_look = 0.0

    def __repr__(self) -> str:
        return f"PostgresDatabase({str(self._server)!r})"

    # The connection

    def open(self) -> None:
        self._disconnect()
        try:
            self._connect()
        except self._driver.Error as error:
            refusal = self._refusal(error)
            if self._is_reader or any(words in str(error) for words in _COMING_BACK):
                raise Interrupted(str(refusal)) from error
            raise refusal from error
        try:
            with self._explained():
                self._check_server()
                self._check_schema()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        connection = self._server.connect(self._name)
        for kind, dumper in _dumpers(self._driver):
            connection.adapters.register_dumper(kind, dumper)
        self._connection = connection
        self._cursor = connection.cursor(binary=True)
        self._partitions.clear()

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._commits and self._connection is not None:
            with contextlib.suppress(self._driver.Error):  # one mark too many does no harm
                self._execute("DELETE FROM meta WHERE name = ?", [self._name])
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(self._driver.Error):
                self._connection.close()
            self._connection = self._cursor = None

    def recover(self) -> None:
        if self._connection is not None and not self._connection.closed:
            self.rollback()
        if self._connection is not None and not self._connection.closed:
            return
        self._disconnect()
        try:
            self._connect()
            self._end_predecessors()
        except self._driver.Error as error:
            self._disconnect()
            raise Interrupted(f"{self._server} can't be reached: {_first_line(error)}") from error
        logger.info("connected to %s again", self._server)

    def _end_predecessors(self) -> None:
        """End what the server still does for our lost connection, so that it does not commit when we have looked."""
        self._execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = ? AND pid <> pg_backend_pid()",
            [self._name],
        )

    def _check_server(self) -> None:
        assert self._connection is not None
        version = self._connection.info.server_version // 10_000
        if version < OLDEST:
            raise StoreUnavailable(f"{self._server} is PostgreSQL {version}; a store needs {OLDEST} or newer")
        ((encoding,),) = self.rows("SHOW server_encoding")
        if encoding != "UTF8":
            raise StoreUnavailable(
                f"{self._server} keeps texts as {encoding}; create the database with ENCODING 'UTF8' TEMPLATE template0"
            )

    # The schema

    def _check_schema(self) -> None:
        if self._version() is None and not self._is_reader:
            self._create()
        version = self._version()
        if version is None:
            raise StoreDamaged(
                f"{self._server} holds no store of lightactors in its schema {self._schema!r}; "
                "name the database, and the ?schema=, that a program keeps its store in"
            )
        if version > schema.VERSION:
            raise StoreDamaged(
                f"{self._server} was written by a newer lightactors (schema {version}, this one knows "
                f"{schema.VERSION}); install that version, or choose another database or ?schema="
            )

    def _version(self) -> int | None:
        if not self._has_table("meta"):
            return None
        ((may_look,),) = self.rows("SELECT has_schema_privilege(?, 'USAGE')", self._schema)
        if not may_look:  # or the server would say that there are no tables
            raise StoreUnavailable(
                f"{self._server}: its user may not use the schema; GRANT USAGE ON SCHEMA {self._schema}, and "
                "SELECT, INSERT, UPDATE and DELETE ON ALL TABLES in it"
            )
        found = self.rows("SELECT value FROM meta WHERE name = 'schema_version'")
        return int(found[0][0]) if found else None

    def _has_table(self, name: str) -> bool:
        # Not `to_regclass`, which may answer from what the server's process knew before it waited for a lock.
        return bool(self.rows("SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = ?", self._schema, name))

    def _create(self) -> None:
        name = self._schema
        self._execute("BEGIN")
        self._lock_schema()
        if self._version() is None:  # nobody was quicker
            if not self.rows("SELECT 1 FROM pg_namespace WHERE nspname = ?", name):
                self._execute(f"CREATE SCHEMA {name}")
            if self.rows("SELECT 1 FROM pg_tables WHERE schemaname = ? LIMIT 1", name):
                raise StoreDamaged(
                    f"the schema {name!r} of {self._server} holds something else; choose another: ?schema=..."
                )
            for table in schema.TABLES:
                self._execute(schema.creation(table, _TYPES, _ENDINGS.get(table.name, _STORAGE)))
                for statement in schema.indexes(table):
                    self._execute(statement)
            for series in schema.SERIES:
                self._execute(f"CREATE SEQUENCE {series}_numbers")
            self.write(schema.COUNTERS, [(counter, 0) for counter in schema.COUNTED])
            self.write(schema.META, [("schema_version", f"{schema.VERSION}")])
        self._execute("COMMIT")

    def _lock_schema(self) -> None:
        """Keep others from making tables until the transaction ends."""
        self._execute("SELECT pg_advisory_xact_lock(hashtext(?))", [self._server.channel])

    def _need_partition(self, partition: int) -> None:
        if not self._partitions:
            found = self.rows(
                "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
                " WHERE i.inhparent = 'spans'::regclass"
            )
            self._partitions.update(int(name.rpartition("_")[2]) for (name,) in found)
        if partition in self._partitions:
            return
        self._lock_schema()
        table = f"spans_{partition}"
        if not self._has_table(table):
            # Made apart and attached: readers and writers of the other partitions need not wait for it.
            first, behind = partition * PARTITION, (partition + 1) * PARTITION
            self._execute(f"CREATE TABLE {table} (LIKE spans INCLUDING DEFAULTS)")
            self._execute(f"ALTER TABLE spans ATTACH PARTITION {table} FOR VALUES FROM ({first}) TO ({behind})")
        self._partitions.add(partition)

    # A transaction

    def begin(self) -> bool:
        has_news = self.has_news()
        self._command("BEGIN")
        if has_news:
            self._is_told.clear()
            self._next_look = time.monotonic() + _SWEEP_SECONDS
        return has_news

    def begin_to_read(self) -> None:
        self._command("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def commit(self) -> None:
        last_words = "COMMIT"
        has_written = self._has_written or self.rows("SELECT pg_current_xact_id_if_assigned()")[0][0] is not None
        if self._has_to_tell:
            last_words = f"NOTIFY {self._server.channel}, '{self._name}'; {last_words}"
        if has_written:
            self._commits += 1
            last_words = f"{self._mark()}; {last_words}"
        self._begin_anew()
        try:
            self._command(last_words)
        except Interrupted as error:
            if has_written:
                raise InDoubt(str(error)) from error
            raise

    def _mark(self) -> str:
        """Return what leaves a mark in a transaction, by which it is known whether it has come about.

        Not by the number that the server has for it: after a crash that may be another one's.
        """
        return (
            f"INSERT INTO meta (name, value) VALUES ('{self._name}', '{self._commits}')"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        )

    def _begin_anew(self) -> None:
        self._has_to_tell = self._has_written = False

    def was_committed(self) -> bool:
        # In this order: what has gone before we look for its mark can't leave it afterwards.
        is_under_way = self.rows(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = ? AND pid <> pg_backend_pid()", self._name
        )
        marks = self.rows("SELECT value FROM meta WHERE name = ?", self._name)
        was_committed = list(marks) == [(f"{self._commits}",)]
        if is_under_way and not was_committed:
            raise Interrupted(f"{self._server} still works at a transaction of before")
        return was_committed

    def rollback(self) -> None:
        self._begin_anew()
        self._partitions.clear()  # one that was just made is gone
        if self._connection is not None and not self._connection.closed:
            with contextlib.suppress(self._driver.Error):
                self._execute("ROLLBACK")

    def has_news(self) -> bool:
        return self._is_told.is_set() or time.monotonic() >= self._next_look

    def rows(self, sql: str, *parameters: Any) -> Sequence[Row]:
        with self._explained():
            self._execute(sql, parameters)
            rows: list[Row] = self._cursor.fetchall()
        return rows

    def run(self, sql: str, *parameters: Any) -> None:
        with self._explained():
            self._execute(sql, parameters)

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        if not rows:
            return
        if table is schema.SPANS:
            for partition in sorted({number // PARTITION for number, *_ in rows}):
                self._need_partition(partition)
        with self._explained(), self._connected().copy(_copying(table)) as copy:
            copy.set_types([_COPIED[column.kind] for column in table.columns])
            for row in rows:
                copy.write_row(row)

    def write(self, table: Table, rows: Sequence[Row]) -> None:
        if rows:
            self.run(_upsert(table), *([*column] for column in zip(*rows, strict=True)))

    def _command(self, sql: str) -> None:
        """Run statements that take and give nothing, in one journey."""
        with self._explained():
            self._connected().execute(sql.encode(), prepare=False, binary=False)

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connected().execute(_numbered(sql), parameters)

    def _connected(self) -> Any:
        if self._cursor is None:
            raise Interrupted(f"there is no connection to {self._server}")
        return self._cursor

    # What differs between databases

    def among(self, column: str) -> str:
        return f"{column} = ANY(?)"

    def listed(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def contains(self, column: str) -> str:
        return f"strpos({column}, ?) > 0"

    def count(self, changes: Mapping[str, int]) -> dict[str, int]:
        self._has_written = True
        return dict(self.rows(_COUNT, list(changes), list(changes.values())))

    def numbers(self, name: str, count: int) -> list[int]:
        rows = self.rows(f"SELECT nextval('{name}_numbers') FROM generate_series(1, ?)", count)
        return [number for (number,) in rows]

    # Other nodes

    def size_bytes(self) -> int:
        sql = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c"
        return int(self.rows(f"{sql} WHERE c.relnamespace = ?::regnamespace AND c.relkind = 'r'", self._schema)[0][0])

    def used_bytes(self) -> int:
        # What is counted: of rows that are gone their tables' sizes know nothing until they have been swept.
        return int(self.rows("SELECT sum(value) FROM counters WHERE name = 'span_bytes'")[0][0])

    def give_back_space(self, most_bytes: int) -> bool:
        return False  # the server sweeps by itself

    def tell_others(self) -> None:
        self._has_to_tell = True

    def watch(self, tell: Callable[[], None]) -> None:
        """Call `tell`, in a thread, whenever another node has something for this one, until `close`."""

        def hear() -> None:
            self._is_told.set()
            tell()

        self._listener = Listener(self._server, self._name, hear)

    # Errors

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except self._driver.Error as error:
            raise self._explanation(error) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise InvalidArgument(f"a value can't be kept in PostgreSQL: {error}") from None

    def _explanation(self, error: psycopg.Error) -> Exception:
        state, text = error.sqlstate or "", _first_line(error)
        if not state and isinstance(error, self._driver.OperationalError):
            self._disconnect()  # the driver's own trouble: nobody knows what is left of the connection
        if self._connection is None or self._connection.closed or state.startswith(_PASSING):
            return Interrupted(f"{self._server}: {text}")
        if state.startswith(_DAMAGED):
            return StoreDamaged(f"the store at {self._server} is damaged: {text}; restore a backup of it")
        if state.startswith(_BAD_VALUES) or isinstance(error, self._driver.DataError):
            return InvalidArgument(f"a value can't be kept in PostgreSQL: {text}")
        if isinstance(error, self._driver.OperationalError) or state in _CURES:
            return StoreUnavailable(f"{self._server}: {text}; {_CURES.get(state, 'nothing of this call was kept')}")
        return error

    def _refusal(self, error: psycopg.Error) -> Exception:
        """Return what to say about a first connection that can't be had."""
        text = _first_line(error)
        cure = next((cure for words, cure in _REFUSALS.items() if words in text), "check the URL and the server's log")
        return StoreUnavailable(f"{self._server} can't be opened: {text}; {cure}")


class Listener:
    """A thread with a connection of its own that hears what other nodes tell."""

    def __init__(self, server: Server, own_name: str, tell: Callable[[], None]) -> None:
        self._server = server
        self._own_name = own_name
        self._tell = tell
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"{own_name}-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._stopped)
        self._thread.join()
        os.close(self._stop)

    def _run(self) -> None:
        driver, pause = load_driver(), 0.05
        while True:
            try:
                with self._server.connect(f"{self._own_name}-l") as connection:
                    connection.execute(f"LISTEN {self._server.channel}".encode())
                    self._tell()  # of what was told while nobody listened
                    pause = 0.05
                    self._listen(connection)
                    return
            except driver.Error as error:
                logger.debug("listening at %s: %s", self._server, _first_line(error))
            if self._wait_to_stop(pause):
                return
            pause = min(2 * pause, 1)

    def _listen(self, connection: psycopg.Connection[Row]) -> None:
        """Tell of news until it is time to stop."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop, selectors.EVENT_READ)
            selector.register(connection.fileno(), selectors.EVENT_READ)
            while not any(key.fd == self._stop for key, _ in selector.select()):
                told = [notice.payload for notice in connection.notifies(timeout=0)]
                if any(name != self._own_name for name in told):
                    self._tell()

    def _wait_to_stop(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stop, selectors.EVENT_READ)
            return bool(selector.select(seconds))


def _dumpers(driver: Any) -> list[tuple[Any, Any]]:
    """Return in which form values go: one for each type, so that a statement is prepared once."""
    types = driver.types
    return [
        (int, types.numeric.Int8BinaryDumper),
        (float, types.numeric.FloatBinaryDumper),
        (str, types.string.StrBinaryDumper),
        (bytes, types.string.BytesBinaryDumper),
        (list, types.array.ListBinaryDumper),
    ]


@lru_cache(1000)
def _numbered(sql: str) -> bytes:
    """Return a statement with `$1`, `$2`, … for its question marks."""
    number = itertools.count(1)
    return re.sub(r"\?", lambda _: f"${next(number)}", sql).encode()


@lru_cache
def _upsert(table: Table) -> str:
    names = ", ".join(table.names)
    arrays = ", ".join(f"?::{_ARRAYS[column.kind]}" for column in table.columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in table.names if name not in table.key)
    key = ", ".join(table.key)
    return (
        f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT ({key}) DO UPDATE SET {changes}"
    )


@lru_cache
def _copying(table: Table) -> bytes:
    return f"COPY {table.name} ({', '.join(table.names)}) FROM STDIN (FORMAT BINARY)".encode()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
