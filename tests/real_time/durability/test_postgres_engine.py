"""A store in PostgreSQL keeps every rule that the one in memory keeps, through every door."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from lightactors.testing.store import CHECKS, Check, check_rule
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.sql import schema
from tests.postgres import PostgresServer
from tests.real_time.doors import DurableMachine, OpenStore, direct, linked, mailbox
from tests.training.stores.test_store_model import Door, MailboxDoor, MailboxMachine, StoreMachine, on, run

FIXED = ("meta", "counters")


@pytest.fixture(scope="module")
def shared_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the URL of a database for several stores, one after the other."""
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture
def url(shared_url: str, postgres_server: PostgresServer) -> Iterator[str]:
    """Give the URL of an empty store."""
    yield shared_url
    empty(shared_url, postgres_server)


def empty(url: str, server: PostgresServer) -> None:
    """Make a store as it was when it was new, which takes less time than a new one."""
    tables = [f"DELETE FROM lightactors.{table.name}" for table in schema.TABLES if table.name not in FIXED]
    fixed = ["UPDATE lightactors.counters SET value = 0", "DELETE FROM lightactors.meta WHERE name <> 'schema_version'"]
    server.query(f"DO $$ BEGIN {'; '.join([*tables, *fixed])}; END $$", database=PostgresServer.database_of(url))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    # By a link come the same calls as by a mailbox.
    "door",
    [direct, pytest.param(mailbox, marks=pytest.mark.stress), linked],
    ids=lambda door: door.__name__,
)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_postgres_keeps_the_rule(check: Check, door: OpenStore, url: str) -> None:
    await check_rule(check, lambda: door(url))


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("check", CHECKS[::8], ids=lambda check: check.__name__)
async def test_postgres_keeps_the_rule_on_trio(check: Check, url: str) -> None:
    await check_rule(check, lambda: linked(url))


class PostgresMachine(DurableMachine):
    """The calls of the model's machine, made to a store in PostgreSQL."""

    server: PostgresServer
    url: str

    def new_url(self) -> str:
        self.stack.callback(empty, self.url, self.server)
        return self.url


class NodesDoor:
    """Several stores over one database, asked in turn."""

    def __init__(self, doors: list[Door]) -> None:
        self._doors = itertools.cycle(doors)

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        return next(self._doors).call(method, *args, **kwargs)


class NodesMachine(MailboxMachine):
    """The calls of the model's machine, each made to another store than the one before; time stands still."""

    server: PostgresServer
    url: str

    def open(self) -> Door:
        portal = self.stack.enter_context(start_blocking_portal(self.backend))
        self.stack.callback(empty, self.url, self.server)
        doors: list[Door] = []
        for _ in range(3):
            store: Any = open_store(self.url)
            self.stack.callback(store.close)
            doors.append(MailboxDoor(portal, store))
        return NodesDoor(doors)


@pytest.fixture
def machine(postgres_server: PostgresServer, postgres_url: str) -> type[StoreMachine]:
    return type("PostgresMachine", (PostgresMachine,), {"server": postgres_server, "url": postgres_url})


def test_postgres_does_what_the_model_does(machine: type[StoreMachine]) -> None:
    run(machine, examples=5, steps=20)


def test_several_nodes_do_what_the_model_does(postgres_server: PostgresServer, postgres_url: str) -> None:
    run(type("Nodes", (NodesMachine,), {"server": postgres_server, "url": postgres_url}), examples=5, steps=20)


@pytest.mark.stress
@pytest.mark.timeout(1_800)
def test_several_nodes_do_what_the_model_does_for_long(postgres_server: PostgresServer, postgres_url: str) -> None:
    run(type("Nodes", (NodesMachine,), {"server": postgres_server, "url": postgres_url}), examples=200, steps=50)


@pytest.mark.stress
@pytest.mark.timeout(1_800)
def test_postgres_does_what_the_model_does_for_long(machine: type[StoreMachine], anyio_backend_name: str) -> None:
    run(on(machine, anyio_backend_name), examples=200, steps=50)
