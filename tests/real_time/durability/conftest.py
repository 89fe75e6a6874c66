"""Stores to be troubled: one of each engine."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an engine's store; a test says which: `memory`, `sqlite?durability=...` or `postgresql`."""
    engine, _, options = request.param.partition("?")
    if engine == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return "memory" if engine == "memory" else f"sqlite:///{tmp_path}/run.db?{options}"
