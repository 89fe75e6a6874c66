"""Any Python value as the bytes of one object, and back.

An object is a header, a table with the sizes of its buffers, a head, and the buffers, each at the next multiple of 64
bytes (of a page from 1 MiB on): where they lie follows from how large they are. The head says how they make the
value, in one of two ways. *Plain* is msgpack, of dicts with text for keys, lists, tuples, None, bools, ints, floats,
text, bytes and what `buffers` knows: anybody's bytes can be read so. Every other value is *pickled*, with its buffers
beside it, and read only where who wrote it is trusted.

What comes back is of the class that was put. For `bytes` that takes a copy; a `memoryview` of them comes back as one.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from operator import methodcaller
from types import ModuleType
from typing import Any

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder, Ext, decode

from lightactors.buffers import NEEDS_WRITABLE, Leaf, OutOfReach, is_exact, leaf_of, value_of
from lightactors.codec import obstacle
from lightactors.errors import CannotTravel, ObjectError, text_of
from lightactors.objects.arena import GRAIN, LARGE, PAGE

_IN_HEAD = 4096
"""Bytes up to which `bytes` lie in the head: less than a buffer of its own costs."""

_BY_SLICE = 64 * 1024
"""Bytes up to which a slice is the fastest copy."""

_HEADER = struct.Struct("<4sIQ")  # the way, how many buffers, how long the head is
_PLAIN = b"laP1"
_PICKLED = b"laK1"

_LEAF = 1
"""The msgpack extension that stands for a leaf: its kind, its facts, and which buffer."""

_TUPLE = 2
"""The msgpack extension that stands for a tuple: a list."""

_SCALARS = {type(None), bool, int, float, str}
_TEXT = {str}
_COPIED: dict[str, Callable[[memoryview], Any]] = {"bytes": bytes, "bytearray": bytearray}

Copy = Callable[[int, memoryview], None]
"""Brings a buffer to an offset of the object."""


# Apart


def take_apart(value: object) -> Parts:
    """Return a value as the parts of an object; raise `CannotTravel`, naming what can't be pickled.

    Nothing is copied yet but what is small: arrays must stay as they are until the parts are written.
    """
    try:
        return _plain(value)
    except (TypeError, OverflowError, ValueError, RecursionError):
        return _pickled(value)  # which brings more, and tells better what it can't


def parts_of_leaf(leaf: Leaf) -> Parts:
    """Return the parts of an object that is one leaf."""
    return _parts(memoryview(_encode(Ext(_LEAF, _encode((leaf.kind, leaf.facts, 0))))), [leaf], is_plain=True)


class Parts(Struct, frozen=True, eq=False):
    """A value taken apart: what an object of it needs, and how it is written."""

    is_plain: bool
    """Whether anybody may read it; else only who trusts the writer."""

    size: int
    """Bytes of the object."""

    align: int
    """What the object's own offset must be a multiple of, so that its buffers lie as they should."""

    head: memoryview
    leaves: tuple[Leaf, ...]
    offsets: tuple[int, ...]

    def write_into(self, target: memoryview, copy: Copy) -> None:
        """Write the object to `target`, a writable view of its `size`; `copy` brings what is large to its offset."""
        start = _head_offset(len(self.leaves))
        way = _PLAIN if self.is_plain else _PICKLED
        sizes = [leaf.nbytes for leaf in self.leaves]
        target[:start] = _HEADER.pack(way, len(sizes), self.head.nbytes) + struct.pack(f"<{len(sizes)}Q", *sizes)
        end = _put(target, start, self.head, copy)
        for leaf, offset in zip(self.leaves, self.offsets, strict=True):
            # What lay there before is nobody's to read.
            target[end:offset] = bytes(offset - end)
            end = _put_leaf(target, offset, leaf, copy)


def _parts(head: memoryview, leaves: Iterable[Leaf], *, is_plain: bool) -> Parts:
    leaves = tuple(leaves)
    sizes = tuple(leaf.nbytes for leaf in leaves)
    offsets, size = _places(_head_offset(len(leaves)) + head.nbytes, sizes)
    align = PAGE if any(size >= LARGE for size in sizes) else GRAIN
    return Parts(is_plain, size, align, head, leaves, offsets)


def _head_offset(count: int) -> int:
    return _HEADER.size + 8 * count


def _places(end: int, sizes: Iterable[int]) -> tuple[tuple[int, ...], int]:
    """Return where the buffers of an object start, behind `end`, and where the last one ends."""
    offsets: list[int] = []
    for size in sizes:
        align = PAGE if size >= LARGE else GRAIN
        offsets.append(-(-end // align) * align)
        end = offsets[-1] + size
    return tuple(offsets), end


def _put(target: memoryview, offset: int, buffer: memoryview, copy: Copy) -> int:
    end = offset + buffer.nbytes
    if buffer.nbytes > _BY_SLICE:
        copy(offset, buffer)
    else:
        target[offset:end] = buffer
    return end


def _put_leaf(target: memoryview, offset: int, leaf: Leaf, copy: Copy) -> int:
    if leaf.buffer is not None:
        return _put(target, offset, leaf.buffer, copy)
    assert leaf.write is not None
    leaf.write(target[offset : offset + leaf.nbytes])
    return offset + leaf.nbytes


# Plain


def _plain(value: object) -> Parts:
    writer = _PlainWriter()
    head = _encode(writer.wire(value))
    return _parts(memoryview(head), writer.leaves, is_plain=True)


class _PlainWriter:
    """Finds the leaves of a value."""

    def __init__(self) -> None:
        self.leaves: list[Leaf] = []
        self._ext_by_id: dict[int, Ext] = {}

    def wire(self, value: Any) -> Any:
        """Return what msgpack writes for a value; raise TypeError for one that is not plain."""
        cls = type(value)
        if cls in _SCALARS:
            return value
        if cls is dict:
            return self._dict(value)
        if cls is list:
            return self._list(value)
        if cls is tuple:
            return Ext(_TUPLE, _encode(self._list(value)))
        if cls is bytes and len(value) <= _IN_HEAD:
            return value
        return self._leaf(value)

    def _dict(self, values: dict[Any, Any]) -> dict[str, Any]:
        if not _TEXT.issuperset(map(type, values)):
            raise TypeError("a key that is no text")
        if _SCALARS.issuperset(map(type, values.values())):
            return values
        return {key: self.wire(value) for key, value in values.items()}

    def _list(self, values: list[Any] | tuple[Any, ...]) -> list[Any] | tuple[Any, ...]:
        # A million numbers are looked at in C, and not copied.
        return values if _SCALARS.issuperset(map(type, values)) else [self.wire(value) for value in values]

    def _leaf(self, value: object) -> Ext:
        # The same array twice is one buffer.
        ext = self._ext_by_id.get(id(value))
        if ext is None:
            ext = self._ext_by_id[id(value)] = self._new_leaf(value)
        return ext

    def _new_leaf(self, value: object) -> Ext:
        leaf = leaf_of(value) if is_exact(value) else None
        if leaf is None:
            raise TypeError(f"a {type(value).__name__} is not plain")
        self.leaves.append(leaf)
        return Ext(_LEAF, _encode((leaf.kind, leaf.facts, len(self.leaves) - 1)))


_encode = Encoder().encode


# Pickled


def _pickled(value: object) -> Parts:
    try:
        head, leaves = _pickle(value)
    except Exception as error:  # whatever a class of the user's raises when it is pickled
        raise CannotTravel(_explain(value, error), value) from error
    return _parts(head, leaves, is_plain=False)


def _pickle(value: object) -> tuple[memoryview, list[Leaf]]:
    file, leaves = io.BytesIO(), list[Leaf]()
    _Pickler(file, leaves).dump(value)
    return file.getbuffer(), leaves


class _Pickler(pickle.Pickler):
    """Leaves large values out of the pickle, in the order in which they are read."""

    def __init__(self, file: io.BytesIO, leaves: list[Leaf]) -> None:
        # No bound method: that would be a cycle, and hold the user's arrays until the collector comes by.
        super().__init__(file, protocol=5, buffer_callback=partial(_leave_out, leaves))
        self._leaves = leaves

    def reducer_override(self, obj: Any, /) -> Any:
        """Return how what `buffers` knows is made again; NotImplemented for all that pickle does by itself."""
        if not is_exact(obj):
            return NotImplemented
        if getattr(obj, "requires_grad", False):
            return methodcaller("requires_grad_"), (obj.detach(),)
        try:
            leaf = leaf_of(obj)
        except OutOfReach:
            raise
        except TypeError:
            leaf = None  # an array of objects, a sparse tensor: its library knows how to pickle it
        if leaf is None:
            return NotImplemented
        self._leaves.append(leaf)
        return _leaf, (leaf.kind, leaf.facts)


def _leave_out(leaves: list[Leaf], buffer: pickle.PickleBuffer) -> None:
    raw = buffer.raw()
    leaves.append(Leaf("", (), raw.nbytes, raw))


def _leaf(kind: str, facts: tuple[Any, ...]) -> Any:
    """Stand for a leaf in a pickle; the unpickler puts its own in place of this."""
    raise ObjectError(f"a {kind} was left out of this pickle; read it with lightactors' object store")


def _explain(value: object, error: Exception) -> str:
    """Say which part of a value can't be pickled, and why."""
    where = ""
    for _ in range(20):  # a value may contain itself
        found = _failing(value)
        if found is None:
            break
        step, value, error = found
        where += step
    why = text_of(error) if isinstance(error, OutOfReach) else obstacle(value, error)
    return f"the value can't travel: {where and f'its {where} is the obstacle: '}{why}"


def _failing(value: object) -> tuple[str, object, Exception] | None:
    for step, part in _members(value):
        try:
            _pickle(part)
        except Exception as error:
            return step, part, error
    return None


def _members(value: Any) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        return ((f"[{key!r}]", part) for key, part in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return ((f"[{index}]", part) for index, part in enumerate(value))
    if isinstance(value, (type, ModuleType)) or not hasattr(value, "__dict__"):
        return iter(())
    return ((f".{name}", part) for name, part in vars(value).items())


# Together


def put_together(view: memoryview, *, private: Callable[[], memoryview], trusted: bool) -> Any:
    """Return the value of an object; its arrays are read-only, lie in `view` and hold it.

    `private` brings a writable copy-on-write view of the same object; it is called, once, where a tensor needs it.
    `trusted` says that the object was written by one of us: then it may be unpickled, and its tables are not read
    through. Raises `ObjectError` for bytes that are no object, and reads none outside the view.
    """
    try:
        return _Reader(view, private, trusted=trusted).value()
    except ObjectError:
        raise
    except Exception as error:  # what hostile bytes, and a class of the user's when it is unpickled, raise
        raise ObjectError(f"the value can't be had from its object: {text_of(error)}") from error


def is_plain_object(view: memoryview) -> bool:
    """Tell whether an object may be read without trusting who has written it."""
    return bytes(view[:4]) == _PLAIN


class _Reader:
    """The parts of an object, and the value that they make."""

    def __init__(self, view: memoryview, private: Callable[[], memoryview], *, trusted: bool) -> None:
        self._view = view.toreadonly()
        self._open_private = private
        self._trusted = trusted
        self._way, count, head_size = _HEADER.unpack_from(view)
        start = _head_offset(count)
        if start + head_size > view.nbytes:
            raise ValueError("its head is cut off")
        self._head = self._view[start : start + head_size]
        self._sizes: tuple[int, ...] = struct.unpack_from(f"<{count}Q", view, _HEADER.size)
        self._offsets, end = _places(start + head_size, self._sizes)
        if end > view.nbytes:
            raise ValueError("its buffers are cut off")

    def value(self) -> Any:
        """Return the value that the object holds."""
        if self._way == _PLAIN:
            return self._decode(self._head)
        if self._way != _PICKLED:
            raise ValueError("it starts like none")
        if not self._trusted:
            raise ObjectError(
                "the object's value is pickled, and another program or system has put it, which is not trusted with "
                "that; put plain data there: dicts, lists, tuples, text, numbers, bytes, arrays"
            )
        # Both read the buffers in the order in which the pickler left them out.
        order = iter(range(len(self._sizes)))
        return _Unpickler(self._head, map(self._buffer, order), partial(self._next_leaf, order)).load()

    def _decode(self, data: memoryview) -> Any:
        return decode(data, ext_hook=self._arrive)

    def _arrive(self, code: int, data: memoryview) -> Any:
        if code == _LEAF:
            kind, facts, index = _leaf_decoder.decode(data)
            return self._leaf(kind, facts, index)
        if code == _TUPLE and isinstance(values := self._decode(data), list):
            return tuple(values)
        raise ValueError(f"an extension {code} that it can't have")

    def _next_leaf(self, order: Iterator[int], kind: str, facts: Any) -> Any:
        return self._leaf(kind, facts, next(order))

    def _leaf(self, kind: str, facts: Any, index: int) -> Any:
        value = value_of(kind, facts, self._buffer(index, writable=kind in NEEDS_WRITABLE), trusted=self._trusted)
        return _COPIED[kind](value) if kind in _COPIED else value

    def _buffer(self, index: int, *, writable: bool = False) -> memoryview:
        offset = self._offsets[index]
        return (self._private if writable else self._view)[offset : offset + self._sizes[index]]

    @cached_property
    def _private(self) -> memoryview:
        return self._open_private()


_leaf_decoder = Decoder(tuple[str, Any, int])


class _Unpickler(pickle.Unpickler):
    """Makes a leaf where the pickler has left one out."""

    def __init__(self, head: memoryview, buffers: Iterator[memoryview], leaf: Callable[[str, Any], Any]) -> None:
        super().__init__(io.BytesIO(head), buffers=buffers)
        self._leaf = leaf

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return what a name of the pickle means."""
        if (module_name, global_name) == (__name__, _leaf.__name__):
            return self._leaf
        return super().find_class(module_name, global_name)
