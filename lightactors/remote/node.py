"""The node: what one process knows of its links, and of the actors that others may reach over them."""

from __future__ import annotations

import itertools
import logging
import math
import secrets
import socket
import threading
import typing
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

import msgspec
from msgspec.msgpack import Decoder, Encoder

from lightactors.actors import system as systems
from lightactors.actors.owner import Owner, State
from lightactors.actors.ref import AnyRef, Ref, cell_of
from lightactors.actors.terminated import Reason
from lightactors.buffers import is_exact
from lightactors.codec import (
    LARGE,
    MALFORMED,
    AnyObjectRef,
    Arguments,
    Arrivals,
    Codec,
    MessageCodec,
    MethodCodec,
    Packed,
    Parcel,
)
from lightactors.contract import Behaviour, Contract, Method, Role, contract_of, is_actor_class, message_classes
from lightactors.errors import CannotTravel, ConfigurationError, LinkLost, UnknownHandler
from lightactors.remote import carrier, failures, frames
from lightactors.remote.foreign import Foreign, Messages
from lightactors.remote.frames import LIMIT
from lightactors.remote.hello import Hello
from lightactors.remote.link import ROOT, SMALL, Link, Listener
from lightactors.remote.outside import Outside
from lightactors.remote.parcels import LinkObjects, Sharing
from lightactors.remote.serve import ServiceOfNode
from lightactors.remote.standin import StandIn

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.keeper import Keeper
    from lightactors.actors.survey import Words
    from lightactors.actors.system import System
    from lightactors.actors.terminated import Terminated
    from lightactors.actors.tree import Tree

logger = logging.getLogger("lightactors")

_EPITAPHS = 1000
"""Actors whose end is remembered for those who ask only then."""

_ACQUAINTANCES = 10_000
"""Incarnations of other nodes whose refs are remembered when their links have ended."""

_SLACK = 1024
"""Bytes that a batch of one frame needs beside the body."""


class Carrier(Protocol):
    """What can carry a link between two nodes."""

    piece: int

    def attach(self, link: Link) -> None: ...


class Node:
    """One process among others. It belongs to a system, and works on the loop that it was made on."""

    def __init__(self, system: System) -> None:
        self.id = secrets.token_hex(8)  # of this incarnation
        self.system = system
        self.loop = system.loop
        self.abroad = _Abroad(self)
        # From a random number on: a process that was started again must not give an actor the number of another.
        self._numbers = itertools.count(secrets.randbits(52) + 1)
        self._cells: dict[int, Cell] = {}
        self._number_by_cell: dict[Cell, int] = {}
        self._epitaphs: OrderedDict[int, str] = OrderedDict()
        self._known_by_node: OrderedDict[str, set[int]] = OrderedDict()
        self._knowers: dict[int, list[set[int]]] = {}  # the sets of those above that have a number
        self._lock = threading.Lock()  # between threads: actors on any of them may send refs
        self._services: dict[Link, ServiceOfNode] = {}
        self.arrivals = Arrivals()
        self._sharing: Sharing | None = None
        self.home: frames.Home | None = None  # the program's object store, in a process of its own

    def join_store(self, home: frames.Home) -> None:
        """Use the object store of the program, whose process this is."""
        self.home = home

    @property
    def sharing(self) -> Sharing:
        """The objects of the node; from any thread."""
        return self._sharing or self._make_sharing()

    def _make_sharing(self) -> Sharing:
        with self._lock:
            sharing: Sharing = self._sharing or systems.make_sharing(self)  # somebody was faster
            self._sharing = sharing
        return sharing

    async def open(self, sock: socket.socket, listener: Listener, *, label: str, limit: int = LIMIT) -> Link:
        """Open a link over a connected stream socket, which it owns from now on.

        `limit` is how many bytes a batch may have, and with it a message; at least 8192.
        """
        if limit < 2 * SMALL:
            raise ConfigurationError(f"limit={limit!r}; give at least {2 * SMALL} bytes")
        link = self.link(listener, label, limit)
        await carrier.carry(link, sock)
        return link

    def link(
        self, listener: Listener, label: str, limit: int = LIMIT, *, piece: float = math.inf, role: Role = "admin"
    ) -> Link:
        """Make a link, for a carrier to carry; see `Link`."""
        services: list[ServiceOfNode] = []

        def serve(link: Link) -> ServiceOfNode:
            services.append(ServiceOfNode(link, self))
            return services[0]

        link = Link(label, serve, listener, limit, piece=piece, role=role)
        link.sharing = lambda: self.sharing
        self._services[link] = services[0]
        return link

    def carry(self, carrier: Carrier, listener: Listener, label: str, hello: Hello, role: Role = "admin") -> Link:
        """Open a link to another node, which has said hello; `role` is what that one may do here."""
        link = self.link(listener, label, self.outside.limit, piece=carrier.piece, role=role)
        link.limit = min(link.limit, hello.limit)
        link.role_there = hello.role
        link.knows = self._known_to(hello.node)
        carrier.attach(link)
        if self.home is not None or self._sharing is not None:
            self.sharing.greet(link)
        return link

    def _known_to(self, node: str) -> set[int]:
        """Return the numbers that another node was given; over an earlier link too, for it may have been lost."""
        known = self._known_by_node.setdefault(node, set())
        self._known_by_node.move_to_end(node)
        if len(self._known_by_node) > _ACQUAINTANCES:
            self._known_by_node.popitem(last=False)
        return known

    @cached_property
    def outside(self) -> Outside:
        """The node's connections to other nodes."""
        return Outside(self)

    def hello(self, role: Role = "admin") -> Hello:
        """Return what this node says of itself."""
        return Hello(self.id, self.system.name, version("lightactors"), self.outside.limit, role)

    def refs_of(self, link: Link) -> LinkRefs:
        """Return how values leave and arrive over a link; raise what has ended it."""
        service = self._services.get(link)
        if service is None:
            raise link.error or LinkLost(f"{link!r} has ended")
        return service.refs

    def export_root(self, link: Link, ref: object) -> None:
        """Let the other end reach an actor as what the link was opened for."""
        self._services[link].root = cell_of(ref, "export_root()")

    def forget(self, link: Link) -> None:
        self._services.pop(link, None)
        if self._sharing is not None:
            self._sharing.lost(link)

    def failure(self, body: Any, known: type[Any] | None = None) -> Exception:
        """Return the error that came as bytes, as `Listener.failed` gets it."""
        return failures.decode(body, known)

    def fail(self, link: Link, error: BaseException) -> None:
        """Say that what was handed over could not start."""
        link.failed(failures.encode(error))

    # Refs on their way

    def refs(self, link: Link | None) -> LinkRefs:
        return LinkRefs(self, link)

    def persistent_id(self, value: object, kept: list[Any] | None = None) -> object:
        """Return what stands for a ref in a pickle, as `pickle.Pickler.persistent_id` does; None for no ref.

        It names the actor's class, and is for `persistent_load` at the other end of one of this node's links. Where
        that end has the program's object store, a large array is put there too: `kept` gets what keeps it.
        """
        if isinstance(value, AnyObjectRef) or (kept is not None and _is_large(value)):
            return self.sharing.persistent_id(value, kept)
        wire = self.refs(None).leave(value)
        if wire is None:
            return None
        cell = cell_of(value, "a pickle")
        if isinstance(value, Ref):
            behaviour: Behaviour[Any, ...] = cell.behaviour  # type: ignore[attr-defined]
            return wire, (behaviour.name, behaviour.messages)
        return wire, cell.contract.actor

    def persistent_load(self, link: Link, pid: Any) -> object:
        """Return the ref that came in a pickle over the link."""
        if isinstance(pid[0], str):
            return self.sharing.persistent_load(pid)
        wire, kind = pid
        refs = self.refs_of(link)
        return refs.meet(refs.arrive(wire), Messages(*kind) if isinstance(kind, tuple) else contract_of(kind))

    # Exports

    def export(self, cell: Cell) -> int:
        """Return the number under which others reach an actor, for as long as it runs; from any thread."""
        with self._lock:
            number = self._number_by_cell.get(cell)
            if number is not None:
                return number
            number = self._number_by_cell[cell] = next(self._numbers)
            self._cells[number] = cell
        cell.when_ended_for_good(lambda terminated: self.loop.order(self._has_ended, cell, number, terminated))
        return number

    def _has_ended(self, cell: Cell, number: int, terminated: Terminated) -> None:
        if cell.state is not State.STOPPED:  # only a link was lost, and will be made again
            cell.when_ended_for_good(lambda terminated: self.loop.order(self._has_ended, cell, number, terminated))
            return
        self._epitaphs[number] = terminated.reason.name
        if len(self._epitaphs) > _EPITAPHS:
            self._epitaphs.popitem(last=False)
        with self._lock:
            self._number_by_cell.pop(cell, None)
            self._cells.pop(number, None)
        for known in self._knowers.pop(number, ()):
            known.discard(number)
        for service in self._services.values():
            service.forget(number)

    def introduce(self, number: int, known: set[int]) -> None:
        """Note that another node has been given an actor's number."""
        with self._lock:
            if number not in known:
                known.add(number)
                self._knowers.setdefault(number, []).append(known)

    def exported(self, number: int, link: Link) -> Cell | None:
        """Return the actor of a number, if the other end of the link was given its ref."""
        return self._cells.get(number) if link.knows is None or number in link.knows else None

    def root_of(self, link: Link) -> Cell | None:
        service = self._services.get(link)
        return None if service is None else service.root

    def epitaph(self, number: int) -> str:
        """Return how an actor ended that is no more."""
        return self._epitaphs.get(number, Reason.STOPPED.name)

    def start(self, function: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Start a task of the node's own; its error is logged, for nobody else hears of it."""

        async def run() -> None:
            try:
                await function()
            except Exception:
                logger.exception("the %s of %s failed", name, self.system.name)

        self.loop.start(run, name, self.system.context.copy())


def _is_large(value: Any) -> bool:
    # Only of values that are known: a class, too, may have something that is called so.
    return is_exact(value) and getattr(value, "nbytes", 0) >= LARGE


_nodes: WeakKeyDictionary[System, Node] = WeakKeyDictionary()
_nodes_lock = threading.Lock()  # a thread's actor may be the first that puts an object


def node_of(system: System) -> Node:
    """Return the system's node, made on first use."""
    node = _nodes.get(system)
    if node is None:
        with _nodes_lock:
            node = _nodes.get(system)
            if node is None:
                node = _nodes[system] = Node(system)
    return node


class _Abroad(Owner):
    """The owner of the stand-ins for refs that came: no branch of the tree, for their actors have owners elsewhere."""

    __slots__ = ("_node", "children", "keeper", "loop", "name", "system")

    def __init__(self, node: Node) -> None:
        self.name = "abroad"
        self.system = node.system
        self.loop = node.loop
        self.children = {}
        self.keeper = None

    def keep_children(self, keeper: Keeper) -> None:
        raise AssertionError(f"{keeper!r} came for actors that have owners elsewhere")

    def snapshot(self, words: Words) -> Tree:
        raise AssertionError("what stands for actors elsewhere is no branch of the tree")

    def shut_down(self) -> None:
        raise AssertionError("what stands for actors elsewhere has no end of its own")

    def child_failed(self, child: Cell, error: BaseException) -> None:
        """It is its owner's there."""

    def refusal(self) -> str | None:
        return None

    @property
    def path(self) -> str:
        return self.name


class _WireRef(msgspec.Struct, array_like=True):
    """A ref on its way."""

    is_yours: bool  # the target is an actor of the receiver
    target: int
    is_behaviour: bool
    kind: str
    path: str


_encoder = Encoder()
_decoder = Decoder(_WireRef)


class _Arrived:
    """A ref that has come, and no annotation has said yet what it is to be."""

    def __init__(self, wire: _WireRef) -> None:
        self.wire = wire

    def __getattr__(self, name: str) -> Any:
        raise UnknownHandler(f"{self!r} came where no annotation says what it is; annotate it with the actor's class")

    def __repr__(self) -> str:
        return f"<ref {self.wire.kind} {self.wire.path}, not annotated>"


class LinkRefs:
    """Refs, and with them all values, as they leave and arrive over one link (see `codec.Refs`)."""

    def __init__(self, node: Node, link: Link | None) -> None:
        self._node = node
        self.objects = LinkObjects(node, self)
        self.link = link
        self._codec = Codec(self)
        self._methods: dict[int, MethodCodec] = {}
        self._messages: dict[tuple[str, tuple[type[Any], ...]], MessageCodec] = {}

    def method(self, method: Method) -> MethodCodec:
        """Return the codec of a handler."""
        codec = self._methods.get(id(method))
        if codec is None:
            codec = self._methods[id(method)] = MethodCodec(method, self._codec)
        return codec

    def messages(self, behaviour: Behaviour[Any, ...]) -> MessageCodec:
        """Return the codec of a behaviour's messages."""
        key = behaviour.name, behaviour.messages
        codec = self._messages.get(key)
        if codec is None:
            codec = self._messages[key] = MessageCodec(behaviour.name, behaviour.messages, self._codec)
        return codec

    def takes(self, body: bytes) -> bool:
        """Tell whether an encoded message may leave by the link as it is: what it was encoded for may be another."""
        if type(body) is not Parcel or not body.needs_memory:
            return True
        return self.link is not None and self.link.is_near and self._node.sharing.has(body.contents)

    def anew(self, body: bytes) -> bytes:
        """Return an encoded message for the link as it is now; raise `CannotTravel`, and `ObjectLost`."""
        assert isinstance(body, Parcel)
        return self._codec.anew(body)

    def unpacked(self, method: Method, packed: Packed) -> Arguments:
        """Return the arguments of a call that came inside of another one. Raises `WrongCall`."""
        self.objects.reopen(packed)
        try:
            return self.method(method).decode_call(packed)
        finally:
            self.objects.close()

    def check_size(self, body: bytes, what: str) -> None:
        """Raise `CannotTravel` for what is larger than the link takes."""
        limit = LIMIT if self.link is None else self.link.limit
        if len(body) + _SLACK > limit:
            raise CannotTravel(f"{what} has {len(body)} bytes; the link takes {limit}, send it in parts")

    # Leaving

    def leave(self, value: object) -> bytes | None:
        if not isinstance(value, AnyRef):
            return None
        cell = cell_of(value, "a message")
        is_yours = isinstance(cell, StandIn) and self.link is not None and cell.link is self.link
        if is_yours and isinstance(cell, StandIn):
            target = cell.target
        elif self.link is not None and cell is self._node.root_of(self.link):
            target = ROOT  # what the other end knows as what the link was opened for
        else:
            target = self._node.export(cell)
            if self.link is not None and self.link.knows is not None:
                self._node.introduce(target, self.link.knows)
        return _encoder.encode(_WireRef(is_yours, target, isinstance(value, Ref), cell.kind, cell.path))

    # Arriving

    def arrive(self, wire: bytes) -> object:
        try:
            came = _decoder.decode(wire)
        except MALFORMED as error:
            raise ValueError(f"no ref: {error}") from None
        return self._home(came) if came.is_yours else _Arrived(came)

    def _home(self, came: _WireRef) -> object:
        assert self.link is not None
        cell = self._node.root_of(self.link) if came.target == ROOT else self._node.exported(came.target, self.link)
        if cell is None:
            raise ValueError(f"{came.kind} {came.path} is not running any more")
        return cell.ref

    def adopt(self, arrived: object, hint: Any) -> object:
        return self.meet(arrived, _kind(hint))

    def meet(self, arrived: object, kind: Contract | Behaviour[Any, ...]) -> object:
        """Return the ref that has come, now that it is known what it is to be."""
        if isinstance(arrived, AnyRef):
            return arrived
        if not isinstance(arrived, _Arrived):
            raise ValueError(f"a ref was expected, got {type(arrived).__name__}")
        if isinstance(kind, Behaviour) is not arrived.wire.is_behaviour:
            raise ValueError(f"{arrived!r} is no {kind.name}")
        return self.standin(arrived.wire.path, arrived.wire.target, kind).ref

    def standin(self, path: str, target: int, kind: Contract | Behaviour[Any, ...]) -> StandIn:
        """Return what stands here for an actor at the other end."""
        assert self.link is not None
        for standin in self.link.standins(target):
            if standin.serves(kind):
                return standin
        standin = Foreign(path, self._node.abroad, self._node)
        standin.refs = self
        standin.stands_for(kind)
        standin.attach(self.link, target)
        if self.link.redials is not None:
            self.link.redials.is_needed_by(standin)
        return standin


def _kind(hint: Any) -> Contract | Behaviour[Any, ...]:
    """Return what an annotation of a ref says of its actor."""
    if isinstance(hint, type) and is_actor_class(hint):
        return contract_of(hint)
    if hint is Ref or typing.get_origin(hint) is Ref:
        messages = [message_classes(argument) for argument in typing.get_args(hint)]
        return Messages("behaviour", messages[0] if messages else ())
    raise ValueError(f"{hint} annotates no ref")
