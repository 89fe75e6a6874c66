"""Nested values as attributes of spans, and back: `{"a": {"b": 1}}` is `{"a.b": 1}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from lightactors.errors import InvalidArgument
from lightactors.training.records import AttributeValue

_PLAIN = (str, bool, int, float)
_Path: TypeAlias = tuple[str, ...]


def plain_scalar(value: Any) -> object:
    """Return NumPy's or PyTorch's scalar as Python's own number; raise TypeError for anything else."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    raise TypeError("it is of no type that JSON knows")


def flatten(name: str, value: object) -> dict[str, AttributeValue]:
    """Return a value as attributes whose names begin with `name`; None and what is empty are left out.

    Takes what JSON can hold, and dataclasses and msgspec structs of it. Raises `InvalidArgument` for the rest.
    """
    try:
        builtin = msgspec.to_builtins(value, str_keys=True, enc_hook=plain_scalar)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"{name} is a {type(value).__qualname__}, which no attribute can hold ({error}); give what JSON can hold"
        ) from None
    return dict(_leaves(name, builtin))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, AttributeValue]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}" if name else str(key), item)
    elif isinstance(value, (list, tuple)):
        yield from _list_leaves(name, value)
    elif value is not None:
        yield name, value


def _list_leaves(name: str, values: Sequence[Any]) -> Iterator[tuple[str, AttributeValue]]:
    if values and all(isinstance(value, _PLAIN) for value in values):
        yield name, list(values)
    else:
        for index, value in enumerate(values):
            yield from _leaves(f"{name}.{index}", value)


def unflatten(attributes: Mapping[str, Any], name: str) -> Any:
    """Return what is kept under a name: a value, a dict, a list where the keys are numbers, or None."""
    if name in attributes:
        return attributes[name]
    prefix = f"{name}."
    inside = [(tuple(key[len(prefix) :].split(".")), attributes[key]) for key in attributes if key.startswith(prefix)]
    return _nested(inside) if inside else None


def _nested(leaves: Sequence[tuple[_Path, Any]]) -> Any:
    grouped: dict[str, list[tuple[_Path, Any]]] = {}
    for (head, *rest), value in leaves:
        grouped.setdefault(head, []).append((tuple(rest), value))
    nested = {head: _inner(inner) for head, inner in grouped.items()}
    if all(head.isdecimal() for head in nested):
        return [nested[head] for head in sorted(nested, key=int)]
    return nested


def _inner(leaves: list[tuple[_Path, Any]]) -> Any:
    deeper = [leaf for leaf in leaves if leaf[0]]
    # A name that is both a value and a prefix keeps what lies below.
    return _nested(deeper) if deeper else leaves[0][1]
