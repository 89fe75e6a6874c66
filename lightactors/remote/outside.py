"""What lies outside a node: the port that others come over, and the nodes that it dials."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio

from lightactors.actors.mailbox import Ask
from lightactors.actors.starting import make_cell
from lightactors.errors import ConnectFailed
from lightactors.remote.dialer import Dialer
from lightactors.remote.directory import Directory
from lightactors.remote.link import Link, Listener
from lightactors.supervision.spec import ChildSpec

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.address import Address
    from lightactors.contract import Role
    from lightactors.errors import LinkLost
    from lightactors.remote.grpc.io import Io
    from lightactors.remote.grpc.server import Server
    from lightactors.remote.hello import Hello
    from lightactors.remote.node import Carrier, Node
    from lightactors.security import Tls, Tokens

logger = logging.getLogger("lightactors")

MESSAGE = 64 * 2**20
"""Bytes that a message from another node may have, unless `open_system` says otherwise."""

_COMES_BACK_WITHIN = 5.0
"""Seconds that a node whose link was lost has to come back, before who connects to it is told that it is not there."""

_CLOSES_WITHIN = 5.0
"""Seconds that the connections of a system that has stopped may take to close."""


class Outside(Listener):
    """One node's connections. Everything here runs on its loop."""

    def __init__(self, node: Node) -> None:
        self.limit = MESSAGE
        self.server: Server | None = None
        self._node = node
        self._spawnable: Mapping[str, Any] = {}
        self._dialers: dict[Any, Dialer] = {}
        self.guests: dict[Link, Cell] = {}  # the links that others have opened, and the directories they reach
        node.system.at_end.append(self._close)

    @cached_property
    def io(self) -> Io:
        # Imported late: only who talks to other nodes needs gRPC.
        from lightactors.remote.grpc.io import io_for

        return io_for(self._node.loop)

    # Listening

    async def listen(
        self, addresses: Sequence[Address], tls: Tls | None, tokens: Tokens | None, spawnable: Mapping[str, Any]
    ) -> list[Address]:
        """Open the port; return the addresses that it has really got. Raises `ConfigurationError`."""
        from lightactors.remote.grpc.server import Server  # imported late, as above

        self._spawnable = spawnable
        server = Server(self.io, self._node.hello, self._accept, tokens)
        await server.open(addresses, tls)
        self.server = server
        return server.addresses

    def _accept(self, carrier: Carrier, hello: Hello, whence: str, role: Role) -> None:
        label = f"{hello.system} at {whence}"
        link = self._node.carry(carrier, self, label, hello, role)
        if (refusal := self._node.system.refusal()) is not None:
            link.lose(refusal)
            return
        spec = ChildSpec(Directory, (self._node, link, self._spawnable))
        cell = self.guests[link] = make_cell(self._node.abroad, "directory", spec, self._node.loop)
        cell.begin(Ask(self._node.loop, self._node.loop))
        self._node.export_root(link, cell.ref)
        logger.info("%s has come as %s", label, role)

    def has_started(self, link: Link, cell: Cell) -> bool:
        """Tell whether the other end of a link has started an actor, and so may stop it."""
        guest = self.guests.get(link)
        return guest is not None and guest.actor.has_spawned(cell)

    def lost(self, link: Link, error: LinkLost) -> None:
        self._node.forget(link)
        directory = self.guests.pop(link, None)
        if directory is not None:
            directory.actor.lost()
            directory.close()
            logger.info("%s", error)

    # Dialling

    async def dialer(self, address: Address, tls: Tls | None, token: str | None) -> Dialer:
        """Return the dialer of an address, whose link is there. Raises `ConnectFailed` and `AccessDenied`."""
        from lightactors.remote.grpc.channel import Channel  # imported late, as above

        key = address.node, tls, token
        dialer = self._dialer_of(key)
        if dialer is None:
            channel = Channel(self.io, address.node, tls, token)
            dialer = Dialer(self._node, address.node, lambda: channel.open(self._node.hello()))
            await dialer.dial()
            if (other := self._dialer_of(key)) is not None:  # somebody was faster
                dialer.close()
                dialer = other
            self._dialers[key] = dialer
        dialer.holders += 1
        try:
            await _see_it_linked(dialer)
        except BaseException:
            dialer.let_go()
            raise
        return dialer

    def _dialer_of(self, key: Any) -> Dialer | None:
        self._dialers = {key: dialer for key, dialer in self._dialers.items() if not dialer.is_closed}
        return self._dialers.get(key)

    # The end

    async def _close(self) -> None:
        """Say goodbye to everybody, after the last replies."""
        for dialer in self._dialers.values():
            dialer.close()
        for link in list(self.guests):
            link.goodbye()
        with anyio.move_on_after(_CLOSES_WITHIN) as scope:
            if self.server is not None:
                await self.server.close()
            if "io" in self.__dict__:
                await self.io.close()
        if scope.cancelled_caught:
            logger.warning("the connections of %s did not close within %s s", self._node.system.name, _CLOSES_WITHIN)


async def _see_it_linked(dialer: Dialer) -> None:
    """Wait for a link that was lost, but not for long."""
    if dialer.link is None:
        with anyio.move_on_after(_COMES_BACK_WITHIN):
            await dialer.directory()
            return
        raise ConnectFailed(f"{dialer.address} does not answer at the moment; is it running?")
