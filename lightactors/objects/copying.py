"""The fastest way to bring bytes into the arena, which is a question of its pages.

A page that nobody has touched yet is cheapest written by the kernel (`pwrite`); one that is there, but not mapped in
this process, is mapped with its neighbours at once; a mapped one takes a plain copy, at the speed of memory. Every
copy of any size leaves the interpreter to other threads, and two cores are faster than one.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

_GRANULE = 256 * 1024
"""Bytes whose pages are taken to be in one state."""

_SMALL = 64 * 1024
"""Bytes up to which a copy that holds the interpreter is cheaper than one that lets it go."""

_TWO_FROM = 8 * 2**20
"""Bytes from which a second thread pays."""

_UNKNOWN, _THERE, _MAPPED = 0, 1, 2

_POPULATE_WRITE = 23  # madvise's, since Linux 5.14


class Copier:
    """Writes into one arena."""

    def __init__(self, descriptor: int, capacity: int) -> None:
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, capacity)
        self.view = memoryview(self._map)
        self._address = address_of(self.view)
        self._states = bytearray(capacity // _GRANULE + 1)
        self._trims = 0

    def note_trims(self, trims: int) -> None:
        """Hear how often the owner has given free pages back to the system."""
        if trims != self._trims:
            self._trims = trims
            self._states = bytearray(len(self._states))

    def copy(self, offset: int, source: memoryview) -> None:
        """Write contiguous bytes to an offset."""
        size = source.nbytes
        if size <= _SMALL:
            self.view[offset : offset + size] = source
        elif size < _TWO_FROM or _cores() < 2:
            self._copy(offset, source)
        else:
            half = size // 2 // _GRANULE * _GRANULE
            second = self._helper.submit(self._copy, offset + half, source[half:])
            try:
                self._copy(offset, source[:half])
            finally:
                second.result()  # also after an error: until then it writes

    @cached_property
    def _helper(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="lightactors copies")

    def _copy(self, offset: int, source: memoryview) -> None:
        start = address_of(source)
        for state, first, last in self._runs(offset, offset + source.nbytes):
            at = first - offset
            if state == _UNKNOWN:
                self._write(first, source[at : last - offset])
            else:
                if state == _THERE:
                    self._populate(first, last)
                ctypes.memmove(self._address + first, start + at, last - first)
            granules = slice(first // _GRANULE, -(-last // _GRANULE))
            self._states[granules] = bytes([min(state + 1, _MAPPED)]) * (granules.stop - granules.start)

    def _runs(self, offset: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the parts whose pages are in one state: that, the first byte and the one behind the last."""
        while offset < end:
            granule = offset // _GRANULE
            state = self._states[granule]
            while granule * _GRANULE < end and self._states[granule] == state:
                granule += 1
            yield state, offset, min(end, granule * _GRANULE)
            offset = granule * _GRANULE

    def _write(self, offset: int, source: memoryview) -> None:
        while source:
            done = os.pwrite(self._descriptor, source, offset)
            source, offset = source[done:], offset + done

    def _populate(self, first: int, last: int) -> None:
        start = first // mmap.PAGESIZE * mmap.PAGESIZE
        with contextlib.suppress(OSError):  # of an older kernel, where the copy maps page after page
            self._map.madvise(_POPULATE_WRITE, start, last - start)

    def restart(self) -> None:
        """Go on in a fork, where there are no threads but this one."""
        self.__dict__.pop("_helper", None)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


class _PyBuffer(ctypes.Structure):
    """CPython's Py_buffer."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_PyBuffer), ctypes.c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.POINTER(_PyBuffer)]
_release_buffer.restype = None


def address_of(buffer: object) -> int:
    """Return where the bytes of a buffer lie, also of one that is read-only, as ctypes' own ways do not."""
    found = _PyBuffer()
    _get_buffer(buffer, ctypes.byref(found), 0)
    address: int = found.buf or 0
    _release_buffer(ctypes.byref(found))
    return address
