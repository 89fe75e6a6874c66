"""Settings from the environment: `LIGHTACTORS_X`, or `AGL_X` as Agent-Lightning's users have it."""

from __future__ import annotations

import os
from typing import TypeVar

from lightactors.errors import ConfigurationError

T = TypeVar("T")

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


def _lookup(name: str) -> tuple[str, str | None]:
    for prefix in PREFIXES:
        if (word := os.environ.get(prefix + name)) is not None:
            return prefix + name, word
    return name, None
