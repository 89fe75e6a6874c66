"""What goes with messages in the memory that both ends share: the seam to the object store, which lies above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.buffers import Leaf
    from lightactors.codec import AnyObjectRef, Arrivals, Packed, Parcel
    from lightactors.remote import frames
    from lightactors.remote.link import Link
    from lightactors.remote.node import LinkRefs, Node


class Sharing(Protocol):
    """A node's objects as its links meet them; on the node's loop, but for `place` and `refer`."""

    def place(self, leaf: Leaf, link: Link | None) -> tuple[Any, Any] | None:
        """Put bytes where the other end of a link can read them; see `codec.Objects.place`."""
        ...

    def refer(self, ref: AnyObjectRef) -> tuple[Any, Any]:
        """Return what goes with a message for an `ObjectRef`; see `codec.Objects.refer`."""
        ...

    def reopen(self, contents: Sequence[Any]) -> None:
        """Have at hand what a message carries that has not left, or has come earlier; until `unpacked`."""
        ...

    def kept(self) -> Sequence[Any]:
        """Return what has come with the message that is being decoded, for `reopen` later."""
        ...

    def view(self, wire: Any, *, is_writable: bool) -> memoryview: ...
    def ref(self, wire: Any) -> object: ...
    def persistent_id(self, value: object, kept: list[Any] | None) -> object:
        """Return what stands for an `ObjectRef`, or an array, in a pickle for an own process; see `Node`."""
        ...

    def persistent_load(self, pid: Any) -> object: ...
    def shelf(self, link: Link) -> Cell:
        """Return the actor that the other end of a link gets objects of."""
        ...

    def greet(self, link: Link) -> None:
        """Offer the store to another node at once, if there is one already."""
        ...

    def welcome(self, link: Link) -> None:
        """Let an own process, at the other end, use the program's store."""
        ...

    def has(self, contents: Sequence[Any]) -> bool:
        """Tell whether what was placed for a message is still there."""
        ...

    def ship(self, link: Link, contents: Sequence[Any]) -> tuple[list[frames.Id], list[tuple[int, int, int, int]]]:
        """See to it that objects live until the other end has them; return what the frame says of them."""
        ...

    def came(self, link: Link, frame: frames.Laden) -> None:
        """Hold what has come with a frame, until `unpacked`."""
        ...

    def unpacked(self) -> None: ...
    def found_inbox(self, link: Link, frame: frames.Inbox) -> None: ...
    def was_reached(self, link: Link, frame: frames.Reached) -> None: ...
    def let_go(self, link: Link, frame: frames.LetGo) -> None: ...
    def lost(self, link: Link) -> None: ...
    async def figures(self) -> bytes | None:
        """Return what is in the store, as JSON; None: there is none (yet), and none is founded for that."""
        ...


class LinkObjects:
    """The objects of one link's values; see `codec.Objects`."""

    def __init__(self, node: Node, refs: LinkRefs) -> None:
        self._node = node
        self._refs = refs

    @property
    def arrivals(self) -> Arrivals:
        return self._node.arrivals

    def place(self, leaf: Leaf) -> tuple[Any, Any] | None:
        return self._node.sharing.place(leaf, self._refs.link)

    def refer(self, ref: AnyObjectRef) -> tuple[Any, Any]:
        return self._node.sharing.refer(ref)

    def reopen(self, parcel: Parcel | Packed) -> None:
        self._node.sharing.reopen(parcel.contents)

    def kept(self) -> Any:
        return self._node.sharing.kept() if self._node.arrivals.are_here else ()

    def close(self) -> None:
        self._node.sharing.unpacked()

    def view(self, wire: Any, *, is_writable: bool) -> memoryview:
        self._see_something_came()
        return self._node.sharing.view(wire, is_writable=is_writable)

    def ref(self, wire: Any) -> object:
        self._see_something_came()
        return self._node.sharing.ref(wire)

    def _see_something_came(self) -> None:
        if not self._node.arrivals.are_here:
            raise ValueError("it speaks of an object that did not come with it")
