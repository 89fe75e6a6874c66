"""Where a store is looked for when nobody says."""

from __future__ import annotations

import pytest

from lightactors.cli.options import listen_default, store_default
from lightactors.errors import ConfigurationError

VARIABLES = [
    f"{prefix}_{name}" for prefix in ("LIGHTACTORS", "AGL") for name in ("STORE", "SERVER_HOST", "SERVER_PORT")
]


@pytest.fixture(autouse=True)
def _nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_this_host_is_the_default() -> None:
    assert [store_default(), *listen_default()] == ["grpc://127.0.0.1:4747"] * 2


def test_store_of_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGL_SERVER_HOST", "elsewhere")
    monkeypatch.setenv("LIGHTACTORS_STORE", "grpcs://far:1")
    assert store_default() == "grpcs://far:1"


def test_host_and_port_of_agent_lightning_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGL_SERVER_HOST", "::1")
    monkeypatch.setenv("AGL_SERVER_PORT", "5000")
    assert [store_default(), *listen_default()] == ["grpc://[::1]:5000"] * 2


def test_wrong_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGL_SERVER_PORT", "many")
    with pytest.raises(ConfigurationError, match="AGL_SERVER_PORT='many' is no port"):
        store_default()
