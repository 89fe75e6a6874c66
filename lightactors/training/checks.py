"""What every engine of the store asks of an argument before it touches anything.

Each check returns the value it was given, or raises `InvalidArgument` with the name, the value and the cure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn, TypeGuard, TypeVar

from lightactors import errors
from lightactors.errors import InvalidArgument

T = TypeVar("T")


_LONGEST = 500
"""Characters of a value in a message."""

_MOST = 2**63 - 1
"""The largest whole number that a column of a database takes."""


def refuse(name: str, value: object, cure: str) -> NoReturn:
    raise InvalidArgument(f"{name} is {shown(value)}; {cure}")


def shown(value: object) -> str:
    """Return a value as text for an error's message, or the beginning of it."""
    text = errors.shown(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def instance(name: str, value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        refuse(name, value, f"give a {kind.__name__}")
    return value


def text(name: str, value: object) -> str:
    """Accept a string that can be an id: not empty, and nothing in it that a log or a database would stumble over."""
    if not is_text(value):
        refuse(name, value, "give a string that is not empty, of printable characters")
    return value


def is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value != "" and value.isprintable()


def string(name: str, value: object) -> str:
    """Accept a string that every engine can look for, an empty one too."""
    text = instance(name, value, str)
    if "\0" in text or not _is_encodable(text):
        refuse(name, value, "leave out NUL and halves of surrogate pairs")
    return text


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def texts(name: str, values: Sequence[str]) -> list[str]:
    return [text(f"a member of {name}", value) for value in several(name, values)]


def optional_text(name: str, value: object) -> str | None:
    return value if value is None else text(name, value)


def optional_string(name: str, value: object) -> str | None:
    """Accept any string, an empty one too."""
    return None if value is None else instance(name, value, str)


def member(name: str, value: T, allowed: Collection[T]) -> T:
    # A list would be compared well with a tuple of names, but is not hashable enough for a set or a dict.
    if not isinstance(value, str) or value not in allowed:
        refuse(name, value, f"use one of {', '.join(map(repr, allowed))}")
    return value


def optional_member(name: str, value: T | None, allowed: Collection[T]) -> T | None:
    return value if value is None else member(name, value, allowed)


def members(name: str, values: Sequence[T], allowed: Collection[T]) -> tuple[T, ...]:
    return tuple(member(f"a member of {name}", value, allowed) for value in several(name, values))


def several(name: str, values: Sequence[T]) -> Sequence[T]:
    """Accept a list, tuple or set; a lone string is a forgotten pair of brackets."""
    if not isinstance(values, (list, tuple, set, frozenset)):
        refuse(name, values, "give a list")
    return values


def whole(name: str, value: object, *, least: float = -math.inf) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        refuse(name, value, "give a whole number" + (f", {least} or more" if least > -math.inf else ""))
    if value > _MOST:
        refuse(name, value, f"give a whole number, {_MOST} or less")
    return value


def number(name: str, value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or math.isnan(value):
        refuse(name, value, "give a number")
    if isinstance(value, int) and abs(value) > _MOST:
        refuse(name, value, "give a number that is not so large, or infinity")
    return value


def optional_number(name: str, value: object) -> float | None:
    return value if value is None else number(name, value)


def positive(name: str, value: object) -> float:
    if (positive := number(name, value)) <= 0:
        refuse(name, value, "give a number above 0")
    return positive


def mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        refuse(name, value, "give a mapping with strings as keys")
    return value
