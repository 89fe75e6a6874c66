"""The default root: where `spawn` puts actors outside any system, in a script or in a notebook cell."""

from __future__ import annotations

import contextvars
import logging

import anyio

from lightactors.actors import interrupts, loops, monitor
from lightactors.actors import owner as owners
from lightactors.actors.loops import Loop
from lightactors.actors.owner import Owner
from lightactors.actors.spawn import Spawner
from lightactors.actors.survey import WITHIN
from lightactors.actors.system import BLOCKED_AFTER, System
from lightactors.actors.tree import Tree
from lightactors.supervision.ladder import Ladder

logger = logging.getLogger("lightactors")

_roots: dict[Loop, DefaultRoot] = {}


class DefaultRoot(System):
    """A system that lives as long as the running loop, hosted in a task of its own.

    A notebook cell is a task too, and a scope opened in one can't be closed in another. When the loop ends,
    the actors are cancelled and run `on_stop`. A failure has no block to be raised from and is logged.
    """

    def __init__(self) -> None:
        super().__init__("local", Ladder())
        self.context = contextvars.Context()
        self.on_failure = self._log_failure
        self._host = self.loop.start(self._live, "lightactors default root", contextvars.Context())

    def _log_failure(self) -> None:
        error = self.failures.pop()
        logger.error("an actor failed, and no system was open that could raise it", exc_info=error)

    async def _live(self) -> None:
        with interrupts.passed_on_by(self), monitor.watching(self.loop, BLOCKED_AFTER):
            try:
                await anyio.sleep_forever()
            finally:
                _roots.pop(self.loop, None)
                await self.stop()
                if letters := self.statistics().dead_letters:
                    logger.warning("when the event loop ended, %s told messages had reached nobody", letters)


def default_root() -> System:
    """Return the default root of the running loop."""
    loop = loops.current()
    root = _roots.get(loop)
    if root is None:
        root = _roots[loop] = DefaultRoot()
    return root


class _HereOrRoot(Spawner):
    """Spawns below the actor or system that the code runs in, or else below the default root."""

    __slots__ = ()

    def owner(self) -> Owner:
        return owners.here() or default_root()


_spawner = _HereOrRoot()
spawn = _spawner.spawn
spawn_many = _spawner.spawn_many
options = _spawner.options
adopt = _spawner.adopt
child = _spawner.child


def system_here() -> System:
    """Return the system that the code runs in, or else the default root."""
    return _spawner.owner().system


async def survey(*, within: float = WITHIN) -> Tree:
    """Return a snapshot of the system that the code runs in, or else of the default root. See `System.survey`."""
    return await system_here().survey(within=within)
