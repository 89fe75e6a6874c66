"""Large messages leave in pieces; what belongs behind one stays behind it, and everything else goes past."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from lightactors.errors import LinkError
from lightactors.remote import frames
from lightactors.remote.frames import AnyFrame
from lightactors.remote.lane import Assembly, Lane

PIECE = 100


def body(size: int) -> Raw:
    return Raw(msgspec.msgpack.encode(b"x" * size))


def tell(target: int, size: int) -> frames.Tell:
    return frames.Tell(target, "keep", "", body(size))


class Sender:
    """Sends frames as a link does, and lets them arrive: what is not in the lane goes past it."""

    def __init__(self) -> None:
        self.lane = Lane(PIECE)
        self.assembly = Assembly(1_000_000)
        self.arrived: list[AnyFrame] = []

    def send(self, frame: AnyFrame) -> None:
        size = memoryview(getattr(frame, "body", b"")).nbytes
        if not self.lane.takes(frame, size):
            self.arrive(frame)

    def arrive(self, frame: AnyFrame) -> None:
        if not isinstance(frame, frames.Piece):
            self.arrived.append(frame)
        elif (whole := self.assembly.add(frame)) is not None:
            self.arrived.append(whole)

    def write(self) -> bool:
        ready = self.lane.next_frames()
        for frame in ready:
            self.arrive(frame)
        return bool(ready)


ACTIONS = st.lists(st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 400)), st.none()), max_size=40)


@given(ACTIONS)
def test_messages_to_one_target_keep_their_order_and_none_is_lost(actions: list[tuple[int, int] | None]) -> None:
    sender = Sender()
    sent: list[frames.Tell] = []
    for action in actions:
        if action is None:
            sender.write()
        else:
            sent.append(tell(*action))
            sender.send(sent[-1])
    while sender.write():
        pass
    for target in range(4):
        assert [f for f in sender.arrived if f.target == target] == [f for f in sent if f.target == target]  # type: ignore[union-attr]


def test_small_message_to_another_target_goes_past_a_large_one() -> None:
    sender = Sender()
    sender.send(tell(1, 1_000))
    sender.send(tell(2, 1))
    assert sender.arrived == [tell(2, 1)]


@pytest.mark.parametrize(
    ("large", "follower"),
    [
        (frames.Ask(7, 1, "keep", "", body(500)), frames.Cancel(7)),
        (frames.Open(7, 1, "keep", body(500)), frames.Grant(7, 5)),
        (frames.Item(7, body(500)), frames.End(7)),
        (frames.Item(7, body(500)), frames.Error(7, frames.NONE)),
        (frames.Reply(7, body(500)), frames.Terminated(3, "STOPPED", frames.NONE)),
        (frames.Reply(7, body(500)), frames.Goodbye()),
        (frames.Tell(1, "keep", "", body(500)), frames.Stop(1, 0.5)),
    ],
)
def test_what_is_about_a_large_message_does_not_overtake_it(large: Any, follower: Any) -> None:
    sender = Sender()
    sender.send(large)
    sender.write()
    sender.send(follower)
    while sender.write():
        pass
    assert sender.arrived == [large, follower]


def test_ids_of_our_asks_and_of_theirs_are_apart() -> None:
    sender = Sender()
    sender.send(frames.Reply(7, body(500)))
    sender.send(frames.Cancel(7))
    assert sender.arrived == [frames.Cancel(7)]


def test_pieces_beyond_the_limit_break_the_protocol() -> None:
    assembly = Assembly(1_000)
    piece = frames.Piece(is_last=False, data=memoryview(bytes(60_000)))
    assembly.add(piece)
    with pytest.raises(LinkError, match="more than"):
        assembly.add(piece)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode([99]), msgspec.msgpack.encode([21, True, b"x"])])
def test_pieces_that_make_no_frame_break_the_protocol(data: bytes) -> None:
    with pytest.raises(LinkError):
        Assembly(1_000).add(frames.Piece(is_last=True, data=memoryview(data)))
