"""The dialer: keeps a link to another node. It dials, and dials again when the link was lost."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from lightactors.actors.flag import Flag
from lightactors.actors.ref import AnyRef, cell_of
from lightactors.actors.terminated import Reason
from lightactors.contract import Behaviour, Contract, contract_of
from lightactors.errors import AccessDenied, ActorNotRunning, ConnectFailed, ContractError, LinkLost
from lightactors.remote.directory import Directory
from lightactors.remote.foreign import Foreign
from lightactors.remote.link import ROOT, Link, Listener
from lightactors.remote.standin import StandIn

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.address import Address
    from lightactors.remote.hello import Hello
    from lightactors.remote.node import Carrier, Node

    Connection = tuple[Carrier, Hello]

logger = logging.getLogger("lightactors")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 0.5
"""Seconds between two attempts; a node that is back is found within little more than the longer one."""

_COMES_BACK_WITHIN = 5.0
"""Seconds that a node which was started again has to start the actors that others know there by name."""


class Dialer(Listener):
    """The link to one address, over its losses. On its node's loop."""

    def __init__(self, node: Node, address: Address, open: Callable[[], Awaitable[Connection]]) -> None:
        self.address = address
        self.link: Link | None = None
        self.hello: Hello
        self.node = node
        self._open = open
        self._stranded: weakref.WeakSet[Foreign] = weakref.WeakSet()
        self._directory: Any
        self._incarnation = ""
        self.is_closed = False
        self.holders = 0  # whoever has been given it, and has not let it go
        self._redialling = anyio.CancelScope()
        self._is_back = Flag()

    # Reaching

    async def dial(self) -> None:
        """Make the first link. Raises `ConnectFailed` and `AccessDenied`."""
        await self._dial()
        self._incarnation = self.hello.node

    async def _dial(self) -> None:
        carrier, self.hello = await self._open()
        link = self.node.carry(carrier, self, str(self.address), self.hello)
        self._directory = self.node.refs_of(link).standin(str(self.address), ROOT, contract_of(Directory)).ref
        link.redials = self  # from now on: the directory itself is no reason to keep the link
        self.link = link
        self._is_back.set()
        if self.is_closed:  # meanwhile
            self.close()

    async def directory(self) -> Directory:
        """Return the other node's directory; wait for the link if it was lost."""
        await self._is_back.wait()
        if self.is_closed:
            raise ConnectFailed(f"the connection to {self.address} is closed; connect again")
        directory: Directory = self._directory
        return directory

    async def connect(self, kind: Contract | Behaviour[Any, ...], path: str) -> AnyRef:
        """Return the ref of an actor there. Raises `ActorNotRunning`, `ContractError` and what the link raises."""
        cell = await self._find(kind, path)
        if isinstance(cell, Foreign):
            cell.sought = path
        return cell.ref

    async def _find(self, kind: Contract | Behaviour[Any, ...], path: str) -> Cell:
        directory = await self.directory()
        handlers: list[str] = [] if isinstance(kind, Behaviour) else list(kind.methods)
        arrived = await directory.find(path, handlers)  # pyright: ignore[reportGeneralTypeIssues] (it takes `find` for a stream)
        if self.link is None:
            raise LinkLost(f"the link to {self.address} ended")
        try:
            return cell_of(self.node.refs_of(self.link).meet(arrived, kind), "connect()")
        except ValueError as error:
            raise ContractError(f"{self.address.at(path)}: {error}") from None

    # The link's losses

    def strand(self, standin: StandIn) -> None:
        assert isinstance(standin, Foreign)
        if self.is_closed:
            standin.end_with(Reason.FAILED, LinkLost(f"the link to {self.address} was closed"))
        else:
            self._stranded.add(standin)

    def lost(self, link: Link, error: LinkLost) -> None:
        self.node.forget(link)
        if link is not self.link:
            return
        self.link = None
        self._is_back = Flag()
        if self.is_closed:
            self._is_back.set()
        else:
            self._redialling = anyio.CancelScope()
            self.node.start(partial(self._redial, error), f"redial of {self.address}")

    async def _redial(self, lost: LinkLost) -> None:
        pause = _FIRST_PAUSE
        with self._redialling:
            await anyio.lowlevel.checkpoint()  # a loop that ends has lost its links, and does not go on from here
            logger.warning("%s; dialling again", lost)
            while self.link is None:
                try:
                    await self._dial()
                except AccessDenied as error:
                    self._give_up(error)
                    return
                except Exception as error:  # a certificate is being replaced, say
                    logger.log(logging.DEBUG if isinstance(error, ConnectFailed) else logging.WARNING, "%s", error)
                    await anyio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
            logger.info("linked to %s again", self.address)
            self._restore()

    def _give_up(self, error: Exception) -> None:
        logger.error("%s; not dialling again", error)
        self.is_closed = True
        self._is_back.set()
        for standin in list(self._stranded):
            standin.end_with(Reason.FAILED, error)

    def _restore(self) -> None:
        """Give the stand-ins the new link: to the same actors, or to those that have their names now."""
        stranded = list(self._stranded)
        self._stranded.clear()
        is_same = self.hello.node == self._incarnation
        self._incarnation = self.hello.node
        for standin in stranded:
            if self.link is None:
                self._stranded.add(standin)  # lost again
            elif is_same or standin.target == ROOT:
                standin.attach(self.link, standin.target)
            elif standin.sought is None:
                standin.end_with(Reason.FAILED, LinkLost(f"{self.address} was started again, without {standin.path}"))
            else:
                self.node.start(partial(self._seek, standin, standin.sought), f"search for {standin.path}")

    async def _seek(self, standin: Foreign, path: str) -> None:
        """Attach a stand-in to the actor of that name, which may be on its way; only time with a link counts."""
        error: Exception = ActorNotRunning(f"{self.address} was started again, without {path!r}")
        patience = _COMES_BACK_WITHIN
        while patience > 0:
            try:
                found = await self._find(standin.stood_for, path)
            except ActorNotRunning:
                patience -= _FIRST_PAUSE
                await anyio.sleep(_FIRST_PAUSE)
            except LinkLost:
                await anyio.sleep(_FIRST_PAUSE)
            except Exception as wrong:
                error = wrong
                break
            else:
                assert isinstance(found, StandIn)
                if found.link is not None:
                    standin.attach(found.link, found.target)
                    return
        standin.end_with(Reason.FAILED, error)

    # The end

    def is_needed_by(self, standin: StandIn) -> None:
        # Without `atexit`: when the program ends, its systems have closed what they held.
        self.holders += 1
        weakref.finalize(standin, self.node.loop.post, self.let_go).atexit = False

    def let_go(self) -> None:
        """Close, unless somebody else was given it too."""
        self.holders -= 1
        if self.holders <= 0:
            self.close()

    def close(self) -> None:
        """Say goodbye, and dial no more."""
        self.is_closed = True
        self._redialling.cancel()
        self._is_back.set()
        if self.link is not None:
            self.link.redials = None
            self.link.goodbye()
        for standin in list(self._stranded):
            self.strand(standin)
