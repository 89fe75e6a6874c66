"""Values that are no records of ours: plain data as `google.protobuf.Value`, times, arrays.

A `Value` has one kind of number, a double. A whole one comes in as an int, and an int of more than 53 bits is
refused on its way out rather than rounded; so are bytes, for which it has no place.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from lightactors.services.misfit import Misfit

EXACT = 2**53
"""Up to here a double holds every whole number."""

_MICROSECOND = datetime.timedelta(microseconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def value_out(value: Any, message: Any) -> None:
    """Put plain data into a `Value`."""
    writer = _WRITERS.get(type(value))
    if writer is None:
        value, writer = _as_plain(value)
    writer(value, message)


def _null_out(_: None, message: Any) -> None:
    message.null_value = 0


def _bool_out(value: bool, message: Any) -> None:
    message.bool_value = value


def _int_out(value: int, message: Any) -> None:
    if not -EXACT <= value <= EXACT:
        raise Misfit(f"{value} has more than 53 bits, which a google.protobuf.Value would round; send it as a str")
    message.number_value = value


def _float_out(value: float, message: Any) -> None:
    message.number_value = value


def _text_out(value: str, message: Any) -> None:
    message.string_value = value


def _list_out(value: Any, message: Any) -> None:
    values = message.list_value.values
    if not value:
        message.list_value.SetInParent()
    for number, item in enumerate(value):
        try:
            value_out(item, values.add())
        except Misfit as misfit:
            raise misfit.under(f"[{number}]") from None


def _dict_out(value: Mapping[Any, Any], message: Any) -> None:
    struct_out(value, message.struct_value)


def struct_out(value: Mapping[Any, Any], message: Any) -> None:
    """Put a mapping into a `Struct`."""
    fields = message.fields
    message.SetInParent()
    for key, item in value.items():
        if not isinstance(key, str):
            raise Misfit(f"the key {key!r} is no str, which a google.protobuf.Struct needs")
        try:
            value_out(item, fields[key])
        except Misfit as misfit:
            raise misfit.under(key) from None


_WRITERS: dict[type[Any], Any] = {
    type(None): _null_out,
    bool: _bool_out,
    int: _int_out,
    float: _float_out,
    str: _text_out,
    list: _list_out,
    tuple: _list_out,
    set: _list_out,
    frozenset: _list_out,
    dict: _dict_out,
}


def _as_plain(value: Any) -> tuple[Any, Any]:
    """Return what stands for a value that is no plain data itself, and its writer."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
        value = value.tolist()
    elif isinstance(value, bytes | bytearray | memoryview):
        raise Misfit("a google.protobuf.Value holds no bytes; send text, say base64, or annotate a bytes field")
    else:
        for kind, writer in _WRITERS.items():
            if isinstance(value, kind):
                return value, writer
        try:
            value = msgspec.to_builtins(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise Misfit(f"{error}; use plain data") from None
    if type(value) not in _WRITERS:
        raise Misfit(f"{type(value).__name__} is no plain data")
    return value, _WRITERS[type(value)]


def value_in(message: Any) -> Any:
    """Return a `Value` as plain data."""
    kind = message.WhichOneof("kind")
    if kind == "string_value":
        return message.string_value
    if kind == "number_value":
        number = message.number_value
        return int(number) if number.is_integer() and -EXACT <= number <= EXACT else number
    if kind == "struct_value":
        return struct_in(message.struct_value)
    if kind == "list_value":
        return _list_in(message.list_value.values)
    if kind == "bool_value":
        return message.bool_value
    if kind == "null_value":
        return None
    raise Misfit("a Value without a kind; set one of them, null_value for None")


def struct_in(message: Any) -> dict[str, Any]:
    """Return a `Struct` as a dict."""
    fields, values, key = message.fields, {}, ""
    try:
        for key in fields:
            values[key] = value_in(fields[key])
    except Misfit as misfit:
        raise misfit.under(key) from None
    return values


def _list_in(items: Any) -> list[Any]:
    values: list[Any] = []
    try:
        for item in items:
            values.append(value_in(item))  # noqa: PERF401 (their number tells which of them misfits)
    except Misfit as misfit:
        raise misfit.under(f"[{len(values)}]") from None
    return values


# Times


def timestamp_out(value: datetime.datetime, message: Any) -> None:
    if value.tzinfo is None:
        raise Misfit(f"{value!r} has no time zone; make it with one, such as datetime.UTC")
    message.SetInParent()
    _split((value - _EPOCH) // _MICROSECOND, message)


def _split(microseconds: int, message: Any, *, sign: int = 1) -> None:
    seconds, rest = divmod(microseconds, 1_000_000)
    message.seconds, message.nanos = sign * seconds, sign * rest * 1000


def timestamp_in(message: Any) -> datetime.datetime:
    try:
        return _EPOCH + datetime.timedelta(seconds=message.seconds, microseconds=round(message.nanos / 1000))
    except OverflowError:
        raise Misfit(f"a time {message.seconds} seconds after 1970 is out of Python's range") from None


def duration_out(value: datetime.timedelta, message: Any) -> None:
    message.SetInParent()
    microseconds = value // _MICROSECOND
    _split(abs(microseconds), message, sign=-1 if microseconds < 0 else 1)


def duration_in(message: Any) -> datetime.timedelta:
    try:
        return datetime.timedelta(seconds=message.seconds, microseconds=round(message.nanos / 1000))
    except OverflowError:
        raise Misfit(f"{message.seconds} seconds are more than a timedelta holds") from None


# Arrays


def array_out(value: Any, message: Any) -> None:
    if value.dtype.hasobject or value.dtype.fields:
        raise Misfit(f"an array of {value.dtype} has no plain bytes")
    message.dtype = value.dtype.str
    message.shape.extend(value.shape)
    message.data = value.tobytes()


def array_in(message: Any) -> Any:
    # Imported late: only who takes arrays needs numpy, and has it then.
    import numpy

    try:
        dtype = numpy.dtype(message.dtype)
        if dtype.hasobject or min(message.shape, default=0) < 0:
            raise ValueError(f"an array of {message.dtype} in the shape {tuple(message.shape)}")
        return numpy.frombuffer(message.data, dtype).reshape(tuple(message.shape))
    except (TypeError, ValueError) as error:
        raise Misfit(f"no array: {error}") from None
