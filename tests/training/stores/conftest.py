"""A store in a thread answers after a moment in which no task of the loop is busy: the clock waits longer."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lightactors.testing import virtual_backend


@pytest.fixture(params=anyio.get_available_backends())
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param, idle=0.05)
