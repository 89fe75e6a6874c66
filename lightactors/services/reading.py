"""Protobuf messages to values, by readers made once for each type of a file. What they can't read is a `Misfit`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from lightactors.services import plain
from lightactors.services.fields import DURATION, STRUCT, TIMESTAMP, VALUE
from lightactors.services.misfit import Misfit
from lightactors.services.model import (
    Absent,
    Enumeration,
    Field,
    Mapped,
    Message,
    Repeated,
    Scalar,
    Shape,
    Single,
    Type,
    Variant,
    WellKnown,
)
from lightactors.services.per_message import PerMessage

Read: TypeAlias = Callable[[Any], Any]
"""Makes a Python value of what protobuf has."""

Take: TypeAlias = Callable[[Any, dict[str, Any]], None]
"""Puts a field of a message, if it is there, among the arguments that a Python value is made of."""

Takers: TypeAlias = list[tuple[str, Take]]

_WELL_KNOWN: dict[WellKnown, Read] = {
    VALUE: plain.value_in,
    STRUCT: plain.struct_in,
    TIMESTAMP: plain.timestamp_in,
    DURATION: plain.duration_in,
}


class Readers(PerMessage[Read]):
    """The readers of one file; `message` returns what reads a message."""

    def _table(self) -> Mapping[Shape, Callable[[Message], Read]]:
        return {
            Shape.RECORD: self._record,
            Shape.TYPED_DICT: self._typed_dict,
            Shape.TUPLE: self._tuple,
            Shape.UNION: self._union,
            Shape.BOX: self._box,
            Shape.TENSOR: self._tensor,
        }

    def takers(self, fields: Iterable[Field]) -> Takers:
        """Return what takes each of the fields."""
        return [(field.name, self._taker(field)) for field in fields]

    # Fields

    def _taker(self, field: Field) -> Take:
        name, read = field.name, self._type(field.type)
        has_presence = not isinstance(field.type, Scalar | Enumeration) or field.optional or field.oneof is not None
        if field.absent is Absent.ZERO or not has_presence:
            return _always(name, read)
        null = None if field.null is None else field.null.name
        missing = _MISSING[field.absent]

        def take(wire: Any, given: dict[str, Any]) -> None:
            if wire.HasField(name):
                given[name] = read(getattr(wire, name))
            elif null is not None and wire.HasField(null):
                given[name] = None
            else:
                missing(name, given)

        return take

    def _type(self, kind: Type) -> Read:
        if isinstance(kind, Repeated):
            return _limited(kind.constraint, self._list(kind))
        if isinstance(kind, Mapped):
            return _limited(kind.constraint, self._mapping(kind))
        return self._single(kind)

    def _single(self, kind: Single) -> Read:
        if isinstance(kind, Message):
            return self.message(kind)
        if isinstance(kind, WellKnown):
            return _WELL_KNOWN[kind]
        return _enum(kind) if isinstance(kind, Enumeration) else _scalar(kind)

    def _list(self, kind: Repeated) -> Read:
        container = kind.python
        if _is_as_it_comes(kind.item):
            return container
        item = self._single(kind.item)

        def read(wire: Any) -> Any:
            values = []
            for number, one in enumerate(wire):
                try:
                    values.append(item(one))
                except Misfit as misfit:
                    raise misfit.under(f"[{number}]") from None
            return values if container is list else container(values)

        return read

    def _mapping(self, kind: Mapped) -> Read:
        if _is_as_it_comes(kind.key) and _is_as_it_comes(kind.value):
            return dict
        key_in, value_in = self._single(kind.key), self._single(kind.value)

        def read(wire: Any) -> dict[Any, Any]:
            values = {}
            for key in wire:
                try:
                    values[key_in(key)] = value_in(wire[key])
                except Misfit as misfit:
                    raise misfit.under(str(key)) from None
            return values

        return read

    # Messages

    def _record(self, message: Message) -> Read:
        own = self._made_of(message.fields, message.name, message.python)
        return self._widest(message, own) if message.variants else own

    def _made_of(self, fields: Iterable[Field], name: str, make: Callable[..., Any]) -> Read:
        takers = self.takers(fields)

        def read(wire: Any) -> Any:
            given = take_all(takers, wire)
            try:
                return make(**given)
            except Exception as error:  # what a class says against its fields is for who sent them
                raise Misfit(f"no {name}: {error}") from None

        return read

    def _widest(self, message: Message, own: Read) -> Read:
        """Return what reads the subclass whose fields are there, the narrowest that is."""
        below = [(variant.telling, self._variant(variant)) for variant in reversed(message.variants)]

        def read(wire: Any) -> Any:
            for telling, variant in below:
                if all(wire.HasField(name) for name in telling):
                    return variant(wire)
            return own(wire)

        return read

    def _variant(self, variant: Variant) -> Read:
        return self._made_of(variant.message.fields, variant.message.name, variant.message.python)

    def _typed_dict(self, message: Message) -> Read:
        return self._made_of(message.fields, message.name, dict)

    def _tuple(self, message: Message) -> Read:
        takers = self.takers(message.fields)
        return lambda wire: tuple(take_all(takers, wire).values())

    def _box(self, message: Message) -> Read:
        takers = self.takers(message.fields)

        def read(wire: Any) -> Any:
            (value,) = take_all(takers, wire).values()
            return value

        return read

    def _union(self, message: Message) -> Read:
        arms = {field.name: self._type(field.type) for field in message.fields}

        def read(wire: Any) -> Any:
            name = wire.WhichOneof("kind")
            if name is not None:
                return _under(name, arms[name], getattr(wire, name))
            if message.is_nullable:
                return None
            raise Misfit(f"nothing is given; give one of {', '.join(arms)}")

        return read

    def _tensor(self, _: Message) -> Read:
        return plain.array_in


def take_all(takers: Takers, wire: Any) -> dict[str, Any]:
    """Take all fields of a message; the first misfit raises, with the field's name."""
    given: dict[str, Any] = {}
    for name, take in takers:
        try:
            take(wire, given)
        except Misfit as misfit:
            raise misfit.under(name) from None
    return given


def _under(name: str, read: Read, wire: Any) -> Any:
    try:
        return read(wire)
    except Misfit as misfit:
        raise misfit.under(name) from None


def _always(name: str, read: Read) -> Take:
    def take(wire: Any, given: dict[str, Any]) -> None:
        given[name] = read(getattr(wire, name))

    return take


def _refuse(_: str, __: dict[str, Any]) -> None:
    raise Misfit("it is required, and not there")


def _give_none(name: str, given: dict[str, Any]) -> None:
    given[name] = None


def _leave_to_python(_: str, __: dict[str, Any]) -> None:
    """Give nothing: Python has a default."""


_MISSING = {Absent.REFUSED: _refuse, Absent.NONE: _give_none, Absent.DEFAULT: _leave_to_python}


# Scalars


def _is_as_it_comes(kind: Single) -> bool:
    return isinstance(kind, Scalar) and not kind.choices and kind.way is None and kind.constraint is None


def _same(value: Any) -> Any:
    return value


def _scalar(kind: Scalar) -> Read:
    if kind.way is not None:
        return _limited(kind.constraint, _by_way(kind.way.back, kind.python.__name__))
    return _limited(kind.constraint, _chosen(kind.choices) if kind.choices else _same)


def _by_way(back: Read, name: str) -> Read:
    def read(value: Any) -> Any:
        try:
            return back(value)
        except (ValueError, ArithmeticError):
            raise Misfit(f"{value!r} is no {name}") from None

    return read


def _chosen(choices: tuple[Any, ...]) -> Read:
    def read(value: Any) -> Any:
        if value not in choices:
            raise Misfit(f"{value!r} is unknown; choose from {', '.join(map(repr, choices))}")
        return value

    return read


def _enum(kind: Enumeration) -> Read:
    by_number = {member.number: member.python for member in kind.members if member.python is not None}
    names = ", ".join(member.name for member in kind.members[1:])

    def read(number: int) -> Any:
        if number not in by_number:
            raise Misfit(f"{number} is unknown; choose from {names}")
        return by_number[number]

    return read


def _limited(constraint: Any, read: Read) -> Read:
    """Return a reader that also has msgspec check the limits that an annotation sets."""
    if constraint is None:
        return read

    def check(wire: Any) -> Any:
        try:
            return msgspec.convert(read(wire), constraint)
        except msgspec.ValidationError as error:
            raise Misfit(str(error)) from None

    return check
