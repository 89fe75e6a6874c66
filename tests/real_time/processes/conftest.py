"""A guardian for each test: nothing of it, or of what it launched, outlives the test."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Generator

import pytest

from tests.real_time.processes.zoo import Zoo, marked

if sys.platform != "linux":
    pytest.skip("the guardian needs Linux", allow_module_level=True)


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    value = uuid.uuid4().hex
    monkeypatch.setenv("LIGHTACTORS_TEST", value)
    return value


@pytest.fixture
def zoo(mark: str) -> Generator[Zoo]:
    zoo = Zoo(mark)
    yield zoo
    zoo.close()
    assert marked(mark) == {}
