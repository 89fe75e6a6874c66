"""Views of an object's bytes, where they lie: what keeps them mapped, and whose end is told.

A *window* is a ctypes array at an object's address. Whatever is made of it (a memoryview, an array, a slice of one)
keeps it alive, as it would not keep a subclass of an array: numpy forgets those in between.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pickle
from typing import TYPE_CHECKING, Any

from lightactors.objects.copying import address_of
from lightactors.objects.line import descriptor_of

if TYPE_CHECKING:
    from lightactors.objects.client import Client
    from lightactors.objects.line import Answer
    from lightactors.objects.records import Id


class Reading:
    """The arena as views see it: nothing can be written through them."""

    def __init__(self, memory: int, capacity: int) -> None:
        self._memory = memory
        self._map = mmap.mmap(memory, capacity, prot=mmap.PROT_READ)
        self._address = address_of(self._map)

    def window(self, client: Client, id: Id, answer: Answer) -> Any:
        """Return a window of an object, which lies in the arena or in a file, as the owner has answered."""
        mapping, address = self._map, self._address + answer.a
        if answer.c:
            mapping = _mapped(answer)
            address = address_of(mapping) + answer.a % mmap.PAGESIZE
        window: Any = (ctypes.c_ubyte * answer.b).from_address(address)
        window.mapping = mapping  # `from_address` keeps nothing alive
        window.client = client
        window.object = id
        window.place = None if answer.c else answer.a
        return window

    def private(self, view: memoryview) -> memoryview:
        """Return the bytes of a view, to be written to: what is written is this process's alone."""
        window: Any = view.obj
        if window.place is None:  # on the disk
            return memoryview(bytearray(view))
        start = window.place // mmap.PAGESIZE * mmap.PAGESIZE
        at = window.place - start
        mapping = mmap.mmap(self._memory, at + view.nbytes, flags=mmap.MAP_PRIVATE, offset=start)
        private: Any = (ctypes.c_ubyte * view.nbytes).from_buffer(mapping, at)
        private.window = window  # what is not written to still lies there
        return pickle.PickleBuffer(private).raw()


def view_of(window: Any) -> memoryview:
    """Return the bytes of a window, read-only."""
    return pickle.PickleBuffer(window).raw().toreadonly()


def window_under(buffer: memoryview) -> Any:
    """Return the window that a buffer is part of; None: it is of none."""
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


def _mapped(answer: Answer) -> mmap.mmap:
    """Map what was spilled."""
    descriptor = descriptor_of(answer)
    start = answer.a // mmap.PAGESIZE * mmap.PAGESIZE
    try:
        return mmap.mmap(descriptor, answer.a - start + answer.b, prot=mmap.PROT_READ, offset=start)
    finally:
        os.close(descriptor)
