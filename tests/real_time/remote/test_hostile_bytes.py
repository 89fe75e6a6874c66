"""Whatever comes to the port, the node goes on: it answers honest callers meanwhile, and its memory stays small."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

import lightactors as la
from lightactors.remote import frames
from lightactors.remote.grpc._v1.link_pb2 import Batch, Hello
from lightactors.remote.grpc.credentials import metadata_of
from lightactors.remote.hello import PROTOCOL
from tests.real_time.remote import blobs
from tests.real_time.remote.target import Desk
from tests.real_time.remote.victim import Target, open_target

# After ours: its room sets what grpc reads from the environment when it is first imported.
import grpc  # isort: skip

GROWTH = 50 * 2**20
"""Bytes that the node may have more afterwards."""

LINGERS = 30.0
"""Seconds that gRPC may keep a connection which it has closed, while the other end may still say something."""

WARM_UP = 200
"""Blobs after which its memory counts: what is made once is made by then."""

ANSWERS = {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "CANCELLED"}
"""What a broken call may end with. Not UNKNOWN, nor INTERNAL, nor silence."""

STOPS_LISTENING = grpc.__version__.startswith(("1.84.", "1.85."))
"""Whether this gRPC's server can be ended by a path that is no UTF-8; pyproject.toml excludes such ones."""

MANY = [pytest.mark.stress, pytest.mark.timeout(1200)]


async def attack(target: Target, blow: Callable[[int], object], count: int) -> None:
    """Strike so often, while honest callers are answered, and at last see what it has cost."""
    memory = target.memory
    token = target.tokens.of("runner")
    async with la.open_system():
        desk = await la.connect(Desk, f"{target.address}/desk", token=token)
        for number in range(count):
            await anyio.to_thread.run_sync(blow, number)
            if number == WARM_UP:
                memory = target.memory
            if number % 50 == 0 or count < 50:
                with anyio.fail_after(5):
                    assert await desk.note("honest") > 0
                    await anyio.to_thread.run_sync(check_health, target)
    await anyio.to_thread.run_sync(target.tidy)
    with anyio.move_on_after(LINGERS):
        while target.memory - memory > GROWTH:
            await anyio.sleep(1)
            await anyio.to_thread.run_sync(target.tidy)
    assert target.memory - memory <= GROWTH
    await anyio.to_thread.run_sync(target.end)


def check_health(target: Target) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = check(b"", timeout=5, metadata=metadata_of(target.tokens.of("viewer")))
    assert answer == SERVING


SERVING = b"\x08\x01"
"""A health answer's bytes."""


@pytest.mark.parametrize("count", [500, pytest.param(50_000, marks=MANY)])
async def test_raw_blobs(anyio_backend_name: str, tmp_path: Path, count: int) -> None:
    kinds = [kind for kind in blobs.KINDS if kind is not blobs.broken_call or not STOPS_LISTENING]
    with open_target(anyio_backend_name, tmp_path) as target:
        bodies = blobs.blobs(kinds, seed=count, count=count)

        def blow(number: int) -> None:
            blobs.send(target.port, next(bodies), politely=number % 2 == 0)

        await attack(target, blow, count)


@pytest.mark.skipif(STOPS_LISTENING, reason=f"grpcio {grpc.__version__} stops listening; any other version does not")
async def test_call_whose_path_is_no_text(anyio_backend_name: str, tmp_path: Path) -> None:
    call = blobs.PREFACE + blobs.frame(blobs.SETTINGS, b"") + blobs.call(1, path=b"/lightactors.v1.Link/\xf3")
    with open_target(anyio_backend_name, tmp_path) as target:
        await attack(target, lambda _: blobs.send(target.port, call, politely=True), 3)


HELLO = Batch(hello=Hello(protocol=PROTOCOL, node="n" * 16, system="stranger", version="0", role="admin"))

_BODY = msgspec.Raw(msgspec.msgpack.encode([["text"], {"more": 1.5}]))

FRAMES: list[list[frames.AnyFrame]] = [
    [frames.Ask(1, 0, "find", "", _BODY), frames.Tell(0, "find", "", _BODY), frames.Ask(2, 1, "note", "", _BODY)],
    [frames.Open(1, 0, "count", _BODY), frames.Grant(1, 1000), frames.Cancel(1)],
    [frames.Credit(0, 100), frames.Watch(0), frames.Watch(1), frames.Survey(1, 0, 1.0), frames.Ping(1)],
    [frames.Reply(1, _BODY), frames.Error(1, _BODY), frames.Item(1, _BODY), frames.End(1)],
    [frames.Piece(False, memoryview(b"x" * 100)), frames.Piece(True, memoryview(b"y" * 100))],
    [frames.Stop(0, 1.0), frames.Stop(1, 1.0), frames.HandOver(b"x" * 50), frames.Ready(), frames.Failed(_BODY)],
]


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=MANY)])
async def test_mutated_batches(anyio_backend_name: str, tmp_path: Path, count: int) -> None:
    with open_target(anyio_backend_name, tmp_path) as target:
        rng = random.Random(count)
        with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
            call: Any = channel.stream_stream("/lightactors.v1.Link/Open")
            codes = Counter[str]()
            await attack(target, lambda _: codes.update([answer(call, target, mutated_link(rng))]), count)
        assert set(codes) <= ANSWERS
        assert codes["INVALID_ARGUMENT"] > count / 10


def mutated_link(rng: random.Random) -> list[bytes]:
    """Return the messages of a link; something is wrong with the hello, the batch, or the frames in it."""
    hello = HELLO.SerializeToString()
    packed = frames.encode(rng.choice(FRAMES))
    match rng.randrange(4):
        case 0:
            return [blobs.mutated(rng, hello), Batch(frames=packed).SerializeToString()]
        case 1:
            return [hello, blobs.mutated(rng, Batch(frames=packed).SerializeToString())]
        case 2:
            return [hello, Batch(frames=rng.randbytes(rng.randrange(1000))).SerializeToString()]
        case _:
            return [hello, Batch(frames=blobs.mutated(rng, packed)).SerializeToString()]


def answer(call: Any, target: Target, messages: list[bytes]) -> str:
    """Return the code that a link ends with."""
    stream = call(iter(messages), timeout=10, metadata=metadata_of(target.tokens.of("runner")))
    try:
        for _ in stream:
            pass
    except grpc.RpcError:
        pass
    code: str = stream.code().name
    return code
