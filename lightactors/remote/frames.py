"""What goes over a link: frames, in batches. A batch is a msgpack list of frames behind its length in four bytes."""

from __future__ import annotations

import mmap
from typing import Annotated, TypeAlias

from msgspec import Meta, Raw, Struct
from msgspec.msgpack import Decoder, Encoder

from lightactors.codec import MALFORMED
from lightactors.errors import LinkError

LIMIT = 256 * 2**20
"""Bytes that a batch may have."""

BATCH = 2**20
"""Bytes of bodies after which a batch is full; only a single frame makes a larger one."""

READ = 256 * 1024
"""Bytes that are read at once."""

_WARM = 8 * 2**20
_PREFIX = 4

Buffer: TypeAlias = bytearray | memoryview

Number: TypeAlias = Annotated[int, Meta(ge=0)]
Id: TypeAlias = tuple[Number, Number]
"""Of an object, or an inbox."""


class Frame(Struct, array_like=True, gc=False):
    """One unit of a link. Every number in it is the sender's word: the receiver looks it up and trusts nothing."""


class Ask(Frame, tag=1):
    id: int
    target: int
    method: str
    trace: str  # of who asks (see `remote.tracing`); empty: none
    body: Raw


class Tell(Frame, tag=2):
    target: int
    method: str
    trace: str
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


class Survey(Frame, tag=20):
    """What is in the target's branch of the tree? A `Reply` says it; who asks others for it has so many seconds."""

    id: int
    target: int
    within: float


class Piece(Frame, tag=21):
    """A part of a large frame; the last one completes it."""

    is_last: bool
    data: memoryview


Bodied: TypeAlias = Ask | Tell | Open | Reply | Item


class Laden(Frame, tag=22):
    """A frame that objects go with: the ids of those in the receiver's inbox, and of those that are lent.

    What is lent has two: the one by which the body speaks of it, and the one by which it is got, and kept by others.
    """

    objects: list[Id]
    lent: list[tuple[Number, Number, Number, Number]]
    frame: Bodied


class Home(Frame, tag=23):
    """The store of the program, for a process of its own, and what that is called there."""

    store: str
    name: str


class Inbox(Frame, tag=24):
    """Objects for the receiver lie in this store, in this inbox."""

    store: str
    inbox: Id


class Reached(Frame, tag=25):
    """The store that the receiver has named can be reached from here, as this proves; None: it can't."""

    proof: Id | None


class LetGo(Frame, tag=26):
    """These objects, which were lent, are not needed any more, each so many times."""

    objects: list[tuple[Number, Number, Annotated[int, Meta(ge=1)]]]


AnyFrame: TypeAlias = (
    Ask | Tell | Reply | Error | Cancel | Open | Item | End | Grant | Credit | Watch | Terminated | Stop
    | HandOver | Ready | Failed | Goodbye | Ping | Pong | Survey | Piece | Laden | Home | Inbox | Reached | LetGo
)  # fmt: skip

_encoder = Encoder()
_decoder = Decoder(list[AnyFrame])
_frame_decoder = Decoder(AnyFrame)


def pack(batch: list[AnyFrame]) -> list[Buffer]:
    """Return a batch as bytes, in parts that are to be written one after the other."""
    last = batch[-1]
    if isinstance(last, _BODIED) and (body := memoryview(last.body)).nbytes > READ:
        # A large body is written from where it lies: its frame ends with it, and the batch with that frame.
        last.body = Raw()
        return [_packed(batch, body.nbytes), body]
    return [_packed(batch, 0)]


def _packed(batch: list[AnyFrame], further: int) -> bytearray:
    data = bytearray(_PREFIX)
    _encoder.encode_into(batch, data, _PREFIX)
    data[:_PREFIX] = (len(data) - _PREFIX + further).to_bytes(_PREFIX)
    return data


_BODIED = Ask, Tell, Open, Reply, Item


class Parser:
    """Cuts what a socket brings into batches: `room` is where to put it, and `filled` says how much came."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._window = _memory(READ)
        self._buffer = self._window
        self._have = 0
        self._need = _PREFIX

    def room(self) -> memoryview:
        """Return where the next bytes belong."""
        return self._buffer[self._have :]

    def filled(self, count: int) -> list[list[AnyFrame]]:
        """Return the batches that are complete now; raise `LinkError` for what is none."""
        self._have += count
        return [] if self._have < self._need else self._cut(self._taken())

    def _taken(self) -> memoryview:
        """Return what has come, where it stays: a value may be a view of it, and the window is used again."""
        return memoryview(bytes(self._window[: self._have])) if self._buffer is self._window else self._buffer

    def _cut(self, data: memoryview) -> list[list[AnyFrame]]:
        batches: list[list[AnyFrame]] = []
        start, have = 0, len(data)
        self._need = _PREFIX
        while have - start >= _PREFIX:
            size = int.from_bytes(data[start : start + _PREFIX])
            if size > self._limit:
                raise LinkError(f"a batch of {size} bytes; the link takes {self._limit}")
            end = start + _PREFIX + size
            if end > have:
                self._need = _PREFIX + size
                break
            batches.append(decode(data[start + _PREFIX : end]))
            start = end
        self._keep(data[start:])
        return batches

    def _keep(self, begun: memoryview) -> None:
        """Go on behind the beginning of a batch, in memory of its own if it is large."""
        self._buffer = self._window if self._need <= READ else _memory(self._need)
        self._have = len(begun)
        self._buffer[: self._have] = begun


def _memory(size: int) -> memoryview:
    # Up to a few megabytes from the heap, whose pages are there already: new ones cost more than to fill them. More
    # comes from the system, where pages that nothing is written to cost nothing, whatever the other end announces.
    return memoryview(bytearray(size) if READ < size <= _WARM else mmap.mmap(-1, size))


def encode(batch: list[AnyFrame]) -> bytes:
    """Return a batch as bytes, for a carrier that keeps messages apart."""
    return _encoder.encode(batch)


def encode_frame(frame: AnyFrame) -> bytes:
    return _encoder.encode(frame)


def decode_frame(data: bytes | bytearray) -> AnyFrame:
    """Return a frame; raise `LinkError` for what is none."""
    try:
        frame: AnyFrame = _frame_decoder.decode(data)
    except MALFORMED as error:
        raise LinkError(f"what came in pieces is no frame: {error}") from None
    return frame


def decode(data: bytes | memoryview) -> list[AnyFrame]:
    """Return a batch; raise `LinkError` for what is none."""
    try:
        return _decoder.decode(data)
    except MALFORMED as error:
        raise LinkError(f"what came is no batch of frames: {error}") from None
