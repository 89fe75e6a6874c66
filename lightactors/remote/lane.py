"""The lane of large messages: they leave piece by piece, so that a small one never waits behind them.

What belongs behind a large message, because it is for the same actor or about the same ask, follows it in the lane;
everything else goes past. A plain object, as the link is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from lightactors.errors import LinkError
from lightactors.remote import frames
from lightactors.remote.frames import AnyFrame

_SLACK = 64 * 1024
"""Bytes that a frame may have besides its body."""

Key = tuple[str, Hashable]

# What a frame must not overtake another with. Ids of our own asks and of theirs are numbered apart.
_KEYS: dict[type[AnyFrame], Callable[[Any], tuple[Key, ...]]] = {
    frames.Ask: lambda frame: (("target", frame.target), ("ours", frame.id)),
    frames.Open: lambda frame: (("target", frame.target), ("ours", frame.id)),
    frames.Tell: lambda frame: (("target", frame.target),),
    frames.Stop: lambda frame: (("target", frame.target),),
    frames.Cancel: lambda frame: (("ours", frame.id),),
    frames.Grant: lambda frame: (("ours", frame.id),),
    frames.Reply: lambda frame: (("theirs", frame.id),),
    frames.Error: lambda frame: (("theirs", frame.id),),
    frames.Item: lambda frame: (("theirs", frame.id),),
    frames.End: lambda frame: (("theirs", frame.id),),
}

_LAST_WORDS = frames.Terminated, frames.Goodbye
"""What must not overtake anything: an actor's replies come before the word of its end."""


class Lane:
    """Large messages on their way out, and what waits behind them."""

    def __init__(self, piece: float) -> None:
        self.size = 0  # bytes of the large messages that have not begun to leave
        self._piece = piece
        self._frames: deque[tuple[AnyFrame, int]] = deque()
        self._keys: Counter[Key] = Counter()
        self._begun: Iterator[frames.Piece] | None = None
        self._begun_keys: tuple[Key, ...] = ()

    def takes(self, frame: AnyFrame, size: int) -> bool:
        """Take a frame whose body has `size` bytes, if it is large or belongs behind one that is."""
        if size <= self._piece and (self._is_empty() or not self._belongs_here(frame)):
            return False
        self.size += size
        self._frames.append((frame, size))
        self._keys.update(_keys_of(frame))
        return True

    def _is_empty(self) -> bool:
        return not self._frames and self._begun is None

    def _belongs_here(self, frame: AnyFrame) -> bool:
        return isinstance(frame, _LAST_WORDS) or any(key in self._keys for key in _keys_of(frame))

    def next_frames(self) -> list[AnyFrame]:
        """Return what may leave now: small frames whose turn it is, up to one piece of a large one."""
        ready: list[AnyFrame] = []
        while self._begun is None and self._frames:
            frame, size = self._frames.popleft()
            self.size -= size
            if size > self._piece:
                self._begun = self._pieces(frame)
                self._begun_keys = _keys_of(frame)
            else:
                self._forget(_keys_of(frame))
                ready.append(frame)
        if self._begun is not None:
            piece = next(self._begun)
            ready.append(piece)
            if piece.is_last:
                self._begun = None
                self._forget(self._begun_keys)
        return ready

    def _pieces(self, frame: AnyFrame) -> Iterator[frames.Piece]:
        data = memoryview(frames.encode_frame(frame))
        step = int(self._piece)
        for at in range(0, len(data), step):
            yield frames.Piece(at + step >= len(data), data[at : at + step])

    def _forget(self, keys: tuple[Key, ...]) -> None:
        self._keys.subtract(keys)
        for key in keys:
            if self._keys[key] <= 0:
                del self._keys[key]

    def clear(self) -> None:
        self.size = 0
        self._frames.clear()
        self._keys.clear()
        self._begun = None


def _keys_of(frame: AnyFrame) -> tuple[Key, ...]:
    if isinstance(frame, frames.Laden):
        frame = frame.frame
    keys = _KEYS.get(type(frame))
    return keys(frame) if keys is not None else ()


class Assembly:
    """A large frame on its way in."""

    def __init__(self, limit: int) -> None:
        self._limit = limit + _SLACK
        self._data = bytearray()

    def add(self, piece: frames.Piece) -> AnyFrame | None:
        """Return the frame when its last piece has come; raise `LinkError` for what is none, or too large."""
        if len(self._data) + len(piece.data) > self._limit:
            raise LinkError(f"a message of more than {self._limit} bytes")
        self._data += piece.data
        if not piece.is_last:
            return None
        data, self._data = self._data, bytearray()
        frame = frames.decode_frame(data)
        if isinstance(frame, frames.Piece):
            raise LinkError("pieces of a piece")
        return frame
