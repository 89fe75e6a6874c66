"""What goes over a link: frames, in batches. A batch is a msgpack list of frames behind its length in four bytes."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Raw, Struct
from msgspec.msgpack import Decoder, Encoder

from lightactors.codec import MALFORMED
from lightactors.errors import LinkError

LIMIT = 256 * 2**20
"""Bytes that a batch may have."""

BATCH = 2**20
"""Bytes of bodies after which a batch is full; only a single frame makes a larger one."""

_PREFIX = 4


class Frame(Struct, array_like=True, gc=False):
    """One unit of a link. Every number in it is the sender's word: the receiver looks it up and trusts nothing."""


class Ask(Frame, tag=1):
    id: int
    target: int
    method: str
    body: Raw


class Tell(Frame, tag=2):
    target: int
    method: str
    body: Raw


class Reply(Frame, tag=3):
    id: int
    body: Raw


class Error(Frame, tag=4):
    """The ask or the stream `id` has failed."""

    id: int
    error: Raw


class Cancel(Frame, tag=5):
    """Nobody waits for the reply or the next item any more."""

    id: int


class Open(Frame, tag=6):
    """Start a stream."""

    id: int
    target: int
    method: str
    body: Raw


class Item(Frame, tag=7):
    id: int
    body: Raw


class End(Frame, tag=8):
    """The stream is over."""

    id: int


class Grant(Frame, tag=9):
    """The stream may bring so many items more."""

    id: int
    items: int


class Credit(Frame, tag=10):
    """The target takes so many messages more."""

    target: int
    messages: int


class Watch(Frame, tag=11):
    target: int


class Terminated(Frame, tag=12):
    target: int
    reason: str
    error: Raw  # nil: of none


NONE = Raw(b"\xc0")
"""Nil: msgspec knows no `Raw | None`."""


class Stop(Frame, tag=13):
    target: int
    grace: float


class HandOver(Frame, tag=14):
    """What a new process is to do; opaque to the link."""

    payload: bytes


class Ready(Frame, tag=15):
    pass


class Failed(Frame, tag=16):
    """What was handed over could not be started."""

    error: Raw


class Goodbye(Frame, tag=17):
    """The link will end now, and is meant to."""


class Ping(Frame, tag=18):
    id: int


class Pong(Frame, tag=19):
    id: int


AnyFrame: TypeAlias = (
    Ask | Tell | Reply | Error | Cancel | Open | Item | End | Grant | Credit | Watch | Terminated | Stop
    | HandOver | Ready | Failed | Goodbye | Ping | Pong
)  # fmt: skip

_encoder = Encoder()
_decoder = Decoder(list[AnyFrame])


def pack(batch: list[AnyFrame]) -> bytearray:
    """Return a batch as bytes."""
    data = bytearray(_PREFIX)
    _encoder.encode_into(batch, data, _PREFIX)
    data[:_PREFIX] = (len(data) - _PREFIX).to_bytes(_PREFIX)
    return data


class Parser:
    """Cuts what a socket brings into batches."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = _PREFIX

    def feed(self, data: bytes) -> list[list[AnyFrame]]:
        """Return the batches that are complete now; raise `LinkError` for what is none."""
        if self._pieces:
            # Joined once, when the batch is complete: joined at each piece, a large one would be copied many times.
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._pieces)
            self._pieces.clear()
        return self._cut(data)

    def _cut(self, data: bytes) -> list[list[AnyFrame]]:
        batches: list[list[AnyFrame]] = []
        start, have, view = 0, len(data), memoryview(data)
        self._need = _PREFIX
        while have - start >= _PREFIX:
            size = int.from_bytes(view[start : start + _PREFIX])
            if size > self._limit:
                raise LinkError(f"a batch of {size} bytes; the link takes {self._limit}")
            end = start + _PREFIX + size
            if end > have:
                self._need = _PREFIX + size
                break
            batches.append(_decoded(view[start + _PREFIX : end]))
            start = end
        if start < have:
            self._pieces.append(data[start:] if start else data)
            self._have = have - start
        return batches


def _decoded(data: memoryview) -> list[AnyFrame]:
    try:
        return _decoder.decode(data)
    except MALFORMED as error:
        raise LinkError(f"what came is no batch of frames: {error}") from None
