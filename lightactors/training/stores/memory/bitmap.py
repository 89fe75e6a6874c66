"""A set of row numbers that can be listed in order, from either end, without looking at the rest.

The store's indexes are made of it. A number costs a bit; adding, dropping and finding the next one cost
about the same in a set of a million as in a set of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import Protocol

CHUNK = 1024  # bits of one chunk: wide enough to keep the summary short, narrow enough to copy in no time
_MASK = CHUNK - 1
_SHIFT = CHUNK.bit_length() - 1


class Numbers(Protocol):
    """Something that can be listed: its chunks, and a bit for each that may be other than 0."""

    @property
    def summary(self) -> int: ...
    def chunk(self, index: int) -> int: ...


class Bitmap:
    """A set of whole numbers."""

    __slots__ = ("_chunks", "summary")

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._chunks: dict[int, int] = {}
        self.summary = 0
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        index = number >> _SHIFT
        self._chunks[index] = self.chunk(index) | 1 << (number & _MASK)
        self.summary |= 1 << index

    def discard(self, number: int) -> None:
        index = number >> _SHIFT
        left = self.chunk(index) & ~(1 << (number & _MASK))
        self._chunks[index] = left
        if not left:
            self._chunks.pop(index)
            self.summary &= ~(1 << index)

    def chunk(self, index: int) -> int:
        return self._chunks.get(index, 0)


class Combined:
    """Several sets seen as one; nothing is computed before it is listed."""

    def __init__(self, operation: Callable[[int, int], int], parts: Sequence[Numbers]) -> None:
        self._operation = operation
        self._parts = parts

    @property
    def summary(self) -> int:
        return reduce(self._operation, [part.summary for part in self._parts], *self._nothing())

    def chunk(self, index: int) -> int:
        return reduce(self._operation, [part.chunk(index) for part in self._parts], *self._nothing())

    def _nothing(self) -> tuple[int, ...]:
        return () if self._parts else (0,)


def listed(numbers: Numbers, *, skip: int = 0, descending: bool = False) -> Iterator[int]:
    """List the numbers in order, without the first `skip`."""
    for index in _bits(numbers.summary, descending):
        bits = numbers.chunk(index)
        # Most of what is skipped is skipped a chunk at a time.
        if skip and skip >= bits.bit_count():
            skip -= bits.bit_count()
            continue
        for bit in _bits(bits, descending):
            if skip:
                skip -= 1
            else:
                yield (index << _SHIFT) + bit


def _bits(value: int, descending: bool) -> Iterator[int]:
    while value:
        bit = (value if descending else value & -value).bit_length() - 1
        yield bit
        value ^= 1 << bit
