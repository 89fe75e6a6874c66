"""Every async test runs on every loop that is installed, each time with a virtual clock of its own."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from lightactors.testing import virtual_backend


@pytest.fixture(params=anyio.get_available_backends())
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param)
