"""The space of the store: who gets it, who waits for it, and what is dropped or written to the disk for it."""

from __future__ import annotations

import contextlib
import mmap
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lightactors.objects.arena import GRAIN, LARGE, PAGE
from lightactors.objects.books import Books, Client, Grant
from lightactors.objects.channels import Channel
from lightactors.objects.records import Op, Record, Status
from lightactors.objects.spilling import MADV_REMOVE, Spiller, rounded

DISK_RESTS = 1.0
"""Seconds until the disk is tried again after it has failed."""

_HIGH, _LOW = 0.8, 0.7
"""Shares of the arena: used more than the first, objects are spilled until it is less than the second."""

_BATCH = 8 * 2**20
"""Bytes that are spilled at once, or more: a file for each small object would be slow."""

TRIM_AFTER = 30.0
"""Seconds without a lease after which pages that nothing lies in are given back to the system."""


@dataclass(frozen=True)
class Parked:
    """A lease that is waited for."""

    channel: Channel
    serial: int
    most: int
    least: int


class Space:
    """The arena and its memory, and the disk behind it."""

    def __init__(
        self,
        books: Books,
        memory: mmap.mmap,
        spiller: Spiller | None,
        spill_limit: int | None,
        answer: Callable[..., object],
    ) -> None:
        self._books = books
        self._arena = books.arena
        self._map = memory
        self._spiller = spiller
        self._spill_limit = spill_limit
        self._answer = answer
        self._parked: deque[Parked] = deque()
        self._trims = 0
        self._last_lease = time.monotonic()
        self.disk_error = ""
        self._disk_rests_until = 0.0

    @property
    def waiting(self) -> int:
        """How many leases are waited for."""
        return len(self._parked)

    def lease(self, channel: Channel, client: Client, record: Record) -> None:
        _, serial, most, least, waits, payer = record
        if payer:
            self._books.wait_for(client, self._books.clients.get(payer))
        self._last_lease = time.monotonic()
        granted = self._granted_in_turn(client, most, least)
        if granted is Status.FULL:
            self._make_room(least)
            granted = self._granted_in_turn(client, most, least)
        if granted is Status.FULL and waits:
            self._parked.append(Parked(channel, serial, most, least))
            return
        self._answer_lease(channel, serial, granted)
        if self._arena.used > _HIGH * self._arena.capacity:
            self._spill(int(self._arena.used - _LOW * self._arena.capacity))

    def _granted_in_turn(self, client: Client, most: int, least: int) -> Grant | Status:
        """Let those who wait go first if space is on its way; else they may wait long, and who fits is served."""
        if self._parked and self._spiller is not None and self._spiller.under_way:
            return Status.FULL
        return self._granted(client, most, least)

    def _granted(self, client: Client, most: int, least: int) -> Grant | Status:
        return self._books.lease(client, most, least, PAGE if least >= LARGE else GRAIN)

    def _answer_lease(self, channel: Channel, serial: int, granted: Grant | Status) -> None:
        record: Record = (Op.LEASE, serial, 0, 0, 0, 0)
        if isinstance(granted, Grant):
            self._answer(channel, record, Status.DONE, granted.offset, granted.size, self._trims)
        else:
            self._books.tally.refused += 1
            coming = 0 if self._spiller is None else self._spiller.under_way
            self._answer(channel, record, granted, coming)

    def serve(self) -> None:
        """Grant what is waited for, in turn."""
        while self._parked:
            first = self._parked[0]
            client = first.channel.client
            if first.channel.is_open and client is not None:
                granted = self._granted(client, first.most, first.least)
                if granted is Status.FULL:
                    self._make_room(first.least)
                    granted = self._granted(client, first.most, first.least)
                if granted is Status.FULL:
                    return
                self._answer_lease(first.channel, first.serial, granted)
            self._parked.popleft()

    def _make_room(self, size: int) -> None:
        """Drop what nobody holds, and have spilled what nobody looks at, until so much is free in one piece."""
        while self._arena.largest < size and self._books.evict():
            pass
        if self._arena.largest < size:
            self._spill(max(size, _BATCH))

    def _spill(self, size: int) -> None:
        if self._spiller is None or time.monotonic() < self._disk_rests_until:
            return
        under_way, limit = self._spiller.under_way, self._spill_limit
        if limit is None:
            batch = self._books.victims(size - under_way)
        elif under_way:
            return  # how much it takes of the limit is known then
        else:
            batch = self._books.victims(size, limit - self._books.spilled_bytes)
        if batch:
            self._spiller.write(batch)

    def written(self) -> None:
        """Note what has come to the disk, or has not."""
        assert self._spiller is not None
        while not self._spiller.done.empty():
            written = self._spiller.done.get()
            for found, file, offset in written.placed:
                self._spiller.under_way -= found.room
                self._books.spilled(found, file, offset, rounded(found.size))
            for found in written.left:
                self._spiller.under_way -= found.room
                self._books.stays(found)
            self._note_error(written.error)

    def _note_error(self, error: OSError | None) -> None:
        self.disk_error = "" if error is None else str(error)
        if error is not None:
            self._disk_rests_until = time.monotonic() + DISK_RESTS

    def trim_if_idle(self) -> None:
        """Give back the pages of free space when there was no lease for long."""
        if not self._trims_are_due():
            return
        self._last_lease = float("inf")
        self._trims += 1
        for start, end in self._arena.gaps():  # of which there are few, and perhaps a million objects
            first, last = -(-start // PAGE) * PAGE, end // PAGE * PAGE
            if last - first >= LARGE:
                with contextlib.suppress(OSError):  # of what is no memory but a file, on some file systems
                    self._map.madvise(MADV_REMOVE, first, last - first)

    def _trims_are_due(self) -> bool:
        return time.monotonic() - self._last_lease >= TRIM_AFTER
