"""What is in a store at one moment: who holds what, what was spilled, how much is free."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import Struct

from lightactors.actors.tree import counted
from lightactors.actors.tree import size as in_words


class Counters(Struct, frozen=True):
    """What has happened since the store was founded."""

    puts: int
    put_bytes: int
    gets: int
    lost: int  # gets of objects that were gone
    spilled: int
    spilled_bytes: int
    restored: int  # gets that were served from the disk
    evicted: int
    reclaimed_bytes: int  # of processes that ended with something in their hands
    refused: int  # requests for memory


class ProcessFigures(Struct, frozen=True):
    """One process that uses the store."""

    number: int
    label: str
    pid: int
    joined: float  # seconds since the epoch
    used: int  # bytes that it has put and that are in memory, and its space for new ones
    held: int  # objects
    viewed: int


class ObjectFigures(Struct, frozen=True):
    """One object."""

    id: str
    size: int
    sealed: float  # seconds since the epoch
    maker: int | None  # the number of the process that has put it; None: it is gone
    holders: list[int]
    viewers: list[int]
    in_flight: int  # messages that it is on its way with
    is_spilled: bool
    is_deleted: bool


class Figures(Struct, frozen=True, kw_only=True):
    """A store at one moment; sizes in bytes. `objects` has the largest 1,000."""

    capacity: int
    used: int
    leased: int  # of it, what processes have for new objects
    largest_free: int
    fragmentation: float  # of what is free, the share outside the largest piece
    spilled_bytes: int  # on the disk now
    spill: str | None
    disk_error: str
    waiting: int  # puts that wait for memory
    total_objects: int
    counters: Counters
    processes: list[ProcessFigures]
    objects: list[ObjectFigures]

    @classmethod
    def of(cls, facts: Any) -> Figures:
        """Return the figures that were sent."""
        return msgspec.convert(facts, cls)

    @classmethod
    def read(cls, text: bytes) -> Figures:
        """Return the figures that `json` wrote."""
        return msgspec.json.decode(text, type=cls)

    def json(self) -> bytes:
        """Return them as JSON."""
        return msgspec.json.encode(self)

    def in_words(self, count: int) -> str:
        """Return how full it is, the `count` processes that have put most, and what could not go to the disk."""
        oldest = max((time.time() - found.sealed for found in self.objects), default=0.0)
        largest = sorted(self.processes, key=lambda process: -process.used)[:count]
        viewed = sum(found.size for found in self.objects if found.viewers and not found.is_spilled)
        clauses = [
            f"{in_words(self.used)} of {in_words(self.capacity)} are used by {counted(self.total_objects, 'object')}, "
            f"the oldest {oldest:.0f} s old",
            *(f"{process.label} has put {in_words(process.used)} of it" for process in largest if process.used),
            f"{in_words(viewed)} of it can't be moved, for arrays in use lie there" if viewed else "",
            self._disk_in_words(),
        ]
        return "; ".join(filter(None, clauses))

    def _disk_in_words(self) -> str:
        if self.spill is None:
            return "nothing is written to the disk (spill=None)"
        if self.disk_error:
            return f"nothing can be written to {self.spill}: {self.disk_error}"
        return f"{in_words(self.spilled_bytes)} are in {self.spill}"
