"""Batches as gRPC carries them: a protobuf message, whose bytes of frames are put in and found without copies of it.

`Batch` itself would copy them twice, and what is larger than its arena's blocks into fresh pages each time: for a
piece of a large message a hundred times the cost of its bytes.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from lightactors.errors import LinkError
from lightactors.remote.grpc._v1.link_pb2 import Batch

_FRAMES = Batch.FRAMES_FIELD_NUMBER << 3 | 2
"""The first byte of the field: its number, and that its length follows."""


def wrapped(frames: bytes) -> bytes:
    """Return `Batch(frames=frames)` as its bytes."""
    head = bytearray((_FRAMES,))
    rest = len(frames)
    while rest > 0x7F:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return b"".join((head, frames))


def frames_in(data: bytes) -> bytes | memoryview:
    """Return the frames of a batch; raise `LinkError` for what is none."""
    start = _only_field(data)
    return parse(data).frames if start is None else memoryview(data)[start:]


def _only_field(data: bytes) -> int | None:
    """Return where the frames begin, if they are all that is in it and end where it ends."""
    if not data or data[0] != _FRAMES:
        return None
    length = 0
    for at in range(1, min(len(data), 6)):
        length |= (data[at] & 0x7F) << 7 * (at - 1)
        if data[at] <= 0x7F:
            return at + 1 if length == len(data) - at - 1 else None
    return None


def parse(data: bytes) -> Batch:
    """Return a message of the stream; raise `LinkError` for what is none.

    Not left to gRPC, which answers such a thing with an internal error.
    """
    try:
        return Batch.FromString(data)
    except DecodeError:
        raise LinkError(f"{len(data)} bytes that are no batch") from None
