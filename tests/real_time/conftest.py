"""Tests with threads, sockets and processes take real time: every loop, its own clock."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

from lightactors.training.strategies import Backend
from tests.postgres import NoPostgres, PostgresServer


@pytest.fixture(params=anyio.get_available_backends())
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    pytest.importorskip(backend)
    return backend


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Give the loop that a program under test is to run on."""
    backend: Backend = request.param
    pytest.importorskip(backend)
    return backend


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Give a PostgreSQL that all tests share; who stops it starts it again."""
    try:
        server = PostgresServer()
    except NoPostgres as missing:
        pytest.skip(f"NOT TESTED WITH POSTGRESQL: {missing}")
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Give the URL of an empty database."""
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)
