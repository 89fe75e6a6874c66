"""Batches by hand are batches as protobuf has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightactors.errors import LinkError
from lightactors.remote.grpc._v1.link_pb2 import Batch, Hello
from lightactors.remote.grpc.wire import frames_in, parse, wrapped


@pytest.mark.parametrize("size", [1, 127, 128, 16_383, 16_384, 2**21 - 1, 2**21])
def test_wrapped_frames_are_a_batch(size: int) -> None:
    assert wrapped(bytes(size)) == Batch(frames=bytes(size)).SerializeToString()


@given(st.binary())
def test_frames_are_found_again(frames: bytes) -> None:
    assert frames_in(wrapped(frames)) == frames


@given(st.binary(min_size=1), st.text())
def test_frames_are_found_beside_other_fields(frames: bytes, node: str) -> None:
    batch = Batch(frames=frames, hello=Hello(node=node)).SerializeToString()
    assert frames_in(batch) == frames
    assert frames_in(wrapped(b"before") + batch) == frames  # the last one counts


@given(st.binary() | st.binary(max_size=8).map(b"\x12".__add__))
def test_any_bytes_are_read_as_protobuf_reads_them(data: bytes) -> None:
    try:
        expected = parse(data).frames
    except LinkError:
        with pytest.raises(LinkError):
            frames_in(data)
    else:
        assert frames_in(data) == expected
