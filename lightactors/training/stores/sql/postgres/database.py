"""A connection of a store to PostgreSQL."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lightactors.errors import InvalidArgument, StoreDamaged, StoreUnavailable
from lightactors.training.stores.sql import schema
from lightactors.training.stores.sql.database import InDoubt, Interrupted, Row
from lightactors.training.stores.sql.postgres import failures, statements
from lightactors.training.stores.sql.postgres.listener import Listener
from lightactors.training.stores.sql.postgres.server import Server, load_driver
from lightactors.training.stores.sql.schema import Table

if TYPE_CHECKING:
    import psycopg

logger = logging.getLogger("lightactors.store")

OLDEST = 14
"""The oldest version of PostgreSQL that will do."""

_SWEEP_SECONDS = 1.0
"""How often to look for what others have written when none of them tells."""

PARTITION = 100_000
"""How many rollouts' spans are in one partition: what is old is swept apart from what is new."""

_names = itertools.count()


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
            refusal = failures.refusal(f"{self._server}", error)
            if self._is_reader or failures.is_coming_back(error):
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
        for kind, dumper in statements.dumpers(self._driver):
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
            raise Interrupted(f"{self._server} can't be reached: {failures.first_line(error)}") from error
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
                self._execute(statements.creation(table))
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
        with self._explained(), self._connected().copy(statements.copying(table)) as copy:
            copy.set_types([statements.COPIED[column.kind] for column in table.columns])
            for row in rows:
                copy.write_row(row)

    def write(self, table: Table, rows: Sequence[Row]) -> None:
        if rows:
            self.run(statements.upsert(table), *([*column] for column in zip(*rows, strict=True)))

    def _command(self, sql: str) -> None:
        """Run statements that take and give nothing, in one journey."""
        with self._explained():
            self._connected().execute(sql.encode(), prepare=False, binary=False)

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connected().execute(statements.numbered(sql), parameters)

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
        return dict(self.rows(statements.COUNT, list(changes), list(changes.values())))

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
        if not error.sqlstate and isinstance(error, self._driver.OperationalError):
            self._disconnect()  # the driver's own trouble: nobody knows what is left of the connection
        is_connected = self._connection is not None and not self._connection.closed
        return failures.explanation(f"{self._server}", error, is_connected=is_connected)
