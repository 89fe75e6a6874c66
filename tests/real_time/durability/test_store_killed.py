"""The store's process is killed again and again: it has all that it acknowledged, and its runners find it again."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import anyio
import psycopg
import pytest

import lightactors as la
from tests.postgres import PostgresServer
from tests.real_time.durability import bulk
from tests.real_time.durability.crew import joined
from tests.real_time.durability.storm import Keeper, open_storm, weather


def check_file(path: Path) -> None:
    """If there is a file, it is sound."""
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(("store_url", "anyio_backend"), [("sqlite", "asyncio")], indirect=["store_url"])
async def test_killed_store_has_what_it_acknowledged(store_url: str, anyio_backend_name: str, tmp_path: Path) -> None:
    with open_storm(store_url, anyio_backend_name, tmp_path) as storm:
        await weather(storm, 150, store_kills=5, period=0.2)
    check_file(tmp_path / "run.db")


@pytest.mark.parametrize(
    ("store_url", "anyio_backend"), [("sqlite", "trio"), ("postgresql", "asyncio")], indirect=["store_url"]
)
async def test_stores_over_one_database_share_its_work_though_they_are_killed(
    store_url: str, anyio_backend_name: str, tmp_path: Path
) -> None:
    with open_storm(store_url, anyio_backend_name, tmp_path, stores=2) as storm:
        await weather(storm, 100, store_kills=4, period=0.2)
    check_file(tmp_path / "run.db")


@pytest.mark.stress
@pytest.mark.timeout(400)
@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
async def test_stores_over_one_database_share_thousands_though_they_are_killed(
    store_url: str, anyio_backend_name: str, tmp_path: Path
) -> None:
    with open_storm(store_url, anyio_backend_name, tmp_path, stores=3) as storm:
        await weather(storm, 3_000, store_kills=30, period=0.2)
    check_file(tmp_path / "run.db")


@pytest.mark.stress
@pytest.mark.timeout(400)
@pytest.mark.parametrize("store_url", ["sqlite", "sqlite?durability=normal", "postgresql"], indirect=True)
async def test_store_killed_a_hundred_times_has_what_it_acknowledged(
    store_url: str, anyio_backend_name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with open_storm(store_url, anyio_backend_name, tmp_path) as storm:
        figures = await weather(storm, 5_000, store_kills=100, period=0.2)
    check_file(tmp_path / "run.db")
    for name, figure in figures.items():
        record_property(name, figure)


async def crash(server: PostgresServer, database: str, times: int) -> None:
    """Kill one of PostgreSQL's processes so often, which takes this for a crash of all and starts anew."""
    chance = random.Random(times)
    for _ in range(times):
        await anyio.sleep(chance.uniform(0.2, 1.0))
        backends = await anyio.to_thread.run_sync(server.backends, database)
        if backends:
            with suppress(ProcessLookupError):
                os.kill(chance.choice(backends), signal.SIGKILL)
        await anyio.to_thread.run_sync(until_ready, server)


def until_ready(server: PostgresServer) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(psycopg.OperationalError):
            server.query("SELECT 1")
            return
        time.sleep(0.02)
    raise TimeoutError(server.log()[-2000:])


@pytest.mark.parametrize(
    ("count", "crashes"),
    [(60, 2), pytest.param(2_000, 30, marks=[pytest.mark.stress, pytest.mark.timeout(400)])],
)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_store_outlives_the_crashes_of_postgresql(
    postgres_url: str,
    postgres_server: PostgresServer,
    anyio_backend_name: str,
    tmp_path: Path,
    count: int,
    crashes: int,
) -> None:
    with open_storm(postgres_url, anyio_backend_name, tmp_path) as storm:
        await weather(
            storm,
            count,
            more=partial(crash, postgres_server, postgres_server.database_of(postgres_url), crashes),
            period=0.3,
        )


@pytest.mark.stress
@pytest.mark.timeout(400)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_killed_store_with_a_million_spans_serves_again_within_two_seconds(
    anyio_backend_name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    await bulk.make_file(tmp_path / "run.db", rollouts=100_000, spans=10)
    with open_storm(f"{tmp_path}/run.db", anyio_backend_name, tmp_path) as storm:
        await weather(storm, 600, store_kills=5, period=0.2)
        storm.keeper.tell("kill")
        storm.keeper.close()
        began = time.monotonic()
        keeper = Keeper(f"{tmp_path}/run.db", anyio_backend_name)  # a program anew, its imports included
        try:
            async with la.open_system("asker"):
                store = await joined(f"{keeper.address}/store")
                statistics = await store.statistics()
                seconds = time.monotonic() - began
        finally:
            keeper.close()
    record_property("seconds", seconds)
    assert (statistics.total_rollouts, statistics.total_spans) >= (100_600, 1_000_600)
    assert seconds < 2
    check_file(tmp_path / "run.db")
