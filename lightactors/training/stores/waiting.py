"""Who waits in the store, for work or for an end, and who is waked when."""

from __future__ import annotations

import bisect
import itertools
import operator
from collections.abc import Callable, Iterable
from typing import TypeVar

import anyio

from lightactors.actors import Flag

T = TypeVar("T")


class _Waiter:
    __slots__ = ("event", "ticket")

    def __init__(self, ticket: int) -> None:
        self.ticket = ticket
        self.event = Flag()


_ticket = operator.attrgetter("ticket")


class Line:
    """Those who wait for work, first come, first served; each piece of work wakes one of them.

    The work is not handed to who is waked: it claims it itself, in one go with being served, so that no
    cancellation can come in between and lose it. Somebody else may be quicker; then it takes its old place.
    """

    def __init__(self) -> None:
        self.length = 0
        self._tickets = itertools.count()
        self._waiting: list[_Waiter] = []  # by ticket; who was waked is not in it

    def wake(self) -> None:
        """Wake who waits longest."""
        if self._waiting:
            self._waiting.pop(0).event.set()

    async def wait(self, claim: Callable[[], list[T]], timeout: float | None) -> list[T]:
        """Wait until `claim` gives something, and return it; nothing after `timeout`."""
        ticket = next(self._tickets)
        self.length += 1
        try:
            with anyio.move_on_after(timeout):
                while not (claimed := claim()):
                    await self._turn(ticket)
                return claimed
            return []
        finally:
            self.length -= 1

    async def _turn(self, ticket: int) -> None:
        waiter = _Waiter(ticket)
        bisect.insort(self._waiting, waiter, key=_ticket)
        try:
            await waiter.event.wait()
        except BaseException:
            self._leave(waiter)
            raise

    def _leave(self, waiter: _Waiter) -> None:
        if waiter.event.is_set():
            # It was waked for work that it will not take any more: the next one shall.
            self.wake()
        else:
            self._waiting.pop(bisect.bisect_left(self._waiting, waiter.ticket, key=_ticket))


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
