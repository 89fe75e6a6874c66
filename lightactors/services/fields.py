"""Annotations as fields, messages and enums."""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import enum
import typing
import uuid
from collections.abc import Iterable
from typing import Any

from lightactors.actors.ref import AnyRef
from lightactors.contract import is_actor_class
from lightactors.errors import ContractError
from lightactors.services import hints
from lightactors.services.hints import REQUIRED, Hint, Part, unwrap
from lightactors.services.model import (
    NULL,
    Absent,
    Enumeration,
    Field,
    Mapped,
    Member,
    Message,
    Repeated,
    Scalar,
    Shape,
    Single,
    Type,
    Variant,
    Way,
    WellKnown,
    type_text,
)
from lightactors.services.names import checked, snake

STRING = Scalar("string", "String", str)
INT = Scalar("int64", "Int", int)
FLOAT = Scalar("double", "Double", float)
BOOL = Scalar("bool", "Bool", bool)
BYTES = Scalar("bytes", "Bytes", bytes)

_STRUCT_PROTO = "google/protobuf/struct.proto"
VALUE = WellKnown("google.protobuf.Value", "Value", _STRUCT_PROTO, object)
STRUCT = WellKnown("google.protobuf.Struct", "Struct", _STRUCT_PROTO, dict)
TIMESTAMP = WellKnown("google.protobuf.Timestamp", "Timestamp", "google/protobuf/timestamp.proto", datetime.datetime)
DURATION = WellKnown("google.protobuf.Duration", "Duration", "google/protobuf/duration.proto", datetime.timedelta)


def _text(python: type[Any], back: Any = None) -> Scalar:
    return Scalar("string", python.__name__.capitalize(), python, way=Way(str, back or python))


_PLAIN: dict[Any, Single] = {
    str: STRING,
    int: INT,
    float: FLOAT,
    bool: BOOL,
    bytes: BYTES,
    bytearray: Scalar("bytes", "Bytes", bytearray, way=Way(bytes, bytearray)),
    Any: VALUE,
    object: VALUE,
    datetime.datetime: TIMESTAMP,
    datetime.timedelta: DURATION,
    datetime.date: Scalar("string", "Date", datetime.date, way=Way(str, datetime.date.fromisoformat)),
    datetime.time: Scalar("string", "Time", datetime.time, way=Way(str, datetime.time.fromisoformat)),
    uuid.UUID: _text(uuid.UUID),
    decimal.Decimal: _text(decimal.Decimal),
}

_LISTS: dict[Any, Any] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    set: set,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
    frozenset: frozenset,
}

_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)

_KEYS = ("string", "int64", "bool")


class Fields:
    """Makes the fields of one file; a class becomes one message, wherever it is met."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)  # by the service, its requests and responses
        self._made: dict[Any, Message | Enumeration] = {}
        self._by_name: dict[str, Any] = {}
        self._tensor = Message(
            "Tensor", "An array: its numbers in C order, in the byte order of `dtype`.", Shape.TENSOR
        )

    # Fields

    def field(self, part: Part, where: str, module: str) -> Field:
        """Return a parameter or a record's field; `where` names it in an error."""
        hint = unwrap(part.hint)
        kind = self._type(hint, where, module)
        if part.default is REQUIRED and not hint.has_none:
            field = Field(part.name, kind, _when_required(kind), comment=_comment(kind, REQUIRED))
        else:
            field = self._optional(part, hint, kind, where)
        checked(part.name, where)
        field.number = hint.number
        return field

    def _optional(self, part: Part, hint: Hint, kind: Type, where: str) -> Field:
        """Return a field that may be left out: a default says what that means, or else it means None."""
        name, default = part.name, None if part.default is REQUIRED else part.default
        says_none = hint.has_none and default is not None and kind is not VALUE
        if isinstance(kind, Repeated | Mapped) and (says_none or hint.has_none or not _is_empty(default)):
            kind = self._boxed(kind, where)
        absent = Absent.NONE if part.default is REQUIRED else Absent.DEFAULT
        field = Field(name, kind, absent, takes_none=hint.has_none, comment=_comment(kind, default))
        if says_none:
            field.oneof = f"{name}_or_null"
            field.null = Field(f"{name}_null", NULL, Absent.NONE, oneof=field.oneof)
        elif isinstance(kind, Scalar | Enumeration):
            field.optional = hint.has_none or not _is_zero(default)
            field.absent = absent if field.optional else Absent.ZERO
        elif isinstance(kind, Repeated | Mapped):
            field.absent = Absent.ZERO
        return field

    # Types

    def _type(self, hint: Hint, where: str, module: str) -> Type:
        """Return what an annotation is on the wire, None aside."""
        inner, constraint = hint.inner, hint.constraint
        if (plain := _PLAIN.get(inner)) is not None:
            return _limited(plain, constraint)
        if hints.is_literal(inner):
            return _literal(inner, where)
        origin, arguments = typing.get_origin(inner) or inner, typing.get_args(inner)
        if origin in _LISTS or (origin is tuple and (not arguments or arguments[-1] is ...)):
            item = arguments[0] if arguments else Any
            return Repeated(self._single(item, where, module), _LISTS.get(origin, tuple), constraint)
        if origin in _MAPPINGS:
            return self._mapping(arguments or (str, Any), constraint, where, module)
        return self._message(hint, origin, where, module)

    def _mapping(self, arguments: tuple[Any, ...], constraint: Any, where: str, module: str) -> Type:
        key = self._single(arguments[0], where, module)
        if not isinstance(key, Scalar) or key.name not in _KEYS:
            raise ContractError(f"{where}: a mapping of {arguments[0]} has no keys that protobuf knows; use str or int")
        value = self._single(arguments[1], where, module)
        if key is STRING and value is VALUE and constraint is None:
            return STRUCT
        return Mapped(key, value, constraint)

    def _single(self, wrapped: Any, where: str, module: str) -> Single:
        """Return what may stand in a list, a mapping or a oneof."""
        hint = unwrap(wrapped)
        kind = self._type(hint, where, module)
        if isinstance(kind, Repeated | Mapped):
            kind = self._boxed(kind, where)
        if hint.has_none and kind is not VALUE and not (isinstance(kind, Message) and kind.shape is Shape.UNION):
            return self._nullable(kind)
        return kind

    def _message(self, hint: Hint, origin: Any, where: str, module: str) -> Single:
        inner = hint.inner
        if hints.is_union(inner):
            return self._union(hint, where, module)
        if origin is tuple:
            return self._tuple(hint, where, module)
        if isinstance(origin, type):
            if is_actor_class(origin) or issubclass(origin, AnyRef):
                raise ContractError(
                    f"{where} is a ref of {origin.__name__}, which other languages can't hold; "
                    "take a name instead, or leave it to Python with PythonOnly[...]"
                )
            if issubclass(origin, enum.Enum):
                return self._enum(origin, where)
            if hints.is_record(inner):
                return self._record(inner, where)
            if (origin.__module__, origin.__name__) == ("numpy", "ndarray"):
                return self._array(where)
        raise ContractError(
            f"{where} is {_shown(inner)}, which no other language knows; use plain data, a dataclass or a "
            "msgspec.Struct, or leave it to Python with PythonOnly[...]"
        )

    # Messages

    def _record(self, cls: type[Any], where: str) -> Message:
        if cls in self._made:
            return typing.cast("Message", self._made[cls])
        shape = Shape.TYPED_DICT if typing.is_typeddict(cls) else Shape.RECORD
        message = Message(self._name_of(cls, where), hints.doc_of(cls), shape, cls)
        self._made[cls] = message  # before its fields: one may be of its own type
        for part in hints.parts_of(cls):
            message.fields.append(self.field(part, f"{where}: field {part.name!r} of {cls.__name__}", cls.__module__))
        return message

    def _enum(self, cls: type[enum.Enum], where: str) -> Enumeration:
        if cls not in self._made:
            name = self._name_of(cls, where)
            prefix = snake(name).upper()
            members = [Member(f"{prefix}_UNSPECIFIED", None)]
            members += [Member(f"{prefix}_{one.name.upper()}", one) for one in cls]
            self._made[cls] = Enumeration(name, hints.doc_of(cls), cls, members)
        return typing.cast("Enumeration", self._made[cls])

    def _union(self, hint: Hint, where: str, module: str) -> Message:
        members = _without_what_a_base_says(hints.members_of(hint.inner))
        if len(members) == 1:
            return self._record(members[0], where)
        arms = [self._single(member, where, module) for member in members]
        arms = [arm for number, arm in enumerate(arms) if arm.name not in [a.name for a in arms[:number]]]
        name = hint.alias or hints.alias_of(hint.inner, module) or "Or".join(_word(arm) for arm in arms)
        message = Message(name, "", Shape.UNION, hint.inner, is_nullable=hint.has_none)
        for arm in arms:
            field = _snake_word(arm)
            message.fields.append(Field(field, arm, Absent.NONE, oneof="kind", comment=_comment(arm, None)))
        _refuse_what_looks_alike(message, where)
        return self._same_wire(message, where)

    def _tuple(self, hint: Hint, where: str, module: str) -> Message:
        items = typing.get_args(hint.inner)
        is_pair = len(items) == 2
        names = ("first", "second") if is_pair else tuple(f"item_{number}" for number in range(1, len(items) + 1))
        word = "".join(_word(self._single(item, where, module)) for item in items) + ("Pair" if is_pair else "Tuple")
        name = hint.alias or hints.alias_of(hint.inner, module) or word
        fields = [self.field(Part(*part, REQUIRED), where, module) for part in zip(names, items, strict=True)]
        return self._same_wire(Message(name, "", Shape.TUPLE, fields=fields), where)

    def _boxed(self, kind: Repeated | Mapped, where: str) -> Message:
        if isinstance(kind, Repeated):
            name, field = f"{_word(kind.item)}List", "values"
        else:
            keys = "" if kind.key.name == "string" else f"{kind.key.word}To"
            name, field = f"{keys}{_word(kind.value)}Map", "entries"
        message = Message(name, "", Shape.BOX, fields=[Field(field, kind, Absent.ZERO)])
        return self._same_wire(message, where)

    def _nullable(self, kind: Single) -> Message:
        field = Field("value", kind, Absent.NONE, takes_none=True, optional=isinstance(kind, Scalar | Enumeration))
        return self._same_wire(Message(f"Nullable{_word(kind)}", "", Shape.BOX, fields=[field]), _word(kind))

    def _array(self, where: str) -> Message:
        if not self._tensor.fields:
            self._tensor.fields = [
                Field("dtype", STRING, Absent.ZERO, comment='As numpy has it: "<f8" is a little-endian double.'),
                Field("shape", Repeated(INT, tuple), Absent.ZERO),
                Field("data", BYTES, Absent.ZERO),
            ]
        return self._same_wire(self._tensor, where)

    # Names

    def _name_of(self, cls: type[Any], where: str) -> str:
        """Return the name of a class's message; one that is taken otherwise gets `Record` behind it."""
        name = checked(cls.__name__, where)
        name = f"{name}Record" if name in self._taken else name
        if self._by_name.setdefault(name, cls) is not cls:
            raise ContractError(f"{where}: two types are called {name} ({cls.__module__} has one); rename one")
        return name

    def _same_wire(self, message: Message, where: str) -> Message:
        """Return a message that is made up; two may share a name as long as they look the same to other languages."""
        if message.name in self._taken or self._by_name.setdefault(message.name, _wire(message)) != _wire(message):
            raise ContractError(f"{where}: two types would be called {message.name}; give one a name of its own")
        return message

    # Subclasses

    def add_variants(self) -> None:
        """Let a record's message also hold what its subclasses in this file add to it."""
        records = [one for one in self._made.values() if isinstance(one, Message) and one.shape is Shape.RECORD]
        for message in records:
            below = [one for one in records if one is not message and issubclass(one.python, message.python)]
            for variant in sorted(below, key=lambda one: len(one.python.__mro__)):
                self._add_variant(message, variant)

    def _add_variant(self, message: Message, variant: Message) -> None:
        known = {field.name for field in message.on_wire()}
        extra = [part for part in hints.parts_of(variant.python) if part.name not in known]
        fields = [self._extra_field(part, variant) for part in extra]
        needed = [field for part, field in zip(extra, fields, strict=True) if part.default is REQUIRED]
        telling = [field.name for field in needed if not isinstance(field.type, Repeated | Mapped)]
        if telling:  # else nothing would tell one from the other
            message.variants.append(Variant(variant, fields, telling))

    def _extra_field(self, part: Part, variant: Message) -> Field:
        where = f"field {part.name!r} of {variant.python.__name__}"
        field = self.field(part, where, variant.python.__module__)
        field.optional = isinstance(field.type, Scalar | Enumeration) and field.oneof is None
        field.comment = f"Only where it is {_with_article(variant.name)}."
        return field


def _limited(kind: Single, constraint: Any) -> Single:
    if constraint is None or not isinstance(kind, Scalar):
        return kind
    return Scalar(kind.name, kind.word, kind.python, kind.choices, kind.way, constraint)


def _literal(hint: Any, where: str) -> Scalar:
    choices = typing.get_args(hint)
    for plain in (STRING, BOOL, INT):
        if all(type(choice) is plain.python for choice in choices):
            return Scalar(plain.name, plain.word, plain.python, choices)
    raise ContractError(f"{where}: {_shown(hint)} mixes types; use literals of one type, of str best")


def _without_what_a_base_says(members: tuple[Any, ...]) -> list[Any]:
    """Leave out the subclasses of a member that can be told from it by what they add: see `add_variants`."""

    def adds(cls: Any, base: Any) -> bool:
        if cls is base or not (hints.is_record(cls) and hints.is_record(base)) or typing.is_typeddict(cls):
            return False
        if not issubclass(cls, base):
            return False
        known = {part.name for part in hints.parts_of(base)}
        return any(part.default is REQUIRED for part in hints.parts_of(cls) if part.name not in known)

    return [one for one in members if not any(adds(one, base) for base in members)]


def _refuse_what_looks_alike(union: Message, where: str) -> None:
    seen: set[type[Any]] = set()
    for field in union.fields:
        for python in pythons_of(typing.cast("Single", field.type)):
            if python in seen:
                raise ContractError(
                    f"{where}: in {_shown(union.python)} nothing tells one {python.__name__} from another; "
                    "use dataclasses or msgspec.Structs"
                )
            seen.add(python)


def pythons_of(kind: Single) -> tuple[type[Any], ...]:
    """Return the classes of the values that an arm of a union holds."""
    if isinstance(kind, Message):
        if kind.shape is Shape.BOX:
            inside = kind.fields[0].type
            return (list,) if isinstance(inside, Repeated) else (dict,)
        if kind.shape is Shape.RECORD:
            return (kind.python,)
        return ({Shape.TUPLE: tuple, Shape.TYPED_DICT: dict}.get(kind.shape, object),)
    return (kind.python,)


def _wire(message: Message) -> tuple[Any, ...]:
    """Return what of a message other languages see."""
    return tuple((field.name, type_text(field.type), field.optional, field.oneof) for field in message.on_wire())


def _word(kind: Type) -> str:
    return kind.name if isinstance(kind, Message | Enumeration) else typing.cast("Scalar", kind).word


def _snake_word(kind: Single) -> str:
    if isinstance(kind, Message) and kind.shape is Shape.BOX:
        return "list_value" if pythons_of(kind) == (list,) else "map_value"
    return snake(kind.name) if isinstance(kind, Message | Enumeration) else f"{kind.word.lower()}_value"


def _when_required(kind: Type) -> Absent:
    if isinstance(kind, Repeated | Mapped) or (isinstance(kind, Scalar) and not kind.choices):
        return Absent.ZERO
    return Absent.REFUSED


def _is_empty(default: Any) -> bool:
    return default is not None and hasattr(default, "__len__") and len(default) == 0


def _is_zero(default: Any) -> bool:
    return default in (0, "", b"") and not isinstance(default, enum.Enum)


def _comment(kind: Type, default: Any) -> str:
    said = []
    if choices := _choices(kind):
        said.append(f"One of {', '.join(map(str, choices))}.")
    if default is REQUIRED and isinstance(kind, Message | WellKnown | Enumeration):
        said.append("Required.")
    elif isinstance(default, str | int | float) and not isinstance(default, enum.Enum) and not _is_zero(default):
        said.append(f"Default: {default}.")
    return " ".join(said)


def _choices(kind: Type) -> tuple[Any, ...]:
    if isinstance(kind, Repeated):
        return _choices(kind.item)
    if isinstance(kind, Message) and kind.shape is Shape.BOX:
        return _choices(kind.fields[0].type)
    return kind.choices if isinstance(kind, Scalar) else ()


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _shown(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint).replace("typing.", "")
