"""The arena gives out extents that lie apart, loses no byte, and refuses only what no free run holds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from lightactors.objects.arena import GRAIN, PAGE, Arena, Extent

GIB = 1 << 30


def arena_with_holes(*sizes: int, behind: int = 0) -> tuple[Arena, list[int]]:
    """Return an arena with a hole of each size, in grains, freed in this order, and `behind` grains of fresh space."""
    arena = Arena(GRAIN * (sum(sizes) + len(sizes) + behind))
    holes = []
    for size in sizes:
        holes.append(allocated(arena, size * GRAIN))
        allocated(arena, GRAIN)  # keeps it apart from the next
    for hole in holes:
        arena.free(hole)
    return arena, holes


def allocated(arena: Arena, size: int, align: int = GRAIN) -> int:
    offset = arena.allocate(size, align=align)
    assert offset is not None
    return offset


# What is asked for


def test_new_arena_is_one_free_extent_of_whole_grains() -> None:
    arena = Arena(10 * GRAIN + 63)
    assert list(arena.extents()) == [Extent(0, 10 * GRAIN, is_free=True)]
    assert (arena.capacity, arena.used, arena.free_bytes, arena.largest) == (640, 0, 640, 640)


def test_size_is_rounded_up_to_grains() -> None:
    arena = Arena(PAGE)
    assert [arena.size_of(allocated(arena, size)) for size in (1, 64, 65)] == [64, 64, 128]
    assert arena.used == 256


@pytest.mark.parametrize("align", [1, GRAIN, 2 * GRAIN, PAGE, 512 * PAGE])
def test_offset_is_a_multiple_of_align_and_the_bytes_before_it_stay_free(align: int) -> None:
    arena = Arena(1024 * PAGE)
    first = allocated(arena, 1)
    offset = allocated(arena, PAGE, align)
    assert offset == max(align, GRAIN)
    assert arena.free_bytes == arena.capacity - PAGE - GRAIN
    arena.free(first)
    arena.free(offset)
    assert arena.largest == arena.capacity


@pytest.mark.parametrize(("size", "align"), [(0, GRAIN), (-1, GRAIN), (1, 0), (1, -GRAIN), (1, 96)])
def test_request_that_makes_no_sense_is_refused(size: int, align: int) -> None:
    with pytest.raises(ValueError, match=f"size={size}, align={align}: ask for"):
        Arena(PAGE).allocate(size, align=align)


@pytest.mark.parametrize("capacity", [0, 63])
def test_arena_of_less_than_a_grain_holds_nothing(capacity: int) -> None:
    arena = Arena(capacity)
    assert arena.allocate(1) is None
    assert (list(arena.extents()), arena.largest, arena.fragmentation) == ([], 0, 0.0)


def test_capacity_can_be_taken_whole_and_not_a_byte_more() -> None:
    arena = Arena(64 * GIB)
    assert arena.allocate(64 * GIB + 1) is None
    assert arena.allocate(64 * GIB) == 0
    assert arena.allocate(1) is None
    assert (arena.free_bytes, arena.largest, arena.fragmentation) == (0, 0, 0.0)


# Where it is taken from


def test_last_freed_of_a_size_is_taken_first() -> None:
    arena, holes = arena_with_holes(5, 5, 5, behind=100)
    assert [arena.allocate(5 * GRAIN) for _ in holes] == holes[::-1]


def test_freed_extent_is_taken_before_fresh_space_even_when_it_is_larger() -> None:
    arena, [hole] = arena_with_holes(50, behind=100)
    assert arena.allocate(GRAIN) == hole


def test_freed_extent_of_the_size_is_taken_before_a_larger_one() -> None:
    arena, [same, _] = arena_with_holes(1001, 2000)
    assert arena.allocate(1001 * GRAIN) == same


def test_newest_that_holds_the_request_is_taken_of_its_class_before_fresh_space() -> None:
    arena, [older, newer, _] = arena_with_holes(1001, 1001, 1000, behind=2000)
    assert [arena.allocate(1001 * GRAIN) for _ in range(2)] == [newer, older]


def test_fresh_space_is_taken_from_the_front() -> None:
    arena = Arena(PAGE)
    assert [arena.allocate(GRAIN) for _ in range(3)] == [0, 64, 128]


def test_request_is_met_by_the_only_run_that_holds_it() -> None:
    arena, [_, holds, _] = arena_with_holes(1000, 1001, 1000)
    assert arena.allocate(1001 * GRAIN) == holds
    assert arena.allocate(1001 * GRAIN) is None


def test_aligned_request_is_met_by_the_only_run_that_holds_it() -> None:
    arena, [holds, _] = arena_with_holes(64, 120)  # the second hole reaches from grain 65 to 185
    assert arena.allocate(PAGE, align=2 * PAGE) == holds
    assert arena.allocate(PAGE, align=2 * PAGE) is None
    assert arena.allocate(57 * GRAIN, align=PAGE) == 2 * PAGE


def test_aligned_request_is_met_by_a_run_of_a_class_above_its_own_that_does_not_always_hold_it() -> None:
    arena, _ = arena_with_holes(10, 100)  # the second hole reaches from grain 11 to 111, a page starts at 64
    assert arena.allocate(40 * GRAIN, align=PAGE) == PAGE
    assert arena.allocate(40 * GRAIN, align=PAGE) is None


def test_alignment_below_a_grain_is_that_of_a_grain() -> None:
    arena, _ = arena_with_holes(5, behind=10)
    assert arena.allocate(6 * GRAIN, align=1) == 6 * GRAIN


def test_run_aligned_for_another_request_is_no_hindrance() -> None:
    arena = Arena(4 * PAGE)
    allocated(arena, GRAIN)
    assert [arena.allocate(PAGE, align=PAGE) for _ in range(4)] == [PAGE, 2 * PAGE, 3 * PAGE, None]
    assert arena.allocate(PAGE - GRAIN) == GRAIN


# Freeing


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_neighbours_freed_in_any_order_become_one_extent(order: tuple[int, ...]) -> None:
    arena = Arena(4 * GRAIN)
    offsets = [allocated(arena, GRAIN) for _ in range(4)]
    for index in order:
        arena.free(offsets[index])
    assert list(arena.extents()) == [Extent(0, 3 * GRAIN, is_free=True), Extent(3 * GRAIN, GRAIN, is_free=False)]


def test_what_is_freed_twice_or_not_at_all_allocated_is_refused_and_changes_nothing() -> None:
    arena = Arena(PAGE)
    freed, kept = allocated(arena, PAGE // 4), allocated(arena, PAGE // 4)
    arena.free(freed)
    before = list(arena.extents())
    for offset in (freed, kept + GRAIN, -GRAIN, PAGE):
        for act in (arena.free, arena.size_of, lambda offset: arena.split(offset, GRAIN)):
            with pytest.raises(ValueError, match=f"nothing is allocated at {offset}"):
                act(offset)
    assert list(arena.extents()) == before
    assert arena.used == PAGE // 4


# Splitting


def test_split_extent_is_freed_in_two_parts() -> None:
    arena = Arena(PAGE)
    first = allocated(arena, PAGE)
    second = arena.split(first, 100)
    assert (second, arena.size_of(first), arena.size_of(second), arena.used) == (128, 128, PAGE - 128, PAGE)
    arena.free(first)
    assert arena.largest == 128
    arena.free(second)
    assert arena.largest == PAGE


@pytest.mark.parametrize("size", [-1, 0, PAGE - 63, PAGE, PAGE + 1])
def test_split_that_leaves_nothing_to_a_part_is_refused(size: int) -> None:
    arena = Arena(PAGE)
    offset = allocated(arena, PAGE)
    with pytest.raises(ValueError, match="leave a grain to both parts"):
        arena.split(offset, size)
    assert arena.size_of(offset) == PAGE


# Numbers


def test_fragmentation_is_the_part_of_the_free_bytes_outside_the_largest_extent() -> None:
    arena, _ = arena_with_holes(10, 30)
    assert (arena.free_bytes, arena.largest) == (40 * GRAIN, 30 * GRAIN)
    assert arena.fragmentation == 0.25


# Any calls in any order

GRAINS = 512  # 8 pages
SIZES = st.integers(1, 200) | st.integers(1, 40 * GRAIN) | st.integers(1, (GRAINS + 1) * GRAIN)
ALIGNS = st.sampled_from([1, GRAIN, 2 * GRAIN, PAGE, 4 * PAGE])
ANY = st.integers(0, 10_000)  # which of those that there are


class ArenaMachine(RuleBasedStateMachine):
    """The arena beside a model that is a byte for each grain, nought where it is free, and the extents given out."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena(GRAINS * GRAIN)
        self.grains = bytearray(GRAINS)
        self.sizes: dict[int, int] = {}

    def teardown(self) -> None:
        for offset in list(self.sizes):
            self.arena.free(offset)
        assert list(self.arena.extents()) == [Extent(0, GRAINS * GRAIN, is_free=True)]
        assert self.arena.allocate(GRAINS * GRAIN) == 0

    def free_runs(self) -> list[tuple[int, int]]:
        """List what is free as starts and ends."""
        edges = [-1, *(index for index, used in enumerate(self.grains) if used), GRAINS]
        return [((last + 1) * GRAIN, used * GRAIN) for last, used in pairwise(edges) if used > last + 1]

    def fits(self, size: int, align: int) -> list[int]:
        """List where `size` bytes lie first in the free runs that hold them: in the fresh one only if no other does."""
        firsts = [(-(-start // align) * align, end) for start, end in self.free_runs()]
        fits = [(first, end) for first, end in firsts if first + size <= end]
        freed = [first for first, end in fits if end < GRAINS * GRAIN]
        return freed or [first for first, _ in fits]

    def some(self, which: int) -> int:
        return sorted(self.sizes)[which % len(self.sizes)]

    def mark(self, offset: int, size: int, used: int) -> None:
        self.grains[offset // GRAIN : (offset + size) // GRAIN] = bytes([used]) * (size // GRAIN)

    has_some = precondition(lambda self: self.sizes)

    @rule(size=SIZES, align=ALIGNS)
    def allocate(self, size: int, align: int) -> None:
        whole = -(-size // GRAIN) * GRAIN
        fits = self.fits(whole, max(align, GRAIN))
        offset = self.arena.allocate(size, align=align)
        if offset is None:
            assert not fits
            return
        assert offset in fits
        self.sizes[offset] = whole
        self.mark(offset, whole, 1)

    @has_some
    @rule(which=ANY)
    def free(self, which: int) -> None:
        offset = self.some(which)
        self.arena.free(offset)
        self.mark(offset, self.sizes.pop(offset), 0)

    @has_some
    @rule(which=ANY, size=SIZES)
    def split(self, which: int, size: int) -> None:
        offset, first = self.some(which), -(-size // GRAIN) * GRAIN
        if first >= self.sizes[offset]:
            with pytest.raises(ValueError, match="leave a grain"):
                self.arena.split(offset, size)
            return
        assert self.arena.split(offset, size) == offset + first
        self.sizes[offset + first] = self.sizes[offset] - first
        self.sizes[offset] = first

    @rule(offset=st.integers(-GRAIN, GRAINS * GRAIN))
    def free_what_is_not_there(self, offset: int) -> None:
        if offset not in self.sizes:
            with pytest.raises(ValueError, match="nothing is allocated"):
                self.arena.free(offset)

    @invariant()
    def extents_are_those_of_the_model(self) -> None:
        free = [Extent(start, end - start, is_free=True) for start, end in self.free_runs()]
        used = [Extent(start, size, is_free=False) for start, size in self.sizes.items()]
        assert list(self.arena.extents()) == sorted(free + used)
        assert sorted(self.arena.gaps()) == sorted((start, start + size) for start, size, _ in free)

    @invariant()
    def numbers_are_those_of_the_model(self) -> None:
        free = [end - start for start, end in self.free_runs()]
        largest = max(free, default=0)
        assert (self.arena.free_bytes, self.arena.largest) == (sum(free), largest)
        assert self.arena.used == sum(self.sizes.values()) == sum(self.grains) * GRAIN
        assert self.arena.fragmentation == (1 - largest / sum(free) if free else 0)


def test_arena_agrees_with_its_model_whatever_is_asked() -> None:
    chosen = settings(
        max_examples=100,
        stateful_step_count=50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(ArenaMachine, settings=chosen)
