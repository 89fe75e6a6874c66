"""Values to protobuf messages, by writers made once for each type of a file. What they can't write is a `Misfit`."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TypeAlias, cast

from lightactors.services import plain
from lightactors.services.fields import DURATION, STRUCT, TIMESTAMP, VALUE, pythons_of
from lightactors.services.misfit import Misfit
from lightactors.services.model import (
    Enumeration,
    Field,
    Mapped,
    Message,
    Repeated,
    Scalar,
    Shape,
    Single,
    WellKnown,
)
from lightactors.services.per_message import PerMessage

Write: TypeAlias = Callable[[Any, Any], None]
"""Puts a Python value into a message that lies ready: making one and copying it in costs twice as much."""

Puts: TypeAlias = list[tuple[str, Write]]

_WELL_KNOWN: dict[WellKnown, Write] = {
    VALUE: plain.value_out,
    STRUCT: plain.struct_out,
    TIMESTAMP: plain.timestamp_out,
    DURATION: plain.duration_out,
}


class Writers(PerMessage[Write]):
    """The writers of one file; `message` returns what writes into a message."""

    def _table(self) -> Mapping[Shape, Callable[[Message], Write]]:
        return {
            Shape.RECORD: self._record,
            Shape.TYPED_DICT: self._typed_dict,
            Shape.TUPLE: self._tuple,
            Shape.UNION: self._union,
            Shape.BOX: self._box,
            Shape.TENSOR: self._tensor,
        }

    def puts(self, fields: Iterable[Field]) -> Puts:
        """Return what puts a value, or None, into each of the fields."""
        return [(field.name, self.put(field)) for field in fields]

    # Fields

    def put(self, field: Field) -> Write:
        """Return what puts a value, or None, into a field of a message."""
        name, put, null = field.name, self._put_some(field), field.null

        def put_any(value: Any, wire: Any) -> None:
            try:
                if value is not None or field.type is VALUE:
                    put(value, wire)
                elif null is not None:
                    setattr(wire, null.name, 0)
                elif not field.takes_none:
                    raise Misfit("it is None, which its annotation excludes")
            except Misfit as misfit:
                raise misfit.under(name) from None
            except (TypeError, ValueError, AttributeError) as error:
                raise Misfit(f"{reprlib.repr(value)} is not what its annotation says: {error}").under(name) from None

        return put_any

    def _put_some(self, field: Field) -> Write:
        name, kind = field.name, field.type
        if isinstance(kind, Repeated):
            return self._put_list(name, kind)
        if isinstance(kind, Mapped):
            return self._put_mapping(name, kind)
        if isinstance(kind, Message | WellKnown):
            write = self._single(kind)
            return lambda value, wire: write(value, getattr(wire, name))
        out = _scalar(kind)
        if out is None:
            return lambda value, wire: setattr(wire, name, value)
        return lambda value, wire: setattr(wire, name, out(value))

    def _single(self, kind: Message | WellKnown) -> Write:
        return self.message(kind) if isinstance(kind, Message) else _WELL_KNOWN[kind]

    def _put_list(self, name: str, kind: Repeated) -> Write:
        if not isinstance(kind.item, Message | WellKnown):
            out = _scalar(kind.item)
            if out is None:
                return lambda value, wire: getattr(wire, name).extend(_not_text(value))
            return lambda value, wire: getattr(wire, name).extend(map(out, _not_text(value)))
        write = self._single(kind.item)

        def put(value: Any, wire: Any) -> None:
            add = getattr(wire, name).add
            for number, one in enumerate(_not_text(value)):
                try:
                    write(one, add())
                except Misfit as misfit:
                    raise misfit.under(f"[{number}]") from None

        return put

    def _put_mapping(self, name: str, kind: Mapped) -> Write:
        key_out = _scalar(kind.key) or _same
        if not isinstance(kind.value, Message | WellKnown):
            value_out = _scalar(kind.value) or _same

            def put_plain(value: Mapping[Any, Any], wire: Any) -> None:
                getattr(wire, name).update({key_out(key): value_out(one) for key, one in value.items()})

            return put_plain
        write = self._single(kind.value)

        def put(value: Mapping[Any, Any], wire: Any) -> None:
            entries = getattr(wire, name)
            for key, one in value.items():
                try:
                    write(one, entries[key_out(key)])
                except Misfit as misfit:
                    raise misfit.under(str(key)) from None

        return put

    # Messages

    def _record(self, message: Message) -> Write:
        cls, puts = message.python, self.puts(message.fields)
        more = [(variant.message.python, self.puts(variant.fields)) for variant in message.variants]

        def write(value: Any, wire: Any) -> None:
            if not isinstance(value, cls):
                raise Misfit(f"{reprlib.repr(value)} is no {cls.__name__}")
            wire.SetInParent()
            for name, put in puts:
                put(getattr(value, name), wire)
            for below, extra in more:
                if isinstance(value, below):
                    for name, put in extra:
                        put(getattr(value, name), wire)

        return write

    def _typed_dict(self, message: Message) -> Write:
        puts = self.puts(message.fields)

        def write(value: Mapping[str, Any], wire: Any) -> None:
            wire.SetInParent()
            for name, put in puts:
                if name in value:
                    put(value[name], wire)

        return write

    def _tuple(self, message: Message) -> Write:
        puts = self.puts(message.fields)

        def write(value: Any, wire: Any) -> None:
            if len(_not_text(value)) != len(puts):
                raise Misfit(f"{reprlib.repr(value)} has not the {len(puts)} items of its annotation")
            wire.SetInParent()
            for (_, put), item in zip(puts, value, strict=True):
                put(item, wire)

        return write

    def _box(self, message: Message) -> Write:
        (field,) = message.fields
        put = self._put_some(field)

        def write(value: Any, wire: Any) -> None:
            wire.SetInParent()
            if value is not None:
                put(value, wire)

        return write

    def _union(self, message: Message) -> Write:
        by_type: dict[type[Any], Write] = {}
        for field in message.fields:
            put = self.put(field)
            by_type.update(dict.fromkeys(pythons_of(cast("Single", field.type)), put))
        for wide, narrow in ((float, int), (list, tuple)):
            if wide in by_type:
                by_type.setdefault(narrow, by_type[wide])
        in_turn = list(by_type.items())

        def write(value: Any, wire: Any) -> None:
            put = by_type.get(type(value)) or next((put for cls, put in in_turn if isinstance(value, cls)), None)
            if put is not None:
                put(value, wire)
            elif value is None and message.is_nullable:
                wire.SetInParent()
            else:
                raise Misfit(f"{reprlib.repr(value)} is none of {', '.join(cls.__name__ for cls in by_type)}")

        return write

    def _tensor(self, _: Message) -> Write:
        return plain.array_out


def _same(value: Any) -> Any:
    return value


def _not_text(value: Any) -> Any:
    """Return what is to be a list; a str is one of letters only by accident."""
    if isinstance(value, str | bytes):
        raise Misfit(f"{reprlib.repr(value)} is no list")
    return value


def _scalar(kind: Scalar | Enumeration) -> Callable[[Any], Any] | None:
    """Return what makes of a value what protobuf takes; None: it takes it as it is."""
    if isinstance(kind, Enumeration):
        numbers = {member.python: member.number for member in kind.members if member.python is not None}
        return lambda value: _numbered(numbers, value)
    if kind.way is not None:
        return kind.way.out
    return None


def _numbered(numbers: dict[Enum, int], value: Any) -> int:
    if value not in numbers:
        raise Misfit(f"{reprlib.repr(value)} is none of {', '.join(map(str, numbers))}")
    return numbers[value]
