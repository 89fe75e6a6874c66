"""How a listing is filtered, sorted and cut: what all queries of the store share."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, Literal, TypeVar

import msgspec

from lightactors.training import checks

T = TypeVar("T")
Predicate = Callable[[T], bool]

_LOGIC: dict[str, Callable[[Iterable[object]], bool]] = {"and": all, "or": any}
_ORDERS = ("asc", "desc")


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a listing is wanted, in which order."""

    sort_by: str | None
    descending: bool
    offset: int
    limit: int | None

    def sorted(self, records: Iterable[T]) -> list[T]:
        """Sort the records, which come in the order of creation; descending is the exact reverse of ascending."""
        ordered = list(records) if self.sort_by is None else sorted(records, key=self._key)
        return ordered[::-1] if self.descending else ordered

    def _key(self, record: object) -> tuple[bool, Any]:
        value = getattr(record, typing.cast("str", self.sort_by))
        return value is not None, value

    def cut(self, records: Iterable[T]) -> list[T]:
        end = None if self.limit is None else min(self.offset + self.limit, sys.maxsize)
        return list(islice(records, self.offset, end))


EVERYTHING = Page(None, descending=False, offset=0, limit=None)
"""All records, in the order of creation."""


def page_of(kind: type[msgspec.Struct], sort_by: str | None, sort_order: str, limit: int, offset: int) -> Page:
    """Check what a caller said about sorting and paging."""
    checks.member("sort_order", sort_order, _ORDERS)
    checks.whole("offset", offset, least=0)
    checks.whole("limit", limit, least=-1)
    if sort_by is not None:
        checks.member("sort_by", sort_by, sortable(kind))
    return Page(sort_by, sort_order == "desc", offset, None if limit == -1 else limit)


def in_order(page: Page, field: str) -> Page:
    """Return the page in the order of creation, if it is sorted by a field that has the same order."""
    return dataclasses.replace(page, sort_by=None) if page.sort_by == field else page


@cache
def sortable(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Name the fields of a record that hold a number or a string, or None in place of one."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if _is_scalar(field.type))


def _is_scalar(hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return True
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(arm is type(None) or _is_scalar(arm) for arm in typing.get_args(hint))
    return hint in (str, int, float)


def matching(records: Iterable[T], conditions: Sequence[Predicate[T]], logic: str) -> Iterator[T]:
    """Yield the records that all, or any, of the conditions hold for; every record where there are none."""
    combine = check_logic(logic)
    if not conditions:
        return iter(records)
    return (record for record in records if combine(condition(record) for condition in conditions))


def check_logic(logic: str) -> Callable[[Iterable[object]], bool]:
    return _LOGIC[checks.member("filter_logic", logic, tuple(_LOGIC))]


def texts(**wanted: str | None) -> list[Predicate[Any]]:
    """Make conditions from arguments such as `name` and `name_contains`; None asks nothing."""
    given = [(argument, checks.string(argument, value)) for argument, value in wanted.items() if value is not None]
    return [_text(argument, value) for argument, value in given]


def _text(argument: str, wanted: str) -> Predicate[Any]:
    field = argument.removesuffix("_contains")
    if field == argument:
        return lambda record: getattr(record, field) == wanted
    return lambda record: wanted in (getattr(record, field) or "")


def check_timeout(timeout: float | None) -> bool:
    """Check a time-out and tell whether it allows any waiting."""
    if type(timeout) is int and timeout <= 0:  # the default, and nearly every call
        return False
    return checks.optional_number("timeout", timeout) is None or typing.cast("float", timeout) > 0
