"""A node's objects as its links meet them: what is large in a message lies in the store, and only its id travels.

A link's sender opens an inbox in its store, says so to the receiver, and deposits what goes with a frame when that
leaves; the receiver takes it when the frame comes. So what is under way outlives its sender. Whether the other end
reads the same memory is known of own processes; others are offered the store once, and prove that they reach it.
What can't be shared is lent: the link's end here holds it until the other end lets it go. It goes by another id
there, which nobody can guess who was not given it: so nobody has us read objects that were not sent to us.
"""

from __future__ import annotations

import ctypes
import logging
import re
import secrets
import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lightactors.actors.mailbox import Ask
from lightactors.actors.starting import make_cell
from lightactors.buffers import NEEDS_WRITABLE, Leaf, is_exact, leaf_of, value_of
from lightactors.codec import LARGE
from lightactors.errors import LinkError, ObjectError, ObjectLost
from lightactors.objects.client import Client, Held
from lightactors.objects.contents import Content, Unwritten
from lightactors.objects.copying import address_of
from lightactors.objects.courier import Courier
from lightactors.objects.founder import PREFIX
from lightactors.objects.lent import ELSEWHERE, Lent
from lightactors.objects.line import SYNC, Slow
from lightactors.objects.pulling import Pulling
from lightactors.objects.records import Id, Op, Status, text_of
from lightactors.objects.ref import ObjectRef
from lightactors.objects.shelf import Shelf
from lightactors.objects.store import ObjectStore
from lightactors.objects.values import parts_of_leaf
from lightactors.objects.views import view_of, window_under
from lightactors.remote import frames
from lightactors.supervision.spec import ChildSpec

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.codec import AnyObjectRef
    from lightactors.remote.link import Link
    from lightactors.remote.node import Node

logger = logging.getLogger("lightactors")

_NAME = re.compile(rf"{PREFIX}\d{{1,10}}-[0-9a-f]{{16}}")

_AT_ONCE = 1000
"""Objects that are deposited with one packet."""

_STARTS_WITHIN = 10.0
"""Seconds that a process waits at most for an object that it is spawned with."""


class Sharing:
    """The objects of one node: see `remote.parcels.Sharing`."""

    def __init__(self, node: Node) -> None:
        self.store = ObjectStore(node.system)
        self.pulling = Pulling(node, self.store)
        self._node = node
        if node.home is not None:
            node.system.spread = self.spread
            self.store.join(node.home.store, node.home.name)
        self._couriers: WeakKeyDictionary[Link, Courier] = WeakKeyDictionary()
        # What came with the frame that is being handled: what holds it, or a window of it.
        self._here: dict[Id, Held | Lent | ctypes.Array[ctypes.c_ubyte]] = {}
        self._secret = secrets.token_bytes(16)

    def _courier(self, link: Link) -> Courier:
        return self._couriers.setdefault(link, Courier())

    # Leaving

    def place(self, leaf: Leaf, link: Link | None) -> tuple[Content, Any] | None:
        """Return what goes with a message for bytes, and what stands for them; None: they go in the message."""
        if link is not None and not link.is_near:
            if not self._courier(link).is_offered:
                self._node.loop.order(self._offer, link)
            return None
        placed = self._forwarded(leaf)
        if placed is not None:
            return placed
        parts = parts_of_leaf(leaf)
        try:
            client, lease = self.store.home, self.store.lease_now(parts.size)
        except (ObjectError, OSError) as error:
            logger.warning("a large value travels in its message: %s", error)
            return None
        if lease is None:
            return None
        content = Unwritten(client, lease, parts)
        return content, (*content.id, parts.offsets[0], leaf.nbytes)

    def _forwarded(self, leaf: Leaf) -> tuple[Content, Any] | None:
        """Return the same for bytes that are part of an object already: they are not copied."""
        window = None if leaf.buffer is None else window_under(leaf.buffer)
        if window is None or not self.store.is_home(window.client) or not window.client.is_alive():
            return None
        offset = address_of(leaf.buffer) - ctypes.addressof(window)
        return Content(window.object, window, window.client), (*window.object, offset, leaf.nbytes)

    def refer(self, ref: AnyObjectRef) -> tuple[Content, Any]:
        assert isinstance(ref, ObjectRef)
        held = ref.held
        return Content(ref.id, held, held.client if isinstance(held, Held) else None, ref.size), (*ref.id, ref.size)

    def has(self, contents: Sequence[Content]) -> bool:
        clients = {content.client for content in contents if content.client is not None}
        return all(client.is_alive() for client in clients)

    def ship(self, link: Link, contents: Sequence[Content]) -> tuple[list[Id], list[tuple[int, int, int, int]]]:
        courier = self._with_inbox(link) if link.is_near else None
        if courier is None or courier.client is None:
            return [], [self._lend(link, content) for content in contents]
        client = courier.client
        shared = [content.id for content in contents if content.client is client]
        for at in range(0, len(shared), _AT_ONCE):
            client.deposit(shared[at : at + _AT_ONCE], courier.inbox)
        return shared, [self._lend(link, content) for content in contents if content.client is not client]

    def _lend(self, link: Link, content: Content) -> tuple[int, int, int, int]:
        courier = self._courier(link)
        if not courier.is_offered and content.client is not None and self.store.is_home(content.client):
            self._offer(link)
        alias = self._alias(link, courier, content)
        courier.lent[alias] = content
        courier.lent_times[alias] += 1
        return *content.id, *alias

    def _alias(self, link: Link, courier: Courier, content: Content) -> Id:
        """Return the id that an object has at the other end of a link."""
        kept = content.kept
        origin = (kept.link, kept.lent_as) if isinstance(kept, Lent) else getattr(kept, "origin", None)
        if origin is not None and origin[0] is link:
            return origin[1]  # by which it is known there
        is_known_as_here = courier.is_own and content.id[0] & ELSEWHERE
        return content.id if is_known_as_here else _disguised(content.id, self._secret)

    def _with_inbox(self, link: Link) -> Courier | None:
        """Return what is known of a link, whose other end has an inbox in the store as it is now; None: there is none.

        Before it is used, the other end is to prove that it has found it.
        """
        courier = self._courier(link)
        try:
            client = self.store.home
            if courier.client is not client:
                self._open_inbox(link, courier, client)
        except (ObjectError, OSError) as error:
            logger.warning("%s has no object store at the moment: %s", self._node.system.name, error)
            return None
        return courier

    def _open_inbox(self, link: Link, courier: Courier, client: Client) -> None:
        # Nobody else can guess the inbox: whoever names one has it joined, and closed.
        inbox, proof = (client.number, secrets.randbits(63)), (secrets.randbits(63), secrets.randbits(63))
        client.tell(Op.OPEN, *inbox, *proof)
        courier.client, courier.inbox, courier.proof = client, inbox, proof
        link.send(frames.Inbox(client.name, inbox))

    def _offer(self, link: Link) -> None:
        courier = self._courier(link)
        if not courier.is_offered and link.error is None:
            courier.is_offered = True
            self._with_inbox(link)

    def let_go(self, link: Link, frame: frames.LetGo) -> None:
        courier = self._courier(link)
        for first, second, times in frame.objects:
            id = first, second
            if id not in courier.lent:
                raise LinkError(f"object {text_of(id)} was given back, and is not lent")
            courier.lent_times[id] -= times
            if courier.lent_times[id] <= 0:
                del courier.lent_times[id]
                courier.lent.pop(id, None)

    # Arriving

    def came(self, link: Link, frame: frames.Laden) -> None:
        self._node.arrivals.are_here = True
        courier = self._courier(link)
        for id in frame.objects:
            held = courier.taken(id)
            if held is not None:
                self._here[id] = held
        for first, second, *alias in frame.lent:
            self._here[first, second] = self._borrowed(link, courier, (alias[0], alias[1]))

    def _borrowed(self, link: Link, courier: Courier, id: Id) -> Held | Lent:
        if not id[0] & ELSEWHERE:
            raise LinkError(f"an object was lent by the id {text_of(id)}, which none has elsewhere")
        ours = courier.lent.get(id)
        if ours is not None and isinstance(ours.kept, Held):  # it comes home
            self._give_back(link, id)
            return ours.kept
        # Filed by who lends it: another one, who was lent it too, can't bring its own bytes under the same id.
        return Lent(link, id if courier.is_own else _disguised(id, courier.key), id, self._give_back)

    def reopen(self, contents: Sequence[Content]) -> None:
        if contents:
            self._node.arrivals.are_here = True
            self._here.update({content.id: content.kept for content in contents})

    def kept(self) -> Sequence[Content]:
        return [Content(id, held, None) for id, held in self._here.items()]

    def unpacked(self) -> None:
        self._here.clear()
        self._node.arrivals.are_here = False

    def view(self, wire: Any, *, is_writable: bool) -> memoryview:
        """Return bytes that came; raise ValueError where they did not, and `ObjectLost`."""
        first, second, offset, size = _whole_numbers(wire, 4)
        held = self._here.get((first, second))
        if held is None or isinstance(held, Lent):
            raise ValueError("it speaks of bytes that did not come with it")
        view = self.store.view_now(held) if isinstance(held, Held) else view_of(held)
        if offset + size > view.nbytes:
            raise ValueError(f"bytes {offset} to {offset + size} of an object that has {view.nbytes}")
        if is_writable:
            assert isinstance(held, Held)
            view = held.client.private(view)
        return view[offset : offset + size]

    def ref(self, wire: Any) -> ObjectRef[Any]:
        first, second, size = _whole_numbers(wire, 3)
        held = self._here.get((first, second))
        if not isinstance(held, (Held, Lent)) or not size:
            raise ValueError("it speaks of an object that did not come with it")
        return ObjectRef(held, held.id, size)

    def _give_back(self, link: Link, id: Id) -> None:
        """Tell the lender that an object is not needed here any more; from any thread."""
        if link.error is None:
            self._node.loop.order(link.send, frames.LetGo([(*id, 1)]))

    # What the links say

    def greet(self, link: Link) -> None:
        if self.store.is_founded:
            self._offer(link)

    def spread(self, value: Any) -> Any:
        """Return an array, or a dict of arrays, as views of shared memory: put once, it is sent to any number."""
        if type(value) is dict:
            return {key: self.spread(item) for key, item in value.items()}
        leaf = leaf_of(value) if getattr(value, "nbytes", 0) >= LARGE and is_exact(value) else None
        if leaf is None or leaf.kind in NEEDS_WRITABLE or self._forwarded(leaf) is not None:
            return value
        placed = self.place(leaf, None)
        if placed is None:
            return value
        content, (_, _, offset, size) = placed
        content.settle()
        return value_of(leaf.kind, leaf.facts, self.store.view_now(content.kept)[offset : offset + size], trusted=True)

    def welcome(self, link: Link) -> None:
        self._node.system.spread = self.spread
        link.is_near = self._courier(link).is_own = True
        link.send(frames.Home(self.store.name, link.label))

    def found_inbox(self, link: Link, frame: frames.Inbox) -> None:
        if not _NAME.fullmatch(frame.store):
            raise LinkError("it named what is no object store")
        courier = self._courier(link)
        courier.is_own = courier.is_own or link.on_home is not None
        if courier.client_there is not None:
            courier.client_there.tell(Op.CLOSE, *courier.inbox_there)
        try:
            courier.client_there, proof = self._joined(frame)
            courier.inbox_there = frame.inbox
        except (LinkError, ObjectError, OSError, Slow) as error:
            logger.debug("objects of %r can't be read in place: %r", link, error)
            courier.client_there, proof = None, None
        link.send(frames.Reached(proof))

    def _joined(self, frame: frames.Inbox) -> tuple[Client, Id]:
        """Return the line to a store where an inbox is ours now, and what proves that. Raises `ObjectError`."""
        client = self.store.client(frame.store)
        try:
            answer = client.ask(Op.JOIN, *frame.inbox, patience=SYNC)
        except ObjectLost:  # its owner was killed, and nobody here has noticed: there is another one
            client = self.store.client(frame.store)
            answer = client.ask(Op.JOIN, *frame.inbox, patience=SYNC)
        if answer.status is not Status.DONE:
            raise ObjectError("there is no such inbox")
        return client, (answer.a, answer.b)

    def was_reached(self, link: Link, frame: frames.Reached) -> None:
        courier = self._courier(link)
        if frame.proof is None:
            link.is_near = False
            courier.close_inbox()
        elif frame.proof != courier.proof:
            raise LinkError("it says that it reaches this program's object store, and does not prove it")
        else:
            link.is_near = True

    def lost(self, link: Link) -> None:
        courier = self._couriers.pop(link, None)
        if courier is None:
            return
        if not link.is_near:
            courier.close_inbox()
        elif courier.client is not None:
            courier.client.tell(Op.ABANDON, *courier.inbox)
        if courier.client_there is not None:
            courier.client_there.tell(Op.CLOSE, *courier.inbox_there)
        if courier.shelf is not None:
            courier.shelf.close()

    async def figures(self) -> bytes | None:
        return (await self.store.statistics()).json() if self.store.is_founded else None

    # What processes are spawned with

    def persistent_id(self, value: object, kept: list[Any] | None) -> object:
        if isinstance(value, ObjectRef):
            if not isinstance(value.held, Held) or not self.store.is_home(value.held.client):
                raise ObjectError(f"{value!r} is another program's; get it, and pass the value or a ref of your own")
            return "object", value.id, value.size
        leaf = _leaf_if_any(value)
        placed = None if leaf is None or leaf.nbytes < LARGE or kept is None else self.place(leaf, None)
        if leaf is None or placed is None or kept is None:
            return None
        content, wire = placed
        content.settle()
        kept.append(content)
        return "bytes", leaf.kind, leaf.facts, wire

    def persistent_load(self, pid: Any) -> object:
        what, *facts = pid
        if what == "object":
            id, size = facts
            return ObjectRef(self._claimed(id), id, size)
        kind, about, (first, second, offset, size) = facts
        view = self.store.view_now(self._claimed((first, second)))
        whole = self.store.home.private(view) if kind in NEEDS_WRITABLE else view
        return value_of(kind, about, whole[offset : offset + size], trusted=True)

    def _claimed(self, id: Id) -> Held:
        """Hold an object before who has sent it hears that this process has started, and lets it go perhaps."""
        try:
            held = self.store.home.claim(id, patience=_STARTS_WITHIN)
        except Slow:
            held = None
        if held is None:
            raise ObjectLost(f"object {text_of(id)}, which the process was spawned with, was deleted or lost")
        return held

    # Lending

    def shelf(self, link: Link) -> Cell:
        courier = self._courier(link)
        if courier.shelf is None:
            spec = ChildSpec(Shelf, (self.pulling, courier.lent))
            courier.shelf = make_cell(self._node.abroad, "objects", spec, self._node.loop)
            courier.shelf.begin(Ask(self._node.loop, self._node.loop))
        return courier.shelf


def _leaf_if_any(value: object) -> Leaf | None:
    try:
        return leaf_of(value) if is_exact(value) else None
    except TypeError:  # an array of objects, a sparse tensor: its library knows how to pickle it
        return None


def _disguised(id: Id, key: bytes) -> Id:
    """Return an id for elsewhere, which nobody can make who has not the key."""
    first, second = struct.unpack("<2Q", blake2b(struct.pack("<2Q", *id), key=key, digest_size=16).digest())
    return first | ELSEWHERE, second


def _whole_numbers(wire: Any, count: int) -> list[int]:
    """Return what stands for an object, if it can."""
    if not isinstance(wire, list) or len(wire) != count or any(type(part) is not int or part < 0 for part in wire):
        raise ValueError("what stands for an object is none")
    return wire
