"""How a listing of numbered records is made from indexes, without a look at the rest."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from lightactors.training.stores.memory.bitmap import Combined, Numbers, listed
from lightactors.training.stores.queries import Page, Predicate, check_logic, matching

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_SETS: dict[str, Callable[[int, int], int]] = {"and": operator.and_, "or": operator.or_}


class Numbered(Protocol[T_co]):
    """Records by their numbers, in the order of creation."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> T_co: ...


def select(
    records: Numbered[T],
    sets: Sequence[Numbers],
    conditions: Sequence[Predicate[T]],
    logic: str,
    page: Page,
) -> list[T]:
    """Return a page of numbered records.

    `sets` hold the numbers of those that fulfil conditions for which there is an index; each of the other
    `conditions` has to look at a record to tell. In the order of numbers it stops as soon as the page is full.
    """
    check_logic(logic)
    if page.sort_by is not None:
        return page.cut(page.sorted(_selected(records, sets, conditions, logic, descending=False)))
    if conditions:
        return page.cut(_selected(records, sets, conditions, logic, descending=page.descending))
    chosen = _numbers(records, sets, logic, skip=page.offset, descending=page.descending)
    return [records[number] for number in islice(chosen, page.limit)]


def _selected(
    records: Numbered[T],
    sets: Sequence[Numbers],
    conditions: Sequence[Predicate[T]],
    logic: str,
    *,
    descending: bool,
) -> Iterator[T]:
    if logic == "and" or not conditions:
        candidates = _numbers(records, sets, logic, descending=descending)
        return matching((records[number] for number in candidates), conditions, logic)
    # With "or" a record outside every set may still fulfil a condition.
    found = set(_numbers(records, sets, logic)) if sets else set()
    everything = _numbers(records, (), logic, descending=descending)
    return (records[number] for number in everything if number in found or any(c(records[number]) for c in conditions))


def _numbers(
    records: Numbered[T], sets: Sequence[Numbers], logic: str, *, skip: int = 0, descending: bool = False
) -> Iterable[int]:
    if sets:
        return listed(Combined(_SETS[logic], sets), skip=skip, descending=descending)
    numbers = range(len(records))
    return (numbers[::-1] if descending else numbers)[skip:]
