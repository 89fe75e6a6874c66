"""Two nodes on one loop with a link between them, and the actors that tests play with over it."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

import lightactors as la
from lightactors.actors.mailbox import Ask
from lightactors.actors.owner import Owner
from lightactors.actors.ref import cell_of
from lightactors.contract import Behaviour, contract_of
from lightactors.errors import LinkLost
from lightactors.remote import Link, Listener, Node, StandIn
from lightactors.supervision.spec import ChildOptions


@dataclass
class Log(Listener):
    """Writes down what a link tells."""

    said: list[Any] = field(default_factory=list)
    is_lost: anyio.Event = field(default_factory=anyio.Event)

    def hand_over(self, link: Link, payload: bytes) -> None:
        self.said.append(payload)

    def ready(self, link: Link) -> None:
        self.said.append("ready")

    def failed(self, link: Link, error: Any) -> None:
        self.said.append(error)

    def stop(self, link: Link, grace: float) -> None:
        self.said.append(("stop", grace))

    def goodbye(self, link: Link) -> None:
        self.said.append("goodbye")

    def lost(self, link: Link, error: LinkLost) -> None:
        self.said.append("lost")
        self.is_lost.set()


class Pair:
    """Here and there: two nodes, each with its end of one link."""

    def __init__(self, system: la.System) -> None:
        self.system = system
        self.here, self.there = Node(system), Node(system)
        self.log, self.far_log = Log(), Log()
        self.link: Link
        self.far_link: Link

    async def open(self, **options: Any) -> None:
        ours, theirs = socket.socketpair()
        self.link = await self.here.open(ours, self.log, label="there", **options)
        self.far_link = await self.there.open(theirs, self.far_log, label="here", **options)

    def stand_in(self, kind: Any, *, name: str = "far", mailbox: float = 1000, owner: Owner | None = None) -> StandIn:
        """Return a stand-in that is not attached yet."""
        owner = owner or self.system
        cell = StandIn(name, owner, self.system.loop, ChildOptions(mailbox=mailbox), self.here)
        cell.stands_for(kind if isinstance(kind, Behaviour) else contract_of(kind))
        owner.enter(cell)
        cell.begin(Ask())
        return cell

    async def reach(self, kind: Any, ref: Any, **options: Any) -> Any:
        """Return a ref here of an actor there."""
        self.there.export_root(self.far_link, ref)
        cell = self.stand_in(kind, **options)
        cell.attach(self.link)
        return cell.ref


@asynccontextmanager
async def open_pair(**options: Any) -> AsyncGenerator[Pair]:
    async with la.open_system() as system:
        pair = Pair(system)
        await pair.open(**options)
        try:
            yield pair
        finally:
            pair.link.goodbye()
            pair.far_link.goodbye()


def standin_of(ref: object) -> StandIn:
    """Return the stand-in behind a ref."""
    cell = cell_of(ref, "a test")
    assert isinstance(cell, StandIn)
    return cell
