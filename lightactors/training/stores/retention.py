"""Retention: how long, how many and how much a durable store keeps of what is finished."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from lightactors.errors import ConfigurationError

_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {
    **{"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12},
    **{"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40},
}

_LEAST_BYTES = 1000
"""Who says less has most likely forgotten the unit."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What is kept of finished rollouts; the oldest ends go first, with attempts, spans and input.

    - `age`: seconds since its end.
    - `count`: how many.
    - `size`: bytes that the whole store may take; what is not finished goes in no case.
    - `least_age`: what ended less than so many seconds ago goes in no case: somebody may still come for it.

    None sets no limit. Raises `ConfigurationError` for what is none.
    """

    age: float | None = None
    count: int | None = None
    size: int | None = None
    least_age: float = 600.0

    def __post_init__(self) -> None:
        for name, value in (
            ("age", self.age),
            ("count", self.count),
            ("size", self.size),
            ("least_age", self.least_age),
        ):
            is_whole = "age" in name or not isinstance(value, float)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and is_whole
            if value is not None and not (is_number and 0 <= value < math.inf):
                unit = {"count": "a number of rollouts", "size": "bytes"}.get(name, "seconds")
                raise ConfigurationError(f"{name}={value!r}; give {unit}, from 0 on, or None for no limit")

    def __bool__(self) -> bool:
        return (self.age, self.count, self.size) != (None, None, None)

    def __str__(self) -> str:
        limits = {"age": self.age, "count": self.count, "size": self.size}
        return ", ".join(f"{name} {value:,}" for name, value in limits.items() if value is not None)


def seconds(text: str) -> float:
    """Return the seconds that a text such as `7d`, `12h` or `90min` says; a bare number could be anything."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(\w*)", text.strip())
    if found is None or found[2] not in _SECONDS:
        raise ConfigurationError(f"{text!r} is no time; give a number and one of {', '.join(_SECONDS)}, such as 7d")
    return float(found[1]) * _SECONDS[found[2]]


def size_bytes(text: str) -> int:
    """Return the bytes that a text such as `5GB` or `512MiB` says; refuse one that no store can have."""
    units = {name.lower(): factor for name, factor in _BYTES.items()}
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(\w*)", text.strip())
    if found is None or found[2].lower() not in units:
        raise ConfigurationError(f"{text!r} is no size; give a number and one of {', '.join(_BYTES)}, such as 5GB")
    size = int(float(found[1]) * units[found[2].lower()])
    if size < _LEAST_BYTES:
        raise ConfigurationError(f"{text!r} is less than any store takes; give a size from 1KB on")
    return size


def _days(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ConfigurationError(f"{text!r} is no number of days; give one from 0 on, such as 7 or 0.5")
    return float(text) * _SECONDS["d"]


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ConfigurationError(f"{text!r} is no number of rollouts")
    return int(text)


_OPTIONS = {"keep_days": ("age", _days), "keep": ("count", _whole), "max_size": ("size", size_bytes)}


def told(options: dict[str, str]) -> Retention:
    """Take from an address's options what they say of retention: `keep_days=7`, `keep=10000`, `max_size=5GB`."""
    limits: dict[str, float | int] = {}
    for name, (limit, read) in _OPTIONS.items():
        if name not in options:
            continue
        try:
            limits[limit] = read(options.pop(name))
        except ConfigurationError as error:
            raise ConfigurationError(f"{name} of the store's address: {error}") from None
    return Retention(**limits)  # type: ignore[arg-type]
