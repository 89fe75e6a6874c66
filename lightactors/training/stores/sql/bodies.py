"""Values as bytes for a table's column, and back: msgpack, deflated where that is worth its time."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.msgpack import Decoder, Encoder, Ext

from lightactors.errors import InvalidArgument, StoreDamaged
from lightactors.training import checks
from lightactors.training.records import LLM, Attempt, PromptTemplate, ProxyLLM, RolloutConfig, Span, Worker

T = TypeVar("T")

_LARGE = 4096
"""Bytes from which on a body is deflated."""

_SAMPLE = 2**18
"""Bytes of a larger body that must become fewer, or the rest is not tried."""

_PLAIN, _DEFLATED = b"\0", b"\1"
_ARRAY = 1
"""The msgpack extension of a NumPy array: its dtype, its shape and its bytes."""

_UNREADABLE = (zlib.error, msgspec.MsgspecError, ValueError, TypeError, OverflowError)

_LIKE_PLAIN: tuple[Any, ...] = (str, int, float, bytes, dict, list, tuple, set)


class RolloutBody(msgspec.Struct, array_like=True):
    """What the table of rollouts has no column for; the config that nobody chose is None."""

    config: RolloutConfig | None
    metadata: dict[str, Any] | None
    attempt: Attempt | None
    claim_id: str | None
    last_sequence_id: int
    highest_sequence_id: int
    next_ordinal: int


class AttemptBody(msgspec.Struct, array_like=True):
    """An attempt that is not the latest."""

    attempt: Attempt
    claim_id: str | None


def _stand_in(value: Any) -> object:
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        if value.dtype.hasobject:
            raise TypeError(f"no bytes stand for an array of dtype {value.dtype}")
        return Ext(_ARRAY, _encoder.encode((value.dtype.str, value.shape, value.tobytes())))
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    for plain in _LIKE_PLAIN:
        if isinstance(value, plain):
            return plain(value)
    raise TypeError(f"no bytes stand for type {type(value).__name__}")


def _restore(code: int, data: memoryview) -> object:
    if code != _ARRAY:
        return Ext(code, bytes(data))
    import numpy

    dtype, shape, raw = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    return numpy.frombuffer(raw, dtype).reshape(shape)


_encoder = Encoder(enc_hook=_stand_in)
_anything = Decoder(ext_hook=_restore)


def packed(name: str, value: object, given: object = UNSET) -> bytes:
    """Return a value as bytes; raise `InvalidArgument`, naming it, for one that no bytes stand for.

    `given` is the part of it that a caller gave.
    """
    return _body(_packed(name, value, given))


def check(name: str, value: object) -> None:
    """Raise `InvalidArgument`, naming it, for a value that no bytes stand for; its call alone is to be refused."""
    if value is not None:
        _packed(name, value)


def _packed(name: str, value: object, given: object = UNSET) -> bytes:
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        _refuse(name, value if given is UNSET else given, error)


def _body(raw: bytes) -> bytes:
    if len(raw) < _LARGE or (len(raw) > _SAMPLE and not _shrinks(raw[:_SAMPLE])):
        return _PLAIN + raw
    deflated = zlib.compress(raw, 1)
    return _DEFLATED + deflated if len(deflated) < 0.9 * len(raw) else _PLAIN + raw


def _shrinks(sample: bytes) -> bool:
    # The weights of a model don't, and trying with all of them would keep everybody waiting for seconds.
    return len(zlib.compress(sample, 1)) < 0.9 * len(sample)


def _refuse(name: str, value: object, error: Exception) -> NoReturn:
    raise InvalidArgument(
        f"{name} can't be kept on a disk: {error}; give what JSON can hold, bytes or arrays, or use a store in memory. "
        f"It is {checks.shown(value)}"
    ) from None


def length(body: bytes) -> int:
    """Return how long a body is when it is not deflated; of one that is, at least so much."""
    return len(body) if body[:1] == _PLAIN else 8 * len(body)


def unpacked(body: bytes) -> memoryview | bytes:
    return zlib.decompress(memoryview(body)[1:]) if body[:1] == _DEFLATED else memoryview(body)[1:]


def reader(kind: Any) -> Callable[[bytes], Any]:
    """Return what reads bodies of a type."""
    decode = Decoder(kind, ext_hook=_restore).decode
    return _checked(lambda body: decode(unpacked(body)))


def _checked(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Have `read` raise `StoreDamaged` for what nobody can have written."""

    def checked(body: bytes) -> Any:
        try:
            return read(body)
        except _UNREADABLE as error:
            raise StoreDamaged(f"a row of the store is damaged ({error}); restore a copy of it") from error

    return checked


rollout_body: Callable[[bytes], RolloutBody] = reader(RolloutBody)
attempt_body: Callable[[bytes], AttemptBody] = reader(AttemptBody)
span: Callable[[bytes], Span] = reader(Span)
worker: Callable[[bytes], Worker] = reader(Worker)
anything: Callable[[bytes], Any] = reader(Any)
_parts: Callable[[bytes], dict[str, tuple[bool, Any]]] = reader(dict[str, tuple[bool, Any]])
_span = Decoder(Span, ext_hook=_restore).decode
_decode_record = Decoder(LLM | ProxyLLM | PromptTemplate).decode
_record = _checked(_decode_record)


def packed_span(value: Span) -> bytes:
    """Return a span as bytes; raise `InvalidArgument` for one that could not be read again."""
    raw = _packed("span", value)
    try:
        _span(raw)
    except msgspec.ValidationError as error:
        raise InvalidArgument(
            f"span {value.name!r} can't be read again: {error}; attributes are text, numbers, bools or lists of these"
        ) from None
    return _body(raw)


def packed_resources(resources: Mapping[str, Any]) -> bytes:
    """Return resources as bytes: each with whether it is a record."""
    parts = {
        name: (True, _packed_record(name, value)) if isinstance(value, (LLM, PromptTemplate)) else (False, value)
        for name, value in resources.items()
    }
    return packed("resources", parts)


def _packed_record(name: str, value: LLM | PromptTemplate) -> bytes:
    raw = _packed(f"resources[{name!r}]", value)
    try:
        _decode_record(raw)
    except msgspec.ValidationError as error:
        raise InvalidArgument(
            f"resources[{name!r}] can't be read again: {error}; it is {checks.shown(value)}"
        ) from None
    return raw


def unpacked_resources(body: bytes) -> dict[str, Any]:
    return {name: _record(value) if is_record else value for name, (is_record, value) in _parts(body).items()}
