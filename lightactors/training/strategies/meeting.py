"""The meeting: where runners that came over the network hear that the execution is to end."""

from __future__ import annotations

import logging
import math

import anyio

from lightactors.actors import Flag
from lightactors.contract import actor, handler
from lightactors.training.events import ExecutionEvent

logger = logging.getLogger("lightactors")

MEETING = "meeting"
STORE = "store"
"""The names that they are found by."""

_COMES_AGAIN_WITHIN = 2.0
"""Seconds after which whoever lost the link, and has not attended again, is not waited for."""


class Attendance:
    """Who has come over the network and not left yet.

    One name may attend several times at once: the end of a link may be noticed here after its runner has come again
    over the next one.
    """

    def __init__(self) -> None:
        self._tickets: dict[str, set[object]] = {}
        self._lost: dict[str, float] = {}  # since when somebody is out of reach
        self._nobody, self._somebody = Flag(), Flag()
        self._nobody.set()

    def come(self, name: str) -> object:
        """Note that somebody comes; return a ticket, by which this very time is known."""
        if name not in self._tickets:
            logger.info("runner %s has joined", name)
        if not self._tickets:
            self._nobody = Flag()
            self._somebody.set()
        self._lost.pop(name, None)
        ticket = object()
        self._tickets.setdefault(name, set()).add(ticket)
        return ticket

    def lose(self, name: str, ticket: object) -> None:
        """Note that a ticket is of no use any more; whoever has no other has left, or may come again."""
        tickets = self._tickets.get(name)
        if tickets is None:
            return
        tickets.discard(ticket)
        if not tickets:
            self.leave(name)
            self._lost[name] = anyio.current_time()

    def leave(self, name: str) -> None:
        self._lost.pop(name, None)
        if self._tickets.pop(name, None) is None:
            return
        logger.info("runner %s has left", name)
        if not self._tickets:
            self._somebody = Flag()
            self._nobody.set()

    async def until_all_have_left(self) -> None:
        """Wait for everybody: also for who has just lost the link, and would wait for the next execution for ever."""
        while True:
            await self._nobody.wait()
            last = max(self._lost.values(), default=-math.inf)
            with anyio.CancelScope(deadline=last + _COMES_AGAIN_WITHIN) as scope:
                await self._somebody.wait()
            if scope.cancelled_caught:
                return


@actor
class Meeting:
    """Tells everybody who attends when the execution is to end."""

    def __init__(self, event: ExecutionEvent, attendance: Attendance) -> None:
        self._event = event
        self._attendance = attendance

    @handler(idempotent=True, interleaved=True, roles=("runner",))
    async def attend(self, name: str) -> None:
        """Come, and return when the execution is to end; whoever loses the link attends again."""
        ticket = self._attendance.come(name)
        try:
            await self._event
        except BaseException:
            self._attendance.lose(name, ticket)
            raise

    @handler(idempotent=True, roles=("runner",))
    def leave(self, name: str) -> None:
        """Leave: what was under way is reported."""
        self._attendance.leave(name)
