"""The meeting: where runners that came over the network hear that the execution is to end."""

from __future__ import annotations

import logging

from lightactors.actors import Flag
from lightactors.contract import actor, handler
from lightactors.training.events import ExecutionEvent

logger = logging.getLogger("lightactors")

MEETING = "meeting"
STORE = "store"
"""The names that they are found by."""


class Attendance:
    """Who has come over the network and not left yet.

    One name may attend several times at once: the end of a link may be noticed here after its runner has come again
    over the next one.
    """

    def __init__(self) -> None:
        self._tickets: dict[str, set[object]] = {}
        self._nobody = Flag()
        self._nobody.set()

    def come(self, name: str) -> object:
        """Note that somebody comes; return a ticket, by which this very time is known."""
        if name not in self._tickets:
            logger.info("runner %s has joined", name)
        if not self._tickets:
            self._nobody = Flag()
        ticket = object()
        self._tickets.setdefault(name, set()).add(ticket)
        return ticket

    def lose(self, name: str, ticket: object) -> None:
        """Note that a ticket is of no use any more; whoever has no other has left."""
        tickets = self._tickets.get(name, set())
        tickets.discard(ticket)
        if not tickets:
            self.leave(name)

    def leave(self, name: str) -> None:
        if self._tickets.pop(name, None) is not None:
            logger.info("runner %s has left", name)
        if not self._tickets:
            self._nobody.set()

    async def until_all_have_left(self) -> None:
        await self._nobody.wait()


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
