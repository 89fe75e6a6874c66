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
    """Who has come over the network and not left yet."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._nobody = Flag()
        self._nobody.set()

    def come(self, name: str) -> None:
        if name not in self._names:
            logger.info("runner %s has joined", name)
        if not self._names:
            self._nobody = Flag()
        self._names.add(name)

    def leave(self, name: str) -> None:
        if name in self._names:
            logger.info("runner %s has left", name)
        self._names.discard(name)
        if not self._names:
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
        self._attendance.come(name)
        try:
            await self._event
        except BaseException:
            self._attendance.leave(name)
            raise

    @handler(idempotent=True, roles=("runner",))
    def leave(self, name: str) -> None:
        """Leave: what was under way is reported."""
        self._attendance.leave(name)
