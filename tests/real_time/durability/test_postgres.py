"""A connection of the store to PostgreSQL: what it makes there, what it says of trouble, and how it comes back."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from lightactors.errors import ConfigurationError, InvalidArgument, StoreDamaged, StoreUnavailable
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.sql import schema
from lightactors.training.stores.sql.archive import Archive
from lightactors.training.stores.sql.database import Interrupted
from lightactors.training.stores.sql.locations import location_of
from lightactors.training.stores.sql.postgres import PostgresDatabase, Server
from lightactors.training.stores.sql.postgres.database import PARTITION
from tests.postgres import PASSWORD, PostgresServer


@contextmanager
def opened(url: str, *, is_reader: bool = False) -> Iterator[PostgresDatabase]:
    database = location_of(url).connect(is_reader)
    assert isinstance(database, PostgresDatabase)
    database.open()
    try:
        yield database
    finally:
        database.close()


def span(number: int, ordinal: int = 0) -> tuple[Any, ...]:
    return (number, ordinal, 1, ordinal, f"span {ordinal}", 3, b"abc")


def counter(database: PostgresDatabase, name: str = "spans") -> int:
    return int(database.rows("SELECT value FROM counters WHERE name = ?", name)[0][0])


def count(database: PostgresDatabase) -> None:
    """Begin a transaction and do something in it."""
    database.begin()
    database.run("UPDATE counters SET value = value + 1 WHERE name = ?", "spans")


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def recover(database: PostgresDatabase) -> None:
    """Try until the server is there again."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(Interrupted):
            return database.recover()
        time.sleep(0.02)
    raise AssertionError("it did not come back")


# Values and statements


def test_values_come_back_as_they_were(postgres_url: str) -> None:
    row = (1, "ro-1", "queuing", None, "rs", -1.5, None, 2**62, None, "ω %s $1 'x'", None, 0, b"\0\xff")
    other = (2, "ro-2", "queuing", "train", None, 1e300, 2.5, None, 7, None, 1, 3, b"")
    with opened(postgres_url) as database:
        database.begin()
        database.write(schema.ROLLOUTS, [row, other])
        database.write(schema.ROLLOUTS, [(*other[:2], "running", *other[3:])])
        database.commit()
        names = ", ".join(schema.ROLLOUTS.names)
        assert database.rows(f"SELECT {names} FROM rollouts ORDER BY number") == [
            row,
            (*other[:2], "running", *other[3:]),
        ]
        chosen = f"SELECT number FROM rollouts WHERE {database.among('rollout_id')} ORDER BY number"
        assert database.rows(chosen, database.listed(["ro-2", "ro-3"])) == [(2,)]
        assert database.rows(chosen, database.listed([])) == []
        found = f"SELECT number FROM rollouts WHERE {database.contains('holder')}"
        assert [database.rows(found, text) for text in ("%", "$1 '", "_")] == [[(1,)], [(1,)], []]


@pytest.mark.parametrize("value", ["a\0b", "a\ud800", 2**63], ids=["NUL", "half a pair", "large"])
def test_value_that_it_can_not_hold_is_refused(postgres_url: str, value: object) -> None:
    with opened(postgres_url) as database:
        database.begin()
        column = "rollout_id" if isinstance(value, str) else "number"
        with pytest.raises(InvalidArgument, match="can't be kept"):
            database.rows(f"SELECT 1 FROM rollouts WHERE {column} = ?", value)
        database.rollback()
        count(database)
        database.commit()


def test_texts_are_in_the_order_of_their_characters(postgres_url: str) -> None:
    with opened(postgres_url) as database:
        database.begin()
        database.write(schema.META, [(name, "x") for name in ("b", "B", "a", "_", "Ä")])
        names = [name for (name,) in database.rows("SELECT name FROM meta WHERE value = 'x' ORDER BY name")]
        assert names == sorted(names)
        database.rollback()


def test_numbers_rise_whoever_asks(postgres_url: str) -> None:
    with opened(postgres_url) as ours, opened(postgres_url) as theirs:
        numbers = [number for _ in range(3) for one in (ours, theirs) for number in one.numbers("position", 2)]
    assert numbers == sorted(set(numbers))


def test_rollouts_that_somebody_holds_are_left_out(postgres_url: str) -> None:
    rows = [(n, f"ro-{n}", "queuing", None, None, 0.0, None, n, None, None, None, 0, b"") for n in (1, 2, 3)]
    sql = "SELECT number FROM rollouts WHERE position IS NOT NULL ORDER BY position LIMIT 2"
    with opened(postgres_url) as ours, opened(postgres_url) as theirs:
        ours.begin()
        ours.write(schema.ROLLOUTS, rows)
        ours.commit()
        ours.begin()
        theirs.begin()
        assert ours.rows(sql + ours.holding_free.format("rollouts")) == [(1,), (2,)]
        assert theirs.rows(sql + theirs.holding_free.format("rollouts")) == [(3,)]
        ours.rollback()
        theirs.rollback()


# The schema


def test_nodes_that_come_at_once_make_one_schema(postgres_url: str) -> None:
    databases = [PostgresDatabase(Server(postgres_url)) for _ in range(6)]
    threads = [threading.Thread(target=database.open) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counter(database) for database in databases] == [0] * 6
    for database in databases:
        database.close()


def test_nodes_that_need_a_partition_at_once_make_it_once(postgres_url: str, postgres_server: PostgresServer) -> None:
    def write(database: PostgresDatabase, number: int) -> None:
        database.begin()
        database.insert(schema.SPANS, [span(number), span(number + PARTITION)])
        database.commit()

    with opened(postgres_url) as ours, opened(postgres_url) as theirs:
        threads = [threading.Thread(target=write, args=(d, n)) for n, d in enumerate((ours, theirs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ours.rows("SELECT count(*) FROM spans_0") == [(2,)]
        assert ours.rows("SELECT count(*) FROM spans_1") == [(2,)]


def test_partition_of_a_transaction_that_failed_is_made_again(postgres_url: str) -> None:
    with opened(postgres_url) as database:
        for end in (database.rollback, database.commit):
            database.begin()
            database.insert(schema.SPANS, [span(1)])
            end()
        assert database.rows("SELECT count(*) FROM spans") == [(1,)]


def test_stores_of_two_schemas_share_a_database(postgres_url: str) -> None:
    with opened(f"{postgres_url}&schema=one") as one, opened(f"{postgres_url}&schema=two") as two:
        count(one)
        one.commit()
        assert (counter(one), counter(two)) == (1, 0)


def test_newer_schema_is_refused(postgres_url: str) -> None:
    with opened(postgres_url) as database:
        database.run("UPDATE meta SET value = '99' WHERE name = 'schema_version'")
    with pytest.raises(StoreDamaged, match=r"newer lightactors \(schema 99, this one knows"):
        PostgresDatabase(Server(postgres_url)).open()


def test_reader_makes_no_store(postgres_url: str) -> None:
    with pytest.raises(StoreDamaged, match="holds no store of lightactors in its schema 'lightactors'"):
        PostgresDatabase(Server(postgres_url), is_reader=True).open()


def test_archive_explains_what_it_can_not_open(postgres_url: str, postgres_server: PostgresServer) -> None:
    for url, cure in ((postgres_url, "that a program keeps its store in"), (postgres_server.url("none"), "createdb")):
        with pytest.raises((StoreDamaged, StoreUnavailable), match=cure), Archive(url):
            pass


def test_schema_of_somebody_else_is_left_alone(postgres_url: str, postgres_server: PostgresServer) -> None:
    database = PostgresServer.database_of(postgres_url)
    postgres_server.query("CREATE SCHEMA lightactors", "CREATE TABLE lightactors.mine (x int)", database=database)
    with pytest.raises(StoreDamaged, match=r"holds something else; choose another: \?schema="):
        PostgresDatabase(Server(postgres_url)).open()


def test_database_without_unicode_is_refused(postgres_server: PostgresServer) -> None:
    postgres_server.query("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(StoreUnavailable, match="ENCODING 'UTF8'"):
        PostgresDatabase(Server(postgres_server.url("ascii"))).open()
    postgres_server.query("DROP DATABASE ascii")


def test_old_server_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightactors.training.stores.sql.postgres.database.OLDEST", 99)
    with pytest.raises(StoreUnavailable, match=r"is PostgreSQL \d+; a store needs 99 or newer"):
        PostgresDatabase(Server(postgres_url)).open()


# What can't be opened


@pytest.fixture(scope="module")
def login(postgres_server: PostgresServer) -> str:
    """Give a user with a password, who may make nothing."""
    postgres_server.query(f"CREATE ROLE somebody LOGIN PASSWORD '{PASSWORD}'")
    return "somebody"


def refusal(url: str) -> str:
    with pytest.raises((StoreUnavailable, ConfigurationError)) as refused:
        location_of(url).connect(False).open()
    return str(refused.value)


def test_wrong_logins_are_explained(postgres_server: PostgresServer, login: str) -> None:
    assert "check the password" in refusal(postgres_server.url(role=login, password="wrong"))
    assert "give the password" in refusal(postgres_server.url(role=login))
    assert "create the database first" in refusal(postgres_server.url("nowhere"))
    assert "GRANT CREATE" in refusal(postgres_server.url(role=login, password=PASSWORD))


def test_who_may_not_use_the_schema_is_told_what_to_grant(
    postgres_url: str, postgres_server: PostgresServer, login: str
) -> None:
    with opened(postgres_url):
        pass
    url = postgres_server.url(PostgresServer.database_of(postgres_url), role=login, password=PASSWORD)
    assert "GRANT USAGE ON SCHEMA lightactors" in refusal(url)
    with pytest.raises(StoreUnavailable, match="GRANT USAGE ON SCHEMA lightactors"), Archive(url):
        pass


def test_wrong_places_are_explained(tmp_path: object) -> None:
    assert "check the host" in refusal("postgresql://nobody@nowhere.invalid/run")
    assert "check that the server runs" in refusal("postgresql://nobody@127.0.0.1:1/run")
    assert "check that the server runs" in refusal(f"postgresql://nobody@/run?host={tmp_path}")


def test_wrong_urls_are_explained() -> None:
    assert "can't be read" in refusal("postgresql://nobody:secret@host:port%zz/run")
    assert "no option 'colour'" in refusal("postgresql://nobody:secret@host/run?host=h&colour=red")
    assert "lower-case letters" in refusal("postgresql://host/run?schema=Mine")
    assert "'full' or 'normal'" in refusal("postgresql://host/run?durability=most")


def test_url_goes_to_libpq_as_it_was_written() -> None:
    options = "options=-c%20search_path%3Dx&password=a+b%2Bc"
    location = location_of(f"postgresql://bob@host/run?keep=3&{options}&schema=mine")
    assert location.retention.count == 3
    server: Any = location.connect(True)
    assert server._server.options["options"] == "-c search_path=x"  # noqa: SLF001
    assert server._server.options["password"] == "a+b+c"  # noqa: SLF001


def test_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"lightactors\[postgres\]"):
        Server("postgresql://host/run")


def error_of(url: str, texts: list[str]) -> BaseException | None:
    try:
        database = location_of(url).connect(False)
        texts.append(f"{database!r} {open_store(url)!r}")
        database.open()
    except (StoreUnavailable, ConfigurationError) as error:
        return error
    raise AssertionError("it was opened")


def test_password_is_shown_to_nobody(
    postgres_server: PostgresServer, login: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "s3cr3t%20w0rd"
    texts: list[str] = []
    for url in (
        f"postgresql://{login}:{secret}@/postgres?host={postgres_server.folder}",
        f"postgresql://{login}:{secret}@127.0.0.1:1/postgres",
        f"postgresql://{login}:{secret}@host/run?colour=red",
        f"postgresql://{login}:{secret}@[::1/run",
        f"postgresql://{login}@127.0.0.1:1/postgres?password={secret}",
        f"postgresql://{login}:sec@{secret}@127.0.0.1:1/postgres",
        f"postgresql://{login}:sec/{secret}@127.0.0.1:1/postgres",
        f"postgresql://{login}:sec?{secret}@127.0.0.1:1/postgres",
    ):
        error = error_of(url, texts)
        while error is not None:
            texts.append(f"{error!r} {error}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert "s3cr3t" not in "\n".join([*texts, caplog.text])


# Lost connections


def test_restarted_server_interrupts_a_transaction(postgres_url: str, postgres_server: PostgresServer) -> None:
    with opened(postgres_url) as database:
        count(database)
        postgres_server.restart("immediate")
        with pytest.raises(Interrupted):
            database.commit()
        database.rollback()
        recover(database)
        assert counter(database) == 0
        count(database)
        database.commit()
        assert counter(database) == 1


def test_killed_backend_interrupts_a_transaction(postgres_url: str, postgres_server: PostgresServer) -> None:
    with opened(postgres_url) as database:
        count(database)
        ((pid,),) = database.rows("SELECT pg_backend_pid()")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Interrupted):
            database.commit()
        recover(database)
        assert counter(database) == 0


def test_server_that_is_gone_interrupts_until_it_is_back(postgres_url: str, postgres_server: PostgresServer) -> None:
    with opened(postgres_url) as database:
        postgres_server.stop()
        try:
            for attempt in (database.begin, database.recover, database.recover, database.begin):
                with pytest.raises(Interrupted):
                    attempt()
        finally:
            postgres_server.start()
        recover(database)
        assert counter(database) == 0


def test_what_a_lost_connection_left_is_ended(postgres_url: str, postgres_server: PostgresServer) -> None:
    with opened(postgres_url) as database, opened(postgres_url) as other:
        count(database)
        # The network breaks: the server knows nothing of it, and goes on to hold the row.
        lost, database._connection, database._cursor = database._connection, None, None  # noqa: SLF001
        assert lost is not None
        with pytest.raises(Interrupted):
            database.commit()
        recover(database)
        count(other)
        other.commit()
        assert counter(database) == 1
        lost.close()


def test_deadlock_interrupts_one_of_two(postgres_url: str) -> None:
    outcomes: list[str] = []

    def update(database: PostgresDatabase, name: str) -> None:
        try:
            database.run("UPDATE counters SET value = value + 1 WHERE name = ?", name)
            database.commit()
            outcomes.append("done")
        except Interrupted:
            database.rollback()
            outcomes.append("interrupted")

    with opened(postgres_url) as ours, opened(postgres_url) as theirs:
        count(ours)
        theirs.begin()
        theirs.run("UPDATE counters SET value = value + 1 WHERE name = ?", "fenced")
        thread = threading.Thread(target=update, args=(ours, "fenced"))
        thread.start()
        update(theirs, "spans")
        thread.join()
    assert sorted(outcomes) == ["done", "interrupted"]


def test_key_that_somebody_else_was_quicker_with_interrupts(postgres_url: str) -> None:
    row = ("ro-1", "queuing", None, None, 0.0, None, None, None, None, None, 0, b"")
    with opened(postgres_url) as database:
        database.begin()
        with pytest.raises(Interrupted, match="duplicate key"):
            database.write(schema.ROLLOUTS, [(1, *row), (2, *row)])
        database.rollback()


def test_server_that_takes_no_writes_is_unavailable(postgres_url: str, postgres_server: PostgresServer) -> None:
    with opened(postgres_url) as database:
        database.run("SET default_transaction_read_only = on")
        with pytest.raises(StoreUnavailable, match="takes no writes"):
            count(database)
        database.rollback()


def test_damaged_store_is_named(postgres_url: str) -> None:
    with opened(postgres_url) as database:
        database.run("DROP TABLE rollouts")
        with pytest.raises(StoreDamaged, match="rollouts"):
            database.rows("SELECT 1 FROM rollouts")


# Other nodes


def test_news_of_others_is_heard_and_ones_own_is_not(postgres_url: str) -> None:
    heard = threading.Event()
    with opened(postgres_url) as ours, opened(postgres_url) as theirs:
        ours.watch(heard.set)
        assert heard.wait(5)  # it tells of what was missed before it listened
        ours.begin()
        ours.commit()
        for database, is_heard in ((ours, False), (theirs, True)):
            heard.clear()
            database.begin()
            database.tell_others()
            database.commit()
            assert heard.wait(5 if is_heard else 0.1) == is_heard
        assert ours.has_news()
        assert ours.begin()
        ours.rollback()
        assert not ours.has_news()


def test_listener_comes_back_with_the_server(postgres_url: str, postgres_server: PostgresServer) -> None:
    heard = threading.Event()
    with opened(postgres_url) as database:
        database.watch(heard.set)
        assert heard.wait(5)
        heard.clear()
        postgres_server.restart()
        assert heard.wait(5)


def test_node_has_few_connections_and_leaves_none(postgres_url: str, postgres_server: PostgresServer) -> None:
    before, name = set(threading.enumerate()), PostgresServer.database_of(postgres_url)
    with opened(postgres_url) as database, opened(postgres_url, is_reader=True):
        database.watch(lambda: None)
        until(lambda: len(postgres_server.backends(name)) == 3)
    until(lambda: not postgres_server.backends(name))
    assert set(threading.enumerate()) <= before
