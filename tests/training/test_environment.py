"""Settings come from the argument, the environment or the default, in this order; wrong ones are named."""

from __future__ import annotations

from typing import Any

import pytest

from lightactors.errors import ConfigurationError
from lightactors.training import environment

ROLES = ("algorithm", "runner", "both")


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CURRENT_ROLE", "SERVER_HOST", "SERVER_PORT"):
        for prefix in environment.PREFIXES:
            monkeypatch.delenv(prefix + name, raising=False)


def role(argument: Any = None) -> str:
    chosen: str = environment.choice("CURRENT_ROLE", argument, ROLES, default="both", called="role")
    return chosen


def port(argument: Any = None) -> int:
    return environment.port("SERVER_PORT", argument, default=4747)


def host(argument: Any = None) -> str:
    return environment.text("SERVER_HOST", argument, default="localhost")


def test_defaults_hold_where_nothing_is_said() -> None:
    assert (role(), host(), port()) == ("both", "localhost", 4747)


@pytest.mark.parametrize("prefix", environment.PREFIXES)
def test_environment_comes_before_the_default(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv(f"{prefix}CURRENT_ROLE", "Runner")
    monkeypatch.setenv(f"{prefix}SERVER_HOST", " trainer ")
    monkeypatch.setenv(f"{prefix}SERVER_PORT", "0")
    assert (role(), host(), port()) == ("runner", "trainer", 0)


def test_our_own_prefix_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGL_SERVER_PORT", "1")
    monkeypatch.setenv("LIGHTACTORS_SERVER_PORT", "2")
    assert port() == 2


def test_argument_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGL_CURRENT_ROLE", "runner")
    monkeypatch.setenv("AGL_SERVER_HOST", "trainer")
    monkeypatch.setenv("AGL_SERVER_PORT", "banana")
    assert (role("algorithm"), host("here"), port(65535)) == ("algorithm", "here", 65535)


@pytest.mark.parametrize(
    ("name", "word", "read"),
    [
        ("AGL_CURRENT_ROLE", "master", role),
        ("LIGHTACTORS_CURRENT_ROLE", "", role),
        ("AGL_SERVER_HOST", " ", host),
        ("AGL_SERVER_PORT", "http", port),
        ("AGL_SERVER_PORT", "", port),
        ("LIGHTACTORS_SERVER_PORT", "65536", port),
        ("AGL_SERVER_PORT", "-1", port),
        ("AGL_SERVER_PORT", "٣", port),
    ],
)
def test_wrong_word_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, word: str, read: Any
) -> None:
    monkeypatch.setenv(name, word)
    with pytest.raises(ConfigurationError, match=f"{name}={word!r}"):
        read()


@pytest.mark.parametrize(
    ("argument", "read", "said"),
    [
        ("master", role, "role='master'; choose from 'algorithm', 'runner', 'both'"),
        (7, role, "role=7; choose from"),
        ("", host, "server_host=''; give some text"),
        (7, host, "server_host=7; give some text"),
        (65536, port, "server_port=65536 is no port"),
        (True, port, "server_port=True is no port"),
        (1.5, port, "server_port=1.5 is no port"),
    ],
)
def test_wrong_argument_is_named(argument: Any, read: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        read(argument)
