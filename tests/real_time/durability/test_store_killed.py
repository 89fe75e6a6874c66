"""The store's process is killed again and again: it has all that it acknowledged, and its runners find it by themselves."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.real_time.durability.storm import open_storm, weather


def check_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(("engine", "anyio_backend"), [("sqlite:", "asyncio")])
async def test_killed_store_has_what_it_acknowledged(engine: str, anyio_backend_name: str, tmp_path: Path) -> None:
    with open_storm(engine, anyio_backend_name, tmp_path) as storm:
        await weather(storm, 300, store_kills=5, period=0.2)
    check_file(tmp_path / "run.db")


@pytest.mark.stress
@pytest.mark.timeout(400)
@pytest.mark.parametrize("engine", ["sqlite:", "sqlite:?durability=normal"])
async def test_store_killed_a_hundred_times_has_what_it_acknowledged(
    engine: str, anyio_backend_name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with open_storm(engine, anyio_backend_name, tmp_path) as storm:
        figures = await weather(storm, 5_000, store_kills=100, period=0.2)
    check_file(tmp_path / "run.db")
    for name, figure in figures.items():
        record_property(name, figure)
