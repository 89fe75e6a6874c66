"""Tests with threads, sockets and processes take real time: every loop, its own clock."""

from __future__ import annotations

import anyio
import pytest

from lightactors.training.strategies import Backend


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
