"""Who waits in the store, for work or for an end, and who is waked when."""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import anyio

from lightactors.actors import Flag

T = TypeVar("T")


class Claimant(NamedTuple):
    """Who claims work, and the id under which it may ask for the same claim again."""

    worker_id: str | None
    claim_id: str | None = None


_ticket = operator.attrgetter("ticket")


class Line:
    """Those who wait for work, first come, first served; each piece of work wakes one of them.

    The work is not handed to who is waked: it claims it itself, in one go with being served, so that no
    cancellation can come in between and lose it. Somebody else may be quicker; then it takes its old place.
    """

    def __init__(self) -> None:
        self.length = 0
        self._tickets = itertools.count()
        self._waiting: list[Place] = []  # by ticket; who was waked is not in it
        self._by_worker: dict[str, Place] = {}  # those that can be called off; a worker has one place

    def enter(self, claimant: Claimant) -> Place:
        """Return a place behind all others, to `wait` at."""
        place = Place(self, next(self._tickets), claimant)
        if claimant.claim_id is not None and claimant.worker_id is not None:
            self._by_worker[claimant.worker_id] = place
        return place

    def call_off(self, worker_id: str, claim_id: str | None = None) -> None:
        """End the wait of a worker that waits under a claim id: that one, or any."""
        place = self._by_worker.get(worker_id)
        if place is not None and claim_id in (None, place.claimant.claim_id):
            place.call_off()

    def wake(self) -> None:
        """Wake who waits longest."""
        if self._waiting:
            self._waiting.pop(0).waked.set()

    def join(self, place: Place) -> None:
        """Let a place wait for its turn."""
        bisect.insort(self._waiting, place, key=_ticket)

    def leave(self, place: Place) -> None:
        """Let a place go whose wait for its turn was cut short."""
        if place.waked.is_set():
            # It was waked for work that it will not take any more: the next one shall.
            self.wake()
        else:
            self._waiting.pop(bisect.bisect_left(self._waiting, place.ticket, key=_ticket))

    def forget(self, place: Place) -> None:
        """Let a place go that is not needed any more."""
        worker_id = place.claimant.worker_id
        if worker_id is not None and self._by_worker.get(worker_id) is place:
            del self._by_worker[worker_id]


class Place:
    """A place in the line."""

    __slots__ = ("_is_off", "_line", "_scope", "claimant", "ticket", "waked")

    def __init__(self, line: Line, ticket: int, claimant: Claimant) -> None:
        self._line = line
        self._scope: anyio.CancelScope | None = None
        self._is_off = False
        self.ticket = ticket
        self.claimant = claimant
        self.waked = Flag()

    async def wait(self, claim: Callable[[], list[T]], timeout: float | None) -> list[T]:
        """Wait until `claim` gives something, and return it; nothing after `timeout`, or when called off."""
        self._line.length += 1
        try:
            with anyio.move_on_after(timeout) as self._scope:
                while not self._is_off:
                    if claimed := claim():
                        return claimed
                    await self._turn()
                # It may have been waked before it was called off, for work that the next one shall take.
                self._line.wake()
            return []
        finally:
            self._line.length -= 1
            self._line.forget(self)

    def call_off(self) -> None:
        """End the wait; nothing is claimed any more."""
        self._is_off = True
        if self._scope is not None:
            self._scope.cancel()

    async def _turn(self) -> None:
        self.waked = Flag()
        self._line.join(self)
        try:
            await self.waked.wait()
        except BaseException:
            self._line.leave(self)
            raise


class _Countdown:
    __slots__ = ("event", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.event = Flag()


class Ends:
    """Those who wait for ends: of certain things, known by their numbers, or of any."""

    def __init__(self) -> None:
        self._waits: dict[int, list[_Countdown]] = {}
        self._any: list[_Countdown] = []

    def reached(self, number: int) -> None:
        """Tell those who wait that this one has ended."""
        if not (self._waits or self._any):
            return
        for countdown in (*self._waits.pop(number, ()), *self._any):
            countdown.left -= 1
            if not countdown.left:
                countdown.event.set()

    async def wait_for(self, numbers: Iterable[int]) -> None:
        """Wait until all of these, which are open and differ, have ended."""
        awaited = list(numbers)
        if not awaited:  # the last of them ended between the call and this moment
            return
        countdown = _Countdown(len(awaited))
        for number in awaited:
            self._waits.setdefault(number, []).append(countdown)
        try:
            await countdown.event.wait()
        finally:
            for number in awaited:
                self._forget(number, countdown)

    def _forget(self, number: int, countdown: _Countdown) -> None:
        # Those that have ended are gone already.
        if others := self._waits.get(number):
            others.remove(countdown)
            if not others:
                del self._waits[number]

    async def wait_for_any(self) -> None:
        """Wait for the next end of all."""
        countdown = _Countdown(1)
        self._any.append(countdown)
        try:
            await countdown.event.wait()
        finally:
            self._any.remove(countdown)
