"""A node's objects as its links meet them: what is large in a message lies in the store, and only its id travels.

A link's sender opens an inbox in its store, says so to the receiver, and deposits what goes with a frame when that
leaves; the receiver takes it when the frame comes. So what is under way outlives its sender. Whether the other end
reads the same memory is known of own processes; others are offered the store once, and say whether they reach it.
What can't be shared is lent: the link's end here holds it until the other end lets it go.
"""

from __future__ import annotations

import ctypes
import logging
import re
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lightactors.actors.mailbox import Ask
from lightactors.actors.starting import make_cell
from lightactors.buffers import NEEDS_WRITABLE, Leaf, is_exact, leaf_of, value_of
from lightactors.codec import LARGE
from lightactors.errors import LinkError, ObjectError, ObjectLost
from lightactors.objects.client import Client, Held, Lease
from lightactors.objects.copying import address_of
from lightactors.objects.founder import PREFIX
from lightactors.objects.lent import Lent
from lightactors.objects.pulling import Pulling
from lightactors.objects.records import Id, Op
from lightactors.objects.ref import ObjectRef
from lightactors.objects.shelf import Shelf
from lightactors.objects.store import ObjectStore
from lightactors.objects.values import Parts, parts_of_leaf
from lightactors.remote import frames
from lightactors.supervision.spec import ChildSpec

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.codec import AnyObjectRef
    from lightactors.remote.link import Link
    from lightactors.remote.node import Node
    from lightactors.remote.parcels import Ids

logger = logging.getLogger("lightactors")

_NAME = re.compile(rf"{PREFIX}\d{{1,10}}-[0-9a-f]{{16}}")


_HEAVY = 4 * 2**20
"""Bytes of whose copy a loop takes notice."""


class Content:
    """An object that goes with a message, and what keeps it here until it has gone."""

    is_heavy = False

    def __init__(self, id: Id, kept: Any, store: str | None, size: int = 0) -> None:
        self.id = id
        self.kept = kept  # what holds it, or a view of it
        self.store = store  # where it lies; None: on another host
        self.size = size

    def settle(self) -> None:
        """It is there already."""


class Unwritten(Content):
    """One that has its space, and is still to be copied there."""

    def __init__(self, client: Client, lease: Lease, parts: Parts) -> None:
        super().__init__(client.new_id(), None, client.name, parts.size)
        self._client = client
        self._lease = lease
        self._parts = parts
        # If the message never leaves, nor does anybody need the space.
        self._end = weakref.finalize(self, client.give_back, lease)
        self._end.atexit = False

    @property
    def is_heavy(self) -> bool:  # type: ignore[override]
        return self.kept is None and self.size >= _HEAVY

    def settle(self) -> None:
        if self.kept is None and self._end.detach() is not None:
            self.kept = self._client.put_into(self._lease, self._parts, self.id)


class _Courier:
    """What one link needs to know."""

    def __init__(self) -> None:
        self.is_offered = False
        self.client: Client | None = None  # of our store, as it was when the inbox was opened
        self.inbox: Id = (0, 0)  # of the other end, there
        self.client_there: Client | None = None  # of the other end's store
        self.inbox_there: Id = (0, 0)  # ours, there
        self.lent: dict[Id, Content] = {}
        self.lent_times: Counter[Id] = Counter()
        self.shelf: Cell | None = None


class Sharing:
    """The objects of one node: see `remote.parcels.Sharing`."""

    def __init__(self, node: Node) -> None:
        self.store = ObjectStore(node.system)
        self.pulling = Pulling(node, self.store)
        self._node = node
        if node.home is not None:
            self.store.join(node.home.store, node.home.name)
        self._couriers: WeakKeyDictionary[Link, _Courier] = WeakKeyDictionary()
        self._here: dict[Id, Held | Lent] = {}  # what came with the frame that is being handled

    def _courier(self, link: Link) -> _Courier:
        return self._couriers.setdefault(link, _Courier())

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
        except ObjectError as error:
            logger.warning("a large value travels in its message: %s", error)
            return None
        if lease is None:
            return None
        content = Unwritten(client, lease, parts)
        return content, (*content.id, parts.offsets[0], leaf.nbytes)

    def _forwarded(self, leaf: Leaf) -> tuple[Content, Any] | None:
        """Return the same for bytes that are part of an object already: they are not copied."""
        window = None if leaf.buffer is None else _window_under(leaf.buffer)
        if window is None or window.store != self.store.name:
            return None
        offset = address_of(leaf.buffer) - ctypes.addressof(window)
        return Content(window.object, window, window.store), (*window.object, offset, leaf.nbytes)

    def refer(self, ref: AnyObjectRef) -> tuple[Content, Any]:
        assert isinstance(ref, ObjectRef)
        held = ref.held
        store = held.client.name if isinstance(held, Held) else None
        return Content(ref.id, held, store, ref.size), (*ref.id, ref.size)

    def ship(self, link: Link, contents: Sequence[Content]) -> list[tuple[int, int]]:
        near = [content for content in contents if link.is_near and content.store == self.store.name]
        if near:
            courier = self._with_inbox(link)
            assert courier.client is not None
            courier.client.deposit((content.id for content in near), courier.inbox)
        return [content.id if content in near else self._lend(link, content) for content in contents]

    def _lend(self, link: Link, content: Content) -> Id:
        courier = self._courier(link)
        courier.lent[content.id] = content
        courier.lent_times[content.id] += 1
        return -content.id[0], content.id[1]

    def _with_inbox(self, link: Link) -> _Courier:
        """Return what is known of a link, whose other end has an inbox in the store as it is now."""
        courier = self._courier(link)
        client = self.store.home
        if courier.client is not client:
            courier.client, courier.inbox = client, client.new_id()
            client.tell(Op.OPEN, *courier.inbox)
            link.send(frames.Inbox(client.name, courier.inbox))
        return courier

    def _offer(self, link: Link) -> None:
        courier = self._courier(link)
        if not courier.is_offered and link.error is None:
            courier.is_offered = True
            try:
                self._with_inbox(link)
            except ObjectError as error:
                logger.debug("%s has no store to offer: %s", self._node.system.name, error)

    def let_go(self, link: Link, frame: frames.LetGo) -> None:
        courier = self._courier(link)
        for first, second, times in frame.objects:
            id = first, second
            courier.lent_times[id] -= times
            if courier.lent_times[id] <= 0:
                del courier.lent_times[id]
                courier.lent.pop(id, None)

    # Arriving

    def came(self, link: Link, objects: Ids) -> None:
        courier = self._courier(link)
        for first, second in objects:
            if first < 0:
                id = -first, second
                self._here[id] = Lent(link, id, self._give_back)
            elif courier.client_there is None:
                raise LinkError("objects came before the store that they are in was named")
            else:
                self._here[first, second] = courier.client_there.take((first, second), courier.inbox_there)
        self._node.arrivals.are_here = True

    def unpacked(self) -> None:
        self._here.clear()
        self._node.arrivals.are_here = False

    def view(self, wire: Any, *, is_writable: bool) -> memoryview:
        """Return bytes that came; raise ValueError where they did not, and `ObjectLost`."""
        first, second, offset, size = _whole_numbers(wire, 4)
        held = self._here.get((first, second))
        if not isinstance(held, Held):
            raise ValueError("it speaks of bytes that did not come with it")
        view = self.store.view_now(held)
        if offset + size > view.nbytes:
            raise ValueError(f"bytes {offset} to {offset + size} of an object that has {view.nbytes}")
        if is_writable:
            view = held.client.private(view)
        return view[offset : offset + size]

    def ref(self, wire: Any) -> ObjectRef[Any]:
        first, second, size = _whole_numbers(wire, 3)
        held = self._here.get((first, second))
        if held is None:
            raise ValueError("it speaks of an object that did not come with it")
        return ObjectRef(held, (first, second), size)

    def _give_back(self, link: Link, id: Id) -> None:
        """Tell the lender that an object is not needed here any more; from any thread."""
        if link.error is None:
            self._node.loop.order(link.send, frames.LetGo([(*id, 1)]))

    # What the links say

    def welcome(self, link: Link) -> None:
        link.is_near = True
        link.send(frames.Home(self.store.name, link.label))

    def found_inbox(self, link: Link, frame: frames.Inbox) -> None:
        if not _NAME.fullmatch(frame.store):
            raise LinkError("it named what is no object store")
        courier = self._courier(link)
        try:
            client = self._joined(frame)
        except ObjectLost as error:
            logger.debug("objects of %r can't be read in place: %s", link, error)
            return
        courier.client_there, courier.inbox_there = client, frame.inbox
        link.send(frames.Reached())

    def _joined(self, frame: frames.Inbox) -> Client:
        """Return the line to a store where an inbox is ours now. Raises `ObjectLost`."""
        client = self.store.client(frame.store)
        client.tell(Op.JOIN, *frame.inbox)
        if client.error is not None:  # its owner was killed, and nobody here has noticed: there is another one
            client = self.store.client(frame.store)
            client.tell(Op.JOIN, *frame.inbox)
        return client

    def was_reached(self, link: Link) -> None:
        if self._courier(link).client is not None:
            link.is_near = True

    def lost(self, link: Link) -> None:
        courier = self._couriers.pop(link, None)
        if courier is None:
            return
        if courier.client is not None:
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
            return ObjectRef(self.store.home.hold(id), id, size)
        kind, about, (first, second, offset, size) = facts
        view = self.store.view_now(self.store.home.hold((first, second)))
        whole = self.store.home.private(view) if kind in NEEDS_WRITABLE else view
        return value_of(kind, about, whole[offset : offset + size], trusted=True)

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


def _whole_numbers(wire: Any, count: int) -> list[int]:
    """Return what stands for an object, if it can."""
    if not isinstance(wire, list) or len(wire) != count or any(type(part) is not int or part < 0 for part in wire):
        raise ValueError("what stands for an object is none")
    return wire


def _window_under(buffer: memoryview) -> Any:
    """Return the view of an object that a buffer is part of; None: it is of none."""
    under: Any = buffer.obj
    while True:
        if isinstance(under, memoryview):
            under = under.obj
        elif isinstance(under, ctypes.Array):
            return under if hasattr(under, "object") else None
        elif (base := getattr(under, "base", None)) is not None:
            under = base  # of an array of numpy's
        else:
            return None
