"""Large values as a description and a run of bytes, and back without a copy: arrays, tensors, Arrow tables, bytes.

What brings such a value out is found by the name of its class, so that no library is imported for it: numpy, torch
and pyarrow are only imported here when one of their values comes in. What comes in is checked as the word of a
stranger: its facts may lie, and then `ValueError` is raised and no byte outside the view is read.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

from msgspec import Struct

NEEDS_WRITABLE = frozenset({"torch"})
"""The kinds that know nothing read-only: their view must be writable, and nobody else's."""

Description = str | tuple[int, tuple[Any, ...]]
"""A dtype of numpy's: its `str`; or its size and, of each field, the name, description, offset and shape."""


class OutOfReach(TypeError):
    """The bytes of a value can't be read here, by pickle either."""


class Leaf(Struct, frozen=True, eq=False):
    """A value that is a run of bytes, and what to know of them: `facts` goes through msgpack.

    The bytes are the `buffer`, flat and of format B; or there is none yet, and `write` fills a writable view of
    `nbytes`. Either holds the value, so that its bytes stay where they are.
    """

    kind: str
    facts: tuple[Any, ...]
    nbytes: int
    buffer: memoryview | None
    write: Callable[[memoryview], None] | None = None


def leaf_of(value: object) -> Leaf | None:
    """Return a value as bytes; None for one that has none of its own.

    Raises TypeError, with the cure, for a value that has bytes that can't stand for it.
    """
    for cls in type(value).__mro__:
        take = _TAKE.get((cls.__module__, cls.__qualname__))
        if take is not None:
            return take(value)
    return None


def takes(cls: type[Any]) -> bool:
    """Tell whether the values of a class are such values."""
    return any((base.__module__, base.__qualname__) in _TAKE for base in cls.__mro__)


def is_exact(value: object) -> bool:
    """Tell whether a value is of a class that `value_of` gives back, not of a subclass that means more."""
    cls = type(value)
    return (cls.__module__, cls.__qualname__) in _EXACT


def value_of(kind: str, facts: Any, view: memoryview, *, trusted: bool = False) -> Any:
    """Return the value that lies in `view`, without a copy; it is read-only, and holds the view.

    Bytes-likes of every kind arrive as a read-only memoryview: `bytes(...)` makes of it what it was, by a copy.
    A kind in `NEEDS_WRITABLE` needs a writable view. `trusted` says that the bytes were written by this module,
    and spares the look at each string of a table.

    Raises ValueError for facts that don't fit, and ImportError where the library of the value is not installed.
    """
    make = _MAKE.get(kind)
    if make is None:
        raise ValueError(f"no value is of the kind {kind[:40]!r}")
    library = _library(kind)
    try:
        return make(library, facts, view, trusted)
    except Exception as error:  # what a library raises at nonsense is its own affair
        raise ValueError(f"no {kind} value: {error}") from error


def _library(kind: str) -> Any:
    name = _LIBRARIES.get(kind)
    if name is None:
        return None
    try:
        return import_module(name)
    except (ImportError, OSError) as error:
        raise ImportError(
            f"a value of {name} came, which can't be imported here: {error}; install it with `pip install {name}`"
        ) from error


# Bytes-likes


def _take_bytes(kind: str, value: bytes | bytearray) -> Leaf:
    return Leaf(kind, (), len(value), memoryview(value))


def _take_memoryview(value: memoryview) -> Leaf:
    if value.format not in ("B", "b", "c"):
        raise OutOfReach(f"a memoryview of format {value.format!r} is more than bytes; cast it with .cast('B')")
    flat = value.cast("B") if value.c_contiguous else memoryview(value.tobytes())
    return Leaf("memoryview", (), flat.nbytes, flat)


def _make_memoryview(library: None, facts: Any, view: memoryview, trusted: bool) -> memoryview:
    if facts:
        raise ValueError("bytes have no facts")
    return view.toreadonly()


# numpy


def _take_array(value: Any) -> Leaf:
    numpy = sys.modules["numpy"]
    array = value if type(value) is numpy.ndarray else numpy.asarray(value)
    description = _description(array.dtype)
    flags = array.flags
    if flags.c_contiguous:
        order, flat = "C", array
    elif flags.f_contiguous:
        order, flat = "F", array.T
    else:
        return Leaf("numpy", (description, array.shape, "C"), array.nbytes, None, partial(_write_array, array))
    return Leaf("numpy", (description, array.shape, order), array.nbytes, _flat(flat))


def _flat(array: Any) -> memoryview:
    # Viewed as bytes first: datetimes have no format that a memoryview knows.
    return memoryview(array.reshape(-1).view("u1")) if array.nbytes else memoryview(b"")


def _write_array(array: Any, view: memoryview) -> None:
    numpy = sys.modules["numpy"]
    numpy.copyto(numpy.frombuffer(view, array.dtype).reshape(array.shape), array)


def _refuse_masked(value: object) -> Leaf:
    raise TypeError("a masked array is two arrays; send .filled(), or .data and .mask")


@lru_cache(maxsize=256)
def _description(dtype: Any) -> Description:
    if dtype.hasobject or not dtype.itemsize:
        what = "objects" if dtype.char == "O" else dtype
        raise TypeError(f"an array of {what} has no plain bytes; convert it with .astype(...)")
    description = _described(dtype)
    if not _is_told_by(description, dtype):  # of a library that adds its own dtypes to numpy
        raise TypeError(f"an array of {dtype} can't be told by its bytes; send .view('u{dtype.itemsize}')")
    return description


def _is_told_by(description: Description, dtype: Any) -> bool:
    try:
        return bool(_dtype(description) == dtype)
    except ValueError:
        return False


def _described(dtype: Any) -> Description:
    if dtype.names is None:
        return str(dtype.str)
    return dtype.itemsize, tuple(_described_field(name, dtype.fields[name]) for name in dtype.names)


def _described_field(name: str, field: tuple[Any, ...]) -> tuple[str, Description, int, tuple[int, ...]]:
    base, shape = field[0].subdtype or (field[0], ())
    return name, _described(base), field[1], shape


def _make_array(numpy: Any, facts: Any, view: memoryview, trusted: bool) -> Any:
    description, shape, order = facts
    dtype = _dtype(description)
    _check_size(shape, dtype.itemsize, view)
    if order not in ("C", "F"):
        raise ValueError(f"the order {order!r}")
    # Not numpy.ndarray(buffer=…): that takes what lies under a memoryview, and forgets that this one is read-only.
    return numpy.frombuffer(view.toreadonly(), dtype).reshape(tuple(shape), order=order)


def _dtype(description: Any) -> Any:
    return _simple_dtype(description) if isinstance(description, str) else _structured_dtype(*description)


# Matched first: numpy reads a small language here, in which "O" is an object and "i4,i4" two fields.
_SIMPLE = re.compile(r"[<>|][biufcSUVmM][1-9]\d{0,8}(\[\d*[A-Za-zμ]+\])?")


@lru_cache(maxsize=256)
def _simple_dtype(text: str) -> Any:
    if not _SIMPLE.fullmatch(text):
        raise ValueError(f"no dtype is called {text[:40]!r}")
    return sys.modules["numpy"].dtype(text)


def _structured_dtype(size: int, fields: Any) -> Any:
    if any(type(name) is not str for name, *_ in fields):
        raise ValueError("a field without a name")
    return sys.modules["numpy"].dtype(
        {
            "names": [name for name, *_ in fields],
            "formats": [(_dtype(description), tuple(shape)) for _, description, _, shape in fields],
            "offsets": [offset for _, _, offset, _ in fields],
            "itemsize": size,
        }
    )


# torch


def _take_tensor(value: Any) -> Leaf:
    torch = sys.modules["torch"]
    _check_tensor(torch, value)
    tensor = value.resolve_conj().resolve_neg()
    facts = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
    if not _DTYPES_OF_TORCH.fullmatch(facts[0]):
        raise TypeError(f"a tensor of {tensor.dtype} can't be told by its bytes; convert it with .to(...)")
    if tensor.is_contiguous() or not tensor.nbytes:
        return Leaf("torch", facts, tensor.nbytes, _flat_tensor(torch, tensor))
    return Leaf("torch", facts, tensor.nbytes, None, partial(_write_tensor, tensor))


def _check_tensor(torch: Any, tensor: Any) -> None:
    if tensor.device.type != "cpu":
        raise OutOfReach(f"a tensor on {tensor.device} has no bytes in this process's memory; move it with .cpu()")
    if tensor.layout is not torch.strided:
        raise TypeError(f"a {tensor.layout} tensor is more than one run of bytes; send .to_dense()")
    if tensor.is_quantized:
        raise TypeError("a quantized tensor is more than its bytes; send .dequantize(), or .int_repr()")
    if tensor.requires_grad:
        raise TypeError("a tensor that requires grad would lose its graph; send .detach()")
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        raise TypeError(f"a {type(tensor).__name__} may be more than its bytes; send .as_subclass(torch.Tensor)")


def _flat_tensor(torch: Any, tensor: Any) -> memoryview:
    try:
        # Not reshape(-1): one element may have any stride, and would keep it.
        return memoryview(tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy())
    except RuntimeError as error:
        raise TypeError(
            f"the bytes of a tensor can't be had: {error}; `pip install numpy` makes torch show them"
        ) from None


def _write_tensor(tensor: Any, view: memoryview) -> None:
    _tensor(sys.modules["torch"], tensor.dtype, tensor.shape, view).copy_(tensor)


# Less than torch has: those of which a byte holds several, and those that mean nothing without a scale, stay out.
_DTYPES_OF_TORCH = re.compile(r"bool|bfloat16|u?int(8|16|32|64)|complex\d+|float\d+(_\w+)?")


def _make_tensor(torch: Any, facts: Any, view: memoryview, trusted: bool) -> Any:
    name, shape = facts
    dtype: Any = getattr(torch, name, None) if _DTYPES_OF_TORCH.fullmatch(name) else None
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"no dtype is called {name[:40]!r}")
    _check_size(shape, dtype.itemsize, view)
    if view.readonly:
        raise ValueError("torch needs a writable view")
    return _tensor(torch, dtype, shape, view)


def _tensor(torch: Any, dtype: Any, shape: Any, view: memoryview) -> Any:
    if not view.nbytes:  # which frombuffer does not take
        return torch.empty(tuple(shape), dtype=dtype)
    return torch.frombuffer(view, dtype=torch.uint8).view(dtype).reshape(tuple(shape))


# Arrow


def _take_arrow(shape: str, value: Any) -> Leaf:
    if not getattr(value, "is_cpu", True):
        raise OutOfReach("an Arrow table on a device has no bytes in this process's memory; send .copy_to(...)")
    # Written twice, the first time into nothing: only the stream itself knows how long it is.
    counter = sys.modules["pyarrow"].MockOutputStream()
    _write_stream(value, counter)
    return Leaf("arrow", (shape,), counter.size(), None, partial(_write_arrow, value))


def _write_arrow(value: Any, view: memoryview) -> None:
    pyarrow = sys.modules["pyarrow"]
    with pyarrow.FixedSizeBufferWriter(pyarrow.py_buffer(view)) as sink:
        _write_stream(value, sink)


def _write_stream(value: Any, sink: Any) -> None:
    with import_module("pyarrow.ipc").new_stream(sink, value.schema) as writer:
        writer.write(value)


def _make_arrow(pyarrow: Any, facts: Any, view: memoryview, trusted: bool) -> Any:
    (shape,) = facts
    read = _READ_ARROW.get(shape)
    if read is None:
        raise ValueError(f"no shape is called {shape!r}")
    value = read(import_module("pyarrow.ipc").open_stream(pyarrow.py_buffer(view.toreadonly())))
    value.validate(full=not trusted)
    if not trusted:  # which looks at the values, and not at the names of their fields
        _read_names(value.schema)
    return value


def _read_names(fields: Any) -> None:
    """Read the names of fields, also of those in them; raise UnicodeDecodeError for one that is no text."""
    for field in fields:
        str(field.name)
        kind = field.type
        if not kind.num_fields:
            kind = getattr(kind, "value_type", kind)  # a dictionary's
        _read_names(kind.field(number) for number in range(kind.num_fields))


_READ_ARROW: dict[str, Callable[[Any], Any]] = {
    "table": lambda reader: reader.read_all(),
    "batch": lambda reader: reader.read_next_batch(),
}


# What every kind needs


def _check_size(shape: Any, itemsize: int, view: memoryview) -> None:
    if len(shape) > 64 or any(type(length) is not int or length < 0 for length in shape):
        raise ValueError(f"no shape is {str(shape)[:80]}")
    if not itemsize:
        raise ValueError("elements of no bytes")
    size = math.prod(shape) * itemsize
    if size != view.nbytes:
        raise ValueError(f"{size} bytes make it, {view.nbytes} came")


_EXACT: dict[tuple[str, str], Callable[[Any], Leaf]] = {
    ("numpy", "ndarray"): _take_array,
    ("numpy", "memmap"): _take_array,  # an array, wherever it lies
    ("torch", "Tensor"): _take_tensor,
    ("pyarrow.lib", "Table"): partial(_take_arrow, "table"),
    ("pyarrow.lib", "RecordBatch"): partial(_take_arrow, "batch"),
    ("builtins", "bytes"): partial(_take_bytes, "bytes"),
    ("builtins", "bytearray"): partial(_take_bytes, "bytearray"),
    ("builtins", "memoryview"): _take_memoryview,
}
"""What takes a value of a class to its bytes. By name: the class may belong to a library that nobody imported."""

_TAKE = _EXACT | {
    ("numpy.ma", "MaskedArray"): _refuse_masked,
    ("numpy.ma.core", "MaskedArray"): _refuse_masked,  # numpy 2.0's name for it
}

_LIBRARIES = {"numpy": "numpy", "torch": "torch", "arrow": "pyarrow"}

_MAKE: dict[str, Callable[[Any, Any, memoryview, bool], Any]] = {
    "numpy": _make_array,
    "torch": _make_tensor,
    "arrow": _make_arrow,
    "bytes": _make_memoryview,
    "bytearray": _make_memoryview,
    "memoryview": _make_memoryview,
}
