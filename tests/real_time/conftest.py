"""Tests with threads, sockets and processes take real time: every loop, its own clock."""

from __future__ import annotations

import anyio
import pytest


@pytest.fixture(params=anyio.get_available_backends())
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend
