"""Actors and records with something of everything that other languages can be told of."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

import lightactors as la


class Colour(enum.Enum):
    """What one sees."""

    RED = "r"
    BLUE = "b"


class Point(NamedTuple):
    """A place."""

    x: float
    y: float = 0.0


class Label(TypedDict):
    text: str
    size: NotRequired[int | None]


@dataclass(frozen=True)
class Cat:
    name: str
    lives: int = 9


@dataclass(frozen=True)
class Dog:
    name: str


Pet = Cat | Dog | str


class Node(msgspec.Struct, frozen=True):
    """A tree of numbers."""

    value: int
    children: list[Node] = []


class Base(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    note: str | None = None


class Wider(Base, frozen=True, kw_only=True):
    inside: Node
    size: int


@dataclass
class Everything:
    """All in one."""

    text: str
    number: int
    real: float
    truth: bool
    raw: bytes
    colour: Colour
    point: Point
    label: Label
    pet: Pet
    moment: datetime.datetime
    span: datetime.timedelta
    day: datetime.date
    id: uuid.UUID
    price: decimal.Decimal
    anything: Any
    mode: Literal["fast", "slow"] = "fast"
    pair: tuple[int, str] = (0, "")
    words: Sequence[str] = ()
    distinct: set[int] = field(default_factory=set)
    table: dict[str, list[int]] = field(default_factory=dict)
    by_number: dict[int, Cat] = field(default_factory=dict)
    grid: list[list[float]] = field(default_factory=list)
    holes: list[int | None] = field(default_factory=list)
    pets: list[Pet | None] = field(default_factory=list)
    free: Mapping[str, Any] = field(default_factory=dict)
    maybe_list: list[str] | None = None
    maybe_map: dict[str, int] | None = None
    maybe_pet: Pet | None = None
    five: int | None = 5
    colours: list[Colour] = field(default_factory=lambda: [Colour.RED])
    tree: Node | None = None


@la.actor
class Zoo:
    """Keeps animals."""

    @la.handler
    def everything(self, value: Everything) -> Everything:
        return value

    @la.handler
    def tensor(self, value: np.ndarray) -> np.ndarray:
        return value

    @la.handler
    def base(self, value: Base) -> Base:
        return value

    @la.handler
    def wider(self, value: Wider) -> Wider:
        return value

    @la.handler
    def update(self, note: str | UnsetType | None = UNSET, size: int | UnsetType = UNSET) -> list[str]:
        return [f"{note!r}", f"{size!r}"]

    @la.handler
    def limited(self, size: Annotated[int, msgspec.Meta(ge=1)] = 1) -> None: ...

    @la.handler
    def plain(self, value, /, times=2):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
        return [value] * times

    @la.handler
    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    @la.handler
    def local(self, secret: la.PythonOnly[object]) -> None: ...

    @la.handler
    def half_local(self, shown: int, hidden: la.PythonOnly[object | None] = None) -> None: ...
