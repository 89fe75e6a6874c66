"""Reaching other nodes: `connect` gives the ref of an actor there, or the node itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from lightactors.actors.elsewhere import run_on
from lightactors.actors.root import system_here
from lightactors.actors.survey import WITHIN
from lightactors.actors.system import Doors, System
from lightactors.actors.tree import Tree
from lightactors.address import Address
from lightactors.contract import Behaviour, contract_of
from lightactors.errors import ConfigurationError, check_whole
from lightactors.remote import surveys
from lightactors.remote.directory import ActorInfo, spawnable_by_name
from lightactors.remote.lodger import begin_at
from lightactors.remote.node import node_of
from lightactors.security import Tls, check_connect, check_listen, read_token

if TYPE_CHECKING:
    from lightactors.actors.owner import Owner
    from lightactors.actors.ref import Ref
    from lightactors.actors.starting import Starting
    from lightactors.remote.dialer import Dialer
    from lightactors.supervision.spec import ChildSpec

C = TypeVar("C")
M = TypeVar("M")


class RemoteNode:
    """Another node, as `connect` has reached it. Its actors are reached, listed and, if it allows, started."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._is_closed = False

    @property
    def address(self) -> str:
        return str(self._dialer.address)

    @property
    def name(self) -> str:
        """The name of the system there."""
        return self._dialer.hello.system

    @property
    def role(self) -> str:
        """What this program may do there."""
        return self._dialer.hello.role

    @overload
    async def connect(self, kind: Behaviour[M, ...], path: str) -> Ref[M]: ...
    @overload
    async def connect(self, kind: Callable[..., C], path: str) -> C: ...
    async def connect(self, kind: Any, path: str) -> Any:
        """Return the ref of an actor there, by its path from the root of its system (see `connect`)."""
        described = kind if isinstance(kind, Behaviour) else contract_of(kind)
        dialer, system = self._dialer, self._dialer.node.system
        return await run_on(system.loop, lambda: dialer.connect(described, path), system.context)

    async def begin(self, owner: Owner, name: str, spec: ChildSpec) -> Starting:
        """Begin an actor there: what `options(place=node).spawn(...)` calls."""
        return await begin_at(self._dialer, owner, name, spec)

    async def actors(self) -> list[ActorInfo]:
        """List the actors there, an owner before its children."""
        return await (await self._dialer.directory()).actors()

    async def survey(self, *, within: float = WITHIN) -> Tree:
        """Return a snapshot of the system there, as `System.survey` does."""
        return surveys.decode(await (await self._dialer.directory()).survey(within), known=None)

    async def objects(self) -> bytes | None:
        """Return what is in the object store there, as JSON that `objects.Figures.read` reads; None: there is none."""
        return await (await self._dialer.directory()).objects()

    async def stop(self) -> None:
        """Stop the system there, whose block is left as if it had come to its end. Needs the role admin."""
        await (await self._dialer.directory()).stop()

    async def close(self) -> None:
        """Let the connection go; it ends when nobody has a ref any more that came over it."""
        if not self._is_closed:
            self._is_closed = True
            self._dialer.node.loop.order(self._dialer.let_go)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = (
            "closed"
            if self._is_closed or self._dialer.is_closed
            else "linked"
            if self._dialer.link is not None
            else "dialling"
        )
        return f"<node {self.name} at {self.address} {state}>"


@overload
async def connect(kind: str, /, *, token: str | Path | None = None, tls: Tls | None = None) -> RemoteNode: ...
@overload
async def connect(
    kind: Behaviour[M, ...], address: str, /, *, token: str | Path | None = None, tls: Tls | None = None
) -> Ref[M]: ...
@overload
async def connect(
    kind: Callable[..., C], address: str, /, *, token: str | Path | None = None, tls: Tls | None = None
) -> C: ...
async def connect(
    kind: Any, address: str | None = None, /, *, token: str | Path | None = None, tls: Tls | None = None
) -> Any:
    """Return the ref of an actor of another node: `await connect(Counter, "grpc://host:4747/counter")`.

    The path is the actor's name there, behind those of its owners: `/team/first`; at a socket file it stands behind
    a `#`: `unix:/run/me.sock#counter`. With an address alone, return the other node.

    The ref outlives the link: when that is lost it is made again, messages wait meanwhile, asks of idempotent
    handlers are sent again, and other unanswered asks raise `LinkLost`. An actor that was started again there
    with its node is found by its name.

    - `token`: what the node wants to hear; a `Path` is a file that has it. Default: the file that
      `LIGHTACTORS_TOKEN_FILE` names.
    - `tls`: whom to believe at a `grpcs` address (default: the system's authorities), and what to show.

    Raises `ConnectFailed`, `AccessDenied`, `ActorNotRunning`, `ConfigurationError`, and `ContractError` if the actor
    lacks a handler of yours.
    """
    if address is None:
        if not isinstance(kind, str):
            raise ConfigurationError(f"connect({kind!r}) lacks the address; say connect({_named(kind)}, 'grpc://...')")
        return RemoteNode(await _dialer(_parsed(kind, with_path=False), token, tls))
    where = _parsed(address, with_path=True)
    async with RemoteNode(await _dialer(where, token, tls)) as node:  # from then on the ref keeps the link
        return await node.connect(kind, where.path)


def _named(kind: Any) -> str:
    return str(getattr(kind, "__name__", None) or getattr(kind, "name", "Counter"))


def _parsed(text: str, *, with_path: bool) -> Address:
    address = Address.parse(text)
    if with_path and not address.path:
        raise ConfigurationError(f"{text} names no actor; say which one, as in {address.at('counter')}")
    if not with_path and address.path:
        raise ConfigurationError(f"{text} names an actor; say which class it is of: connect(Counter, {text!r})")
    return address


async def _dialer(address: Address, token: str | Path | None, tls: Tls | None) -> Dialer:
    secret = read_token(token)
    check_connect(address, tls, secret)
    system = system_here()
    return await run_on(system.loop, lambda: node_of(system).outside.dialer(address, tls, secret), system.context)


async def open_doors(system: System, doors: Doors) -> None:
    """Have a system listen (see `open_system`)."""
    texts = [doors.listen] if isinstance(doors.listen, str) else list(doors.listen)
    addresses = [_parsed(text, with_path=False) for text in texts]
    for address in addresses:
        check_listen(address, doors.tls, doors.tokens, doors.insecure)
    outside = node_of(system).outside
    if doors.max_message is not None:
        outside.limit = check_whole("max_message", doors.max_message)
    bound = await outside.listen(addresses, doors.tls, doors.tokens, spawnable_by_name(doors.spawnable))
    system.addresses = [str(address) for address in bound]
