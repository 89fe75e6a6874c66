"""A proto file as it is thought of here: its service, messages, fields and enums, each with what it is in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeAlias

from lightactors.contract import Method


@dataclass(frozen=True, slots=True)
class Way:
    """How a Python type that no proto scalar stands for becomes one, and comes back."""

    out: Callable[[Any], Any]
    back: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Scalar:
    """`string`, `int64` and so on."""

    name: str
    word: str  # in names made of it: "Int" makes IntList
    python: type[Any]
    choices: tuple[Any, ...] = ()  # of a Literal
    way: Way | None = None
    constraint: Any = None  # an annotation with limits, which msgspec checks


@dataclass(frozen=True, slots=True)
class WellKnown:
    """A message of Google's that every protobuf brings."""

    name: str
    word: str
    file: str
    python: type[Any]


@dataclass(eq=False)
class Member:
    """A value of an enum; `python` is None for the one that says that nothing was said."""

    name: str
    python: Any
    number: int = 0


@dataclass(eq=False)
class Enumeration:
    """An enum."""

    name: str
    doc: str
    python: type[Any]
    members: list[Member]
    reserved: Reserved = field(default_factory=lambda: Reserved())


class Shape(Enum):
    """What a message is in Python."""

    RECORD = auto()  # an instance of a class, made with keywords: struct, dataclass, named tuple
    TYPED_DICT = auto()
    TUPLE = auto()
    UNION = auto()  # one of its fields is given
    BOX = auto()  # around one thing that protobuf can't put into a list, a map or a oneof as it is
    TENSOR = auto()  # a numpy array
    REQUEST = auto()  # the arguments of a method
    RESPONSE = auto()  # its reply, or one item of its stream


@dataclass(eq=False)
class Message:
    """A message."""

    name: str
    doc: str
    shape: Shape
    python: Any = None
    fields: list[Field] = field(default_factory=list)
    variants: list[Variant] = field(default_factory=list)  # the subclasses that it may be, the widest first
    reserved: Reserved = field(default_factory=lambda: Reserved())
    is_nullable: bool = False  # of a union: None is one of its members

    def on_wire(self) -> Iterator[Field]:
        """Yield the fields as protobuf sees them: with those that stand for null."""
        for one in [*self.fields, *(extra for variant in self.variants for extra in variant.fields)]:
            yield one
            if one.null is not None:
                yield one.null


@dataclass(eq=False)
class Variant:
    """A subclass that a record may be, with the fields that it adds."""

    message: Message
    fields: list[Field]
    telling: list[str]  # the names of those without which it would be no such thing


@dataclass(eq=False)
class Reserved:
    """What fields that are gone leave behind: a client of old must not be misread."""

    numbers: set[int] = field(default_factory=set)
    names: set[str] = field(default_factory=set)


Single: TypeAlias = Scalar | WellKnown | Enumeration | Message


@dataclass(frozen=True, slots=True)
class Repeated:
    """A list, tuple or set."""

    item: Single
    python: Callable[[Any], Any]
    constraint: Any = None


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapping with plain keys."""

    key: Scalar
    value: Single
    constraint: Any = None


Type: TypeAlias = Single | Repeated | Mapped


class Absent(Enum):
    """What it means that a field is not there."""

    REFUSED = auto()
    ZERO = auto()  # 0, "", an empty list: proto3 does not tell it from absence
    NONE = auto()
    DEFAULT = auto()  # what Python's own default says


@dataclass(eq=False)
class Field:
    """A field of a message."""

    name: str
    type: Type
    absent: Absent
    optional: bool = False
    oneof: str | None = None
    takes_none: bool = False
    null: Field | None = None  # says None, where absence says something else
    comment: str = ""
    number: int = 0


@dataclass(eq=False)
class Rpc:
    """A method of the service."""

    name: str
    doc: str
    method: Method
    request: Message
    response: Message
    streams: bool


@dataclass(eq=False)
class File:
    """A proto file: one service and all that it needs."""

    package: str
    service: str
    source: str  # the actor class, for people
    doc: str
    rpcs: list[Rpc]
    messages: list[Message]
    enums: list[Enumeration]
    imports: list[str]

    @property
    def full_name(self) -> str:
        return f"{self.package}.{self.service}"


def type_text(kind: Type) -> str:
    """Return a type as a proto file says it."""
    if isinstance(kind, Repeated):
        return f"repeated {kind.item.name}"
    if isinstance(kind, Mapped):
        return f"map<{kind.key.name}, {kind.value.name}>"
    return kind.name


NULL = WellKnown("google.protobuf.NullValue", "Null", "google/protobuf/struct.proto", type(None))
