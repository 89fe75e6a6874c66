"""Runners are killed and frozen all the time; every rollout is run, acknowledged once, and late words are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real_time.durability.storm import open_storm, weather


@pytest.mark.parametrize(
    ("store_url", "anyio_backend"),
    [("memory", "trio"), ("sqlite", "asyncio"), ("postgresql", "asyncio")],
    indirect=["store_url"],
)
async def test_no_rollout_is_lost_or_acknowledged_twice(
    store_url: str, anyio_backend_name: str, tmp_path: Path
) -> None:
    with open_storm(store_url, anyio_backend_name, tmp_path) as storm:
        figures = await weather(storm, 150)
    assert figures["kills"] >= 5
    assert figures["freezes"] >= 1


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("store_url", ["memory", "sqlite", "postgresql"], indirect=True)
async def test_no_rollout_of_ten_thousand_is_lost_or_acknowledged_twice(
    store_url: str, anyio_backend_name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with open_storm(store_url, anyio_backend_name, tmp_path) as storm:
        figures = await weather(storm, 10_000)
    for name, figure in figures.items():
        record_property(name, figure)
    assert figures["kills"] + figures["freezes"] >= 400
    assert figures["refused"] > 0
