"""Annotations taken apart: what is inside, may it be None or UNSET, what limits it, what a class's fields are."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

import msgspec

from lightactors.contract import PYTHON_ONLY, FieldNumber


class NoDefault(Enum):
    """What stands where a default would."""

    REQUIRED = auto()
    ABSENT = auto()  # a key that a TypedDict need not have


REQUIRED, ABSENT = NoDefault

_TYPE_ALIAS: Any = getattr(typing, "TypeAliasType", ())  # `type X = ...`, of Python 3.12

_TRANSPARENT: tuple[Any, ...] = (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar)


@dataclass(frozen=True, slots=True)
class Hint:
    """An annotation without its wrappings."""

    inner: Any
    has_none: bool = False
    constraint: Any = None
    alias: str | None = None
    is_python_only: bool = False
    number: int = 0


def unwrap(hint: Any) -> Hint:
    """Take off what is wrapped round an annotation."""
    constraint = alias = None
    is_python_only, number = False, 0
    while True:
        if isinstance(hint, _TYPE_ALIAS):
            alias, hint = hint.__name__, hint.__value__
        elif hasattr(hint, "__metadata__"):
            is_python_only |= PYTHON_ONLY in hint.__metadata__
            number = next((mark.number for mark in hint.__metadata__ if isinstance(mark, FieldNumber)), number)
            if any(isinstance(mark, msgspec.Meta) for mark in hint.__metadata__):
                constraint = hint
            hint = hint.__origin__
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif isinstance(hint, type) and hasattr(hint, "stands_for"):  # a union, of which there is more in Python
            alias, hint = hint.__name__, hint.stands_for
        elif typing.get_origin(hint) in _TRANSPARENT:
            (hint,) = typing.get_args(hint)
        elif isinstance(hint, typing.TypeVar):
            hint = hint.__bound__ or Any
        else:
            break
    members = [one for one in members_of(hint) if one is not msgspec.UnsetType]
    rest = [one for one in members if one is not type(None) and one is not None]
    has_none = len(rest) < len(members) and bool(rest)
    if is_union(hint) and len(rest) == 1:
        inside = unwrap(rest[0])
        return dataclasses.replace(
            inside,
            has_none=has_none or inside.has_none,
            constraint=inside.constraint or constraint,
            is_python_only=is_python_only or inside.is_python_only,
            number=number or inside.number,
        )
    if rest and len(rest) < len(members_of(hint)):
        hint = typing.Literal[tuple(rest)] if is_literal(hint) else typing.Union[tuple(rest)]  # noqa: UP007
    return Hint(hint, has_none, constraint, alias, is_python_only, number)


def is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def members_of(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if is_union(hint) or is_literal(hint) else (hint,)


def alias_of(hint: Any, module: str) -> str | None:
    """Return the name that a module gives to a union, tuple or the like; None: it gives none."""
    places = [module, *(cls.__module__ for cls in _classes_in(hint))]
    for place in dict.fromkeys(places):
        for name, value in list(vars(sys.modules.get(place, types)).items()):
            if typing.get_origin(value) and value == hint and re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
                return name
    return None


def _classes_in(hint: Any) -> Iterator[type[Any]]:
    for argument in typing.get_args(hint):
        if isinstance(argument, type) and argument.__module__ != "builtins":
            yield argument


# Records


@dataclass(frozen=True, slots=True)
class Part:
    """A field of a class, or a parameter of a method."""

    name: str
    hint: Any
    default: Any


def is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def is_named_tuple(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")


def is_record(hint: Any) -> bool:
    """Tell whether values of a class are told by its fields."""
    return isinstance(hint, type) and (
        is_struct(hint) or is_named_tuple(hint) or typing.is_typeddict(hint) or dataclasses.is_dataclass(hint)
    )


def parts_of(cls: Any) -> list[Part]:
    """Return the fields of a record in their order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    if is_struct(cls):
        return [Part(field.name, hints[field.name], _struct_default(field)) for field in msgspec.structs.fields(cls)]
    if typing.is_typeddict(cls):
        return [Part(name, hint, _key_default(cls, name, hint)) for name, hint in hints.items()]
    if is_named_tuple(cls):
        return [Part(name, hints.get(name, Any), cls._field_defaults.get(name, REQUIRED)) for name in cls._fields]
    return [Part(field.name, hints[field.name], _default(field)) for field in dataclasses.fields(cls) if field.init]


def _key_default(cls: Any, name: str, hint: Any) -> NoDefault:
    # Where annotations are strings, Python 3.11 does not see a NotRequired in them: the evaluated ones have it.
    if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
        return REQUIRED if typing.get_origin(hint) is typing.Required else ABSENT
    return REQUIRED if name in cls.__required_keys__ else ABSENT


def _struct_default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return REQUIRED if field.default is msgspec.NODEFAULT else field.default


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED if field.default is dataclasses.MISSING else field.default


def doc_of(cls: Any) -> str:
    """Return what a class says of itself; what Python made up for it is nothing."""
    doc = vars(cls).get("__doc__") or ""
    made_up = doc.startswith(f"{cls.__name__}(") or (
        isinstance(cls, type) and issubclass(cls, Enum) and doc == "An enumeration."
    )
    return "" if made_up else doc
