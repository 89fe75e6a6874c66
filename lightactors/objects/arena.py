"""Which bytes of the arena are in use: its extents, allocated and free.

A two-level segregated fit (TLSF) whose books are dicts beside the arena; nothing is written into it. Free extents are
filed in classes by their size, 32 to each doubling, and one int has a bit for each class that holds any. TLSF rounds a
request up to the next class, where every extent fits, and so may refuse one that an extent of its own class holds.
Here the extents in between are looked at too: `allocate` refuses only what no run of free bytes holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

GRAIN = 64  # a cache line: extents start and end at multiples of it
PAGE = 4096
LARGE = 2**20  # from so many bytes on, what lies here has pages of its own

_GRAIN_BITS = GRAIN.bit_length() - 1
_STEP_BITS = 5  # 32 classes to each doubling: the extents of one class differ by 3 % at most


class Extent(NamedTuple):
    """A run of bytes: one that was allocated, or all the free ones between two that are."""

    offset: int
    size: int
    is_free: bool


class Arena:
    """The books of an arena of `capacity` bytes, rounded down to whole grains. Offsets and sizes are in bytes.

    Of the freed extents of a class the last one freed is taken first: its pages are warm. The free bytes that end the
    arena are its fresh space, taken from the front and only when no freed extent fits: a page costs most when it is
    touched for the first time.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity // GRAIN * GRAIN
        self.used = 0
        self._sizes: dict[int, int] = {}  # what is allocated: size by start
        self._ends: dict[int, int] = {}  # what is free: end by start
        self._starts: dict[int, int] = {}  # what is free: start by end
        # Dicts as ordered sets: the newest is at the end, and any is found when a neighbour joins it.
        self._classes: list[dict[int, None]] = [{} for _ in range(_class_of(self.capacity) + 1)]
        self._filled = 0  # bit n: class n is not empty
        self._fresh = self.capacity  # where the fresh space starts; it is free like any other, but in no class
        if self.capacity:
            self._add_free(0, self.capacity)

    def allocate(self, size: int, *, align: int = GRAIN) -> int | None:
        """Allocate `size` bytes, rounded up to whole grains, and return their offset, a multiple of `align`.

        None: no run of free bytes holds them. ValueError: `size` is below 1, or `align` is not a power of two.
        """
        if size < 1 or align < 1 or align & (align - 1):
            raise ValueError(f"size={size}, align={align}: ask for a byte at least, at a multiple of a power of two")
        size, align = _up(size, GRAIN), max(align, GRAIN)
        start = self._find(size, align)
        if start is None:
            return None
        self.used += size
        return self._carve(start, size, align)

    def split(self, offset: int, size: int) -> int:
        """Cut an allocated extent in two, the first of `size` bytes, rounded up to whole grains.

        Return the offset of the second. ValueError: nothing is allocated at `offset`, or a part would be empty.
        """
        whole, first = self.size_of(offset), _up(size, GRAIN)
        if not 0 < first < whole:
            raise ValueError(f"cannot cut {size} bytes off the {whole} at {offset}: leave a grain to both parts")
        self._sizes[offset] = first
        self._sizes[offset + first] = whole - first
        return offset + first

    def free(self, offset: int) -> None:
        """Free an allocated extent; it joins its free neighbours. ValueError: nothing is allocated at `offset`."""
        size = self.size_of(offset)
        del self._sizes[offset]
        self.used -= size
        start, end = offset, offset + size
        if end in self._ends:
            end = self._remove_free(end)
        if start in self._starts:
            start = self._starts[start]
            self._remove_free(start)
        self._add_free(start, end)

    def size_of(self, offset: int) -> int:
        """Return the size of what is allocated at `offset`. ValueError: nothing is."""
        try:
            return self._sizes[offset]
        except KeyError:
            raise ValueError(f"nothing is allocated at {offset}: name where an extent starts, free it once") from None

    @property
    def free_bytes(self) -> int:
        return self.capacity - self.used

    @property
    def largest(self) -> int:
        """The size of the largest free extent: the largest request that can be met."""
        top = self._classes[self._filled.bit_length() - 1]  # when none is filled the last one, which is empty too
        return max([self.capacity - self._fresh, *(self._ends[start] - start for start in top)])

    @property
    def fragmentation(self) -> float:
        """The part of the free bytes that is outside the largest free extent, from 0 (they are one run) to below 1."""
        return 1 - self.largest / self.free_bytes if self.free_bytes else 0.0

    def extents(self) -> Iterator[Extent]:
        """Return all extents, allocated and free, in the order of their offsets."""
        allocated = (Extent(start, size, is_free=False) for start, size in self._sizes.items())
        free = (Extent(start, end - start, is_free=True) for start, end in self._ends.items())
        return iter(sorted(chain(allocated, free)))

    def gaps(self) -> Iterator[tuple[int, int]]:
        """Return the start and the end of each free extent, in no order; not to be changed meanwhile."""
        return iter(self._ends.items())

    def _find(self, size: int, align: int) -> int | None:
        """Return where a free extent starts that holds `size` bytes from a multiple of `align` on."""
        own = _class_of(size)
        # The lowest class whose extents all are large enough, wherever they start.
        sure = _class_of(size + align - 2 * GRAIN) + 1
        if self._filled >> own & 1 and self._holds(newest := self._newest(own), size, align):
            return newest
        if larger := self._filled >> sure:
            return self._newest(sure + _lowest_bit(larger))
        return self._search(own, sure, size, align)

    def _search(self, own: int, sure: int, size: int, align: int) -> int | None:
        """Look at each extent of the classes from `own` up to `sure`, of which some may do, then at the fresh space.

        The time grows with their number (some 50 ns each), so it comes after the classes that need no search.
        """
        for members in self._classes[own:sure]:
            for start in reversed(members):
                if self._ends[start] - start >= size and self._holds(start, size, align):
                    return start
        return self._fresh if _up(self._fresh, align) + size <= self.capacity else None

    def _holds(self, start: int, size: int, align: int) -> bool:
        return _up(start, align) + size <= self._ends[start]

    def _newest(self, number: int) -> int:
        """Return the extent that came last into a class which is not empty."""
        members = self._classes[number]
        # Not `next(reversed(members))`, which steps over all that was removed from the end: with this it is gone.
        start, _ = members.popitem()
        members[start] = None
        return start

    def _carve(self, start: int, size: int, align: int) -> int:
        """Allocate `size` bytes of the free extent at `start`, and leave what is before and behind them free."""
        end = self._remove_free(start)
        offset = _up(start, align)
        if start < offset:
            self._add_free(start, offset)
        if offset + size < end:
            self._add_free(offset + size, end)
        self._sizes[offset] = size
        return offset

    def _add_free(self, start: int, end: int) -> None:
        self._ends[start] = end
        self._starts[end] = start
        if end == self.capacity:
            self._fresh = start
            return
        number = _class_of(end - start)
        members = self._classes[number]
        if not members:
            self._filled |= 1 << number
        members[start] = None

    def _remove_free(self, start: int) -> int:
        """Take a free extent out of the books; return its end."""
        end = self._ends.pop(start)
        del self._starts[end]
        if end == self.capacity:
            self._fresh = end
            return end
        number = _class_of(end - start)
        members = self._classes[number]
        del members[start]
        if not members:
            self._filled ^= 1 << number
        return end


def _class_of(size: int) -> int:
    """Number the class of a size: one for each grain at first, then 32 for each doubling."""
    grains = size >> _GRAIN_BITS
    shift = grains.bit_length() - _STEP_BITS - 1
    return grains if shift <= 0 else (shift << _STEP_BITS) + (grains >> shift)


def _up(number: int, multiple: int) -> int:
    """Round up to a multiple of a power of two."""
    return (number + multiple - 1) & -multiple


def _lowest_bit(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
