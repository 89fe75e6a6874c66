"""An object that is being written in place: a draft until it is sealed."""

from __future__ import annotations

import ctypes
import weakref
from pickle import PickleBuffer
from typing import Any

from lightactors.actors.tree import size as in_words
from lightactors.buffers import Leaf
from lightactors.errors import ObjectError
from lightactors.objects.client import Client, Lease
from lightactors.objects.copying import address_of
from lightactors.objects.ref import ObjectRef
from lightactors.objects.values import Parts, parts_of_leaf


class Draft:
    """An object that is being written, in place; see `objects.create`."""

    def __init__(self, client: Client, lease: Lease, parts: Parts) -> None:
        self._client = client
        self._lease: Lease | None = lease
        self._parts = parts
        client.fill(lease, parts)
        start, size = lease.offset + parts.offsets[0], parts.leaves[0].nbytes
        # Slices and arrays of a view are no exports of it that `release` would see; but they all keep this alive.
        self._window: Any = (ctypes.c_ubyte * size).from_buffer(client.writable(start, size))
        self.view = PickleBuffer(self._window).raw()
        """The object's memory, to be written to until it is sealed."""
        self._forgotten = self._when_forgotten(lease)

    def seal(self) -> ObjectRef[memoryview]:
        """Publish the object: from now on nobody can change it. Raises `ObjectError` while arrays refer to it."""
        lease = self._let_go("sealed")
        id = self._client.new_id()
        self._client.seal(lease, self._parts.size, id)
        self._client.give_back_rest(lease)
        return ObjectRef(self._client.new(id), id, self._parts.size)

    def discard(self) -> None:
        """Give the memory back."""
        self._client.give_back(self._let_go("discarded"))

    def _let_go(self, how: str) -> Lease:
        lease = self._lease
        if lease is None:
            raise ObjectError(f"the draft was sealed or discarded before, and can't be {how}; create another one")
        if not self._is_alone():
            raise ObjectError(
                f"the draft can't be {how} while an array or a slice of its view is there; `del` what you wrote with"
            )
        self._lease = None
        return lease

    def _when_forgotten(self, lease: Lease) -> weakref.finalize[Any, Any]:
        """Have the memory given back when the draft and all that could write to it are garbage."""
        forgotten = weakref.finalize(self._window, self._client.give_back, lease)
        forgotten.atexit = False
        return forgotten

    def _is_alone(self) -> bool:
        """Release the view; tell whether nobody else can write to the memory. If somebody can, open another view."""
        try:
            self.view.release()
        except BufferError:
            return False
        self._forgotten.detach()
        window, self._window = weakref.ref(self._window), None
        self._window = window()
        if self._window is None:
            return True
        self.view = PickleBuffer(self._window).raw()
        assert self._lease is not None
        self._forgotten = self._when_forgotten(self._lease)
        return False

    def __repr__(self) -> str:
        return f"<draft {'over' if self._lease is None else in_words(self._parts.size)}>"


def _unwritten(view: memoryview) -> None:
    """Leave a draft's memory to its author; what lay there before is nobody's to read."""
    ctypes.memset(address_of(view), 0, view.nbytes)


def blank(size: int) -> Parts:
    """Return the parts of an object of so many bytes."""
    return parts_of_leaf(Leaf("memoryview", (), size, None, _unwritten))
