"""A session: the time that runners spend with one store, from the moment that it is there until it is stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import anyio

import lightactors as la
from lightactors.cli.access import STORE, Access, is_store
from lightactors.cli.exits import CommandError, Exit
from lightactors.cli.running import say
from lightactors.errors import AccessDenied, ActorNotRunning, ActorStopped, ConnectFailed, LinkLost, SendError
from lightactors.training.patience import insist
from lightactors.training.runners.leftovers import give_back_what_is_certain
from lightactors.training.stores.contract import Store
from lightactors.training.strategies.meeting import MEETING, Meeting

_PAUSE = 0.5
"""Seconds between two attempts to reach a store that is not there."""

_OPENS_WITHIN = 3.0
"""Seconds that a node may be there without a store: it has just been started, or is being stopped."""

_ROLES = ("runner", "admin")
"""Whose token lets them do all that runners do."""

_GOODBYE = 2.0
"""Seconds that telling the store of the runners' end may take."""


@dataclass(frozen=True)
class Session:
    """A store, and the meeting where those who joined it hear that it is going to be stopped, if it has one."""

    name: str
    store: Store
    meeting: Meeting | None

    @classmethod
    async def begin(cls, name: str, node: la.RemoteNode) -> Session | None:
        """Return the session with the store of a node; None: there is no store yet."""
        if node.role not in _ROLES:
            raise CommandError(f"a {node.role} may not run rollouts; give a runner's --token-file", Exit.DENIED)
        actors = await node.actors()
        if not any(is_store(actor) for actor in actors):
            return None
        has_meeting = any(actor.path == MEETING and "attend" in actor.handlers for actor in actors)
        meeting = await node.connect(Meeting, MEETING) if has_meeting else None
        return cls(name, await node.connect(Store, STORE), meeting)

    async def give_back(self, workers: Sequence[str]) -> None:
        """Let the store have again what a program before this one, that is gone, had under way; it costs no attempt."""
        with suppress(SendError):  # then the runners see for themselves
            await give_back_what_is_certain(self.store)
            for worker in workers:
                await self.store.give_back(worker)

    async def until_over(self) -> None:
        """Wait until the store is stopped, or is going to be; one that is only lost may come again."""
        # What came again is another one; what it demands, who joins it will see.
        with suppress(ActorNotRunning, ActorStopped, AccessDenied):
            if self.meeting is not None:
                await insist(self.meeting.attend, self.name)
                return
            while isinstance((await la.watch(self.store)).error, LinkLost):
                await insist(self.store.statistics)

    async def leave(self, workers: Sequence[str]) -> None:
        """Tell the store that its runners are gone: one that had to be killed could not."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(_GOODBYE), suppress(SendError):
            for worker in workers:
                await self.store.give_back(worker)
                await self.store.release_worker(worker)
            if self.meeting is not None:
                await self.meeting.leave(self.name)


async def wait_for_session(name: str, access: Access) -> Session:
    """Return the session with a store, as soon as it can be joined; say what is waited for."""
    said = ""
    patience = time.monotonic() + _OPENS_WITHIN
    while True:
        try:
            session = await Session.begin(name, await access.connect())
            if session is not None:
                return session
            if time.monotonic() > patience:
                raise CommandError(f"the node at {access.address} serves no store; start one with 'lightactors store'")
        except (ConnectFailed, LinkLost, ActorNotRunning) as error:
            if f"{error}" != said:
                said = f"{error}"
                say(f"waiting for the store: {said}")
            patience = time.monotonic() + _OPENS_WITHIN
        await anyio.sleep(_PAUSE)
