"""Settings from the environment: `LIGHTACTORS_X`, or `AGL_X` as Agent-Lightning's users have it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from lightactors.errors import ConfigurationError

C = TypeVar("C", bound=str)

PREFIXES = ("LIGHTACTORS_", "AGL_")

_FLAGS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def flag(name: str, argument: bool | None, *, default: bool) -> bool:
    """Return the argument, else the environment's word, else the default.

    Raises `ConfigurationError` for a word that is neither yes nor no.
    """
    if argument is not None:
        return argument
    variable, word = _lookup(name)
    if word is None:
        return default
    if word.strip().lower() not in _FLAGS:
        raise ConfigurationError(f"{variable}={word!r} is neither yes nor no; use one of {', '.join(_FLAGS)}")
    return _FLAGS[word.strip().lower()]


def text(name: str, argument: str | None, *, default: str) -> str:
    """Return the argument, else the environment's text, else the default.

    Raises `ConfigurationError` for a text of nothing.
    """
    source, value = _given(name, argument, default)
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{source}={value!r}; give some text, or leave it out for {default!r}")
    return value.strip()


def choice(name: str, argument: C | None, choices: Sequence[C], *, default: C, called: str) -> C:
    """Return the argument, which is `called` so, else the environment's word, else the default.

    Raises `ConfigurationError` for what is none of the choices.
    """
    source, value = _given(name, argument, default)
    source = called if argument is not None else source
    word = value.strip().lower() if isinstance(value, str) else value
    for one in choices:
        if one == word:
            return one
    raise ConfigurationError(f"{source}={value!r}; choose from {', '.join(map(repr, choices))}")


def port(name: str, argument: int | None, *, default: int) -> int:
    """Return the argument, else the environment's number, else the default; 0 lets the system choose.

    Raises `ConfigurationError` for what is no port.
    """
    source, value = _given(name, argument, default)
    is_word = isinstance(value, str) and value.strip().isascii() and value.strip().isdigit()
    number = int(str(value)) if is_word else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 65535:
        raise ConfigurationError(f"{source}={value!r} is no port; give a number from 0 (any free one) to 65535")
    return number


def _given(name: str, argument: object, default: object) -> tuple[str, object]:
    """Return what was given, and where: the argument's name or the variable's."""
    if argument is not None:
        return name.lower(), argument
    variable, word = _lookup(name)
    return (variable, default if word is None else word)


def _lookup(name: str) -> tuple[str, str | None]:
    for prefix in PREFIXES:
        if (word := os.environ.get(prefix + name)) is not None:
            return prefix + name, word
    return name, None
