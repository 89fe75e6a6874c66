"""The directory: what a node tells of its actors, and does for who comes over a link. Each link has one of its own."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lightactors.actors.ref import AnyRef, cell_of
from lightactors.actors.stopping import stop_all
from lightactors.codec import Packed
from lightactors.contract import ROLES, Behaviour, actor, contract_of, handler, is_actor_class, maker
from lightactors.errors import ActorNotRunning, ConfigurationError, ContractError, SpawnError
from lightactors.remote import surveys

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.system import System
    from lightactors.remote.link import Link
    from lightactors.remote.node import Node


logger = logging.getLogger("lightactors")


@dataclass(frozen=True)
class ActorInfo:
    """An actor of another node: the path to connect to it by, what it is, and what it can be asked."""

    path: str
    kind: str
    state: str
    handlers: tuple[str, ...]  # none: it is a behaviour, which takes messages


@actor
class Directory:
    """What the other end of a link reaches first."""

    def __init__(self, node: Node, link: Link, spawnable: Mapping[str, Any]) -> None:
        self._node = node
        self._link = link
        self._spawnable = spawnable
        self._spawned: set[Cell] = set()

    @handler(idempotent=True, roles=ROLES)
    def find(self, path: str, handlers: Sequence[str]) -> Any:
        """Return the ref of an actor, which must have these handlers; None: any will do.

        Raises `ActorNotRunning`, and `ContractError` where handlers are missing.
        """
        cell = _find(self._node.system, path)
        known = [] if hasattr(cell, "behaviour") else list(cell.contract.methods)
        missing = [name for name in handlers if name not in known]
        if missing:
            raise ContractError(
                f"{cell.kind} {path!r} of {self._node.system.name} has no {', '.join(missing)}; "
                "is its class another version than yours, or another class?"
            )
        return cell.ref

    @handler(idempotent=True, roles=ROLES)
    def actors(self) -> list[ActorInfo]:
        """List the actors, an owner before its children."""
        return _listed(self._node.system, "")

    @handler(idempotent=True, interleaved=True, roles=ROLES)
    async def survey(self, within: float) -> bytes:
        """Return a snapshot of the whole system, as `remote.surveys` writes it."""
        return surveys.encode(await self._node.system.survey(within=within))

    @handler(idempotent=True, interleaved=True, roles=ROLES)
    async def objects(self) -> bytes | None:
        """Return what is in the object store, as JSON; None: there is none."""
        return await self._node.sharing.figures()

    @handler(interleaved=True)
    async def spawn(self, kind: str, call: Packed, name: str | None, mailbox: float) -> Any:
        """Start an actor of a kind that this node lets others start; it ends with the link. Raises `SpawnError`."""
        if kind not in self._spawnable:
            allowed = ", ".join(self._spawnable) or "nothing"
            raise SpawnError(
                f"{self._node.system.name} lets others spawn {allowed}, and not {kind}; "
                "pass it to its open_system(spawnable=[...])"
            )
        refs = self._node.refs_of(self._link)
        args, kwargs = refs.unpacked(maker(self._spawnable[kind]), call)
        options = self._node.system.options(name=name, mailbox=mailbox)
        ref = await options.spawn(self._spawnable[kind], *args, **kwargs)
        cell = cell_of(ref, "spawn")
        cell.hears_failure = self._note_failure  # it is its spawner's, over the link, and must not end this system
        self._spawned.add(cell)
        cell.when_ended(lambda _: self._spawned.discard(cell))
        return ref

    def _note_failure(self, cell: Cell, error: BaseException) -> None:
        logger.warning("%s, which %s had started, failed: %r", cell.path, self._link.label, error)

    @handler(roles={"admin"})
    def stop(self) -> None:
        """Have the system leave its block, as if it had come to its end."""
        self._node.loop.post(self._node.system.leave)

    def has_spawned(self, cell: Cell) -> bool:
        """Tell whether the other end has started this actor, and so may stop it."""
        return cell in self._spawned

    def lost(self) -> None:
        """The link has ended: so do the actors that were started over it."""
        if self._spawned:
            self._node.start(partial(_stop, list(self._spawned)), f"end of what {self._link.label} had started")


async def _stop(cells: list[Cell]) -> None:
    await stop_all(cells)


def spawnable_by_name(kinds: Sequence[Any]) -> dict[str, Any]:
    """Return the classes and behaviours that others may spawn; raise `ConfigurationError` for what is neither."""
    by_name: dict[str, Any] = {}
    for kind in kinds:
        if not isinstance(kind, Behaviour) and not (isinstance(kind, type) and is_actor_class(kind)):
            raise ConfigurationError(f"spawnable={kind!r}: only what is decorated with @actor can be spawned")
        name = kind_name(kind)
        if name in by_name:
            raise ConfigurationError(f"spawnable has two of the name {name!r}; rename one, for others spawn by name")
        by_name[name] = kind
    return by_name


def kind_name(kind: Any) -> str:
    """Return the name under which a class or behaviour is spawned from elsewhere."""
    return str(kind.name if isinstance(kind, Behaviour) else contract_of(kind).name)


def _find(system: System, path: str) -> Cell:
    found: Any = system
    for name in path.split("/"):
        child = found.children.get(name)
        if child is None:
            raise ActorNotRunning(f"there is no actor {path!r} in system {system.name}; {_suggestion(system, path)}")
        found = child
    return found  # type: ignore[no-any-return]


def _suggestion(system: System, path: str) -> str:
    paths = [info.path for info in _listed(system, "")]
    near = difflib.get_close_matches(path, paths, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"it has {', '.join(map(repr, paths[:5]))}" if paths else "it has none yet"


def _listed(owner: Any, prefix: str) -> list[ActorInfo]:
    infos: list[ActorInfo] = []
    for name, cell in list(owner.children.items()):
        handlers = () if isinstance(cell.ref, AnyRef) and hasattr(cell, "behaviour") else tuple(cell.contract.methods)
        infos.append(ActorInfo(prefix + name, cell.kind, cell.state.name.lower(), handlers))
        infos += _listed(cell, f"{prefix}{name}/")
    return infos
