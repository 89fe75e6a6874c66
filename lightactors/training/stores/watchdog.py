"""What notices that a deadline has passed: alarms in a heap, and the one task that sleeps until the next."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import anyio

from lightactors.contract import Mailbox, actor


class Alarms:
    """The earliest moment at which each number has to be looked at.

    An alarm that turns out to be early costs one look, so a deadline that moves on with every sign of life
    needs no new alarm each time.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._moments: dict[int, float] = {}
        self._before: dict[int, float] | None = None  # what a transaction has changed; infinite for no alarm

    def set(self, number: int, moment: float) -> None:
        """Look at the number at `moment` at the latest; infinity and an earlier alarm change nothing."""
        if moment < self._moments.get(number, math.inf):
            self._remember(number)
            self._moments[number] = moment
            heapq.heappush(self._heap, (moment, number))
            self._compact()

    def clear(self, number: int) -> None:
        """Forget the number."""
        self._remember(number)
        self._moments.pop(number, None)

    @property
    def next(self) -> float:
        """The moment of the next alarm, infinite if there is none."""
        while self._heap and not self._is_live(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float) -> Iterator[int]:
        """Yield the numbers whose moment has come, and forget them."""
        while self.next <= now:
            _, number = heapq.heappop(self._heap)
            self._remember(number)
            del self._moments[number]
            yield number

    def begin(self) -> None:
        """Remember from now on what is changed, for `roll_back`."""
        self._before = {}

    def roll_back(self) -> None:
        """Have the alarms again that there were at `begin`."""
        before, self._before = self._before or {}, None
        for number, moment in before.items():
            self._moments.pop(number, None)
            self.set(number, moment)

    def _remember(self, number: int) -> None:
        if self._before is not None:
            self._before.setdefault(number, self._moments.get(number, math.inf))

    def _is_live(self, moment: float, number: int) -> bool:
        return self._moments.get(number) == moment

    def _compact(self) -> None:
        # What was forgotten stays in the heap until its time comes, which may be hours off; not more than half of it.
        if len(self._heap) > 2 * len(self._moments) + 64:
            self._heap = [(moment, number) for number, moment in self._moments.items()]
            heapq.heapify(self._heap)


@dataclass(frozen=True, slots=True)
class Nudge:
    """The next deadline is earlier than it was."""


class Watched(Protocol):
    """Something with deadlines."""

    def seconds_to_deadline(self) -> float | None:
        """Return how long to sleep; None while there is no deadline."""
        ...

    def expire(self) -> None:
        """Act on every deadline that has passed."""
        ...


@actor
async def watchdog(mailbox: Mailbox[Nudge], store: Watched) -> None:
    """Sleep until the store's next deadline or a nudge, again and again.

    `store` is the object itself, on the same loop: the watchdog is the part of it that can sleep.
    """
    while True:
        with anyio.move_on_after(store.seconds_to_deadline()):
            try:
                await mailbox.receive()
            except anyio.EndOfStream:
                return
            continue
        store.expire()
