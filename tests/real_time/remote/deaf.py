"""Clients that ask for much and read nothing of it: `python -m tests.real_time.remote.deaf`, then a line of JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import msgspec

from lightactors.remote import frames
from lightactors.remote.grpc._v1.link_pb2 import Batch, Hello
from lightactors.remote.grpc.credentials import metadata_of
from lightactors.remote.hello import PROTOCOL

# After ours: its room sets what grpc reads from the environment when it is first imported.
import grpc.aio  # isort: skip

LARGE = 64 * 1024


def hello() -> bytes:
    return Batch(hello=Hello(protocol=PROTOCOL, node="d" * 16, system="deaf", limit=2**26)).SerializeToString()


def streams(target: int) -> list[frames.AnyFrame]:
    """Ask for a stream and all of its items at once, again and again."""
    body = msgspec.Raw(msgspec.msgpack.encode([LARGE]))
    return [frames.Open(1, target, "count", body), *(frames.Grant(1, 2**40) for _ in range(1000))]


def asks(target: int) -> list[frames.AnyFrame]:
    """Ask for large replies, as far as there is credit at first."""
    body = msgspec.Raw(msgspec.msgpack.encode([bytes(LARGE)]))
    return [frames.Ask(number, target, "echo", "", body) for number in range(400)]


def tells(target: int) -> list[frames.AnyFrame]:
    """Tell more than there is credit for."""
    body = msgspec.Raw(msgspec.msgpack.encode([bytes(LARGE // 2)]))
    return [frames.Tell(target, "take", "", body) for _ in range(2000)]


WISHES = {"streams": streams, "asks": asks, "tells": tells}

_IN_ONE = 10
"""Frames of a message: it must not be larger than what a port takes."""


async def be_deaf(channel: grpc.aio.Channel, token: str, target: int, wish: str, calls: list[Any]) -> None:
    call: Any = channel.stream_stream("/lightactors.v1.Link/Open")(metadata=metadata_of(token))
    calls.append(call)
    await call.write(hello())
    await call.read()  # else nobody has accepted it yet
    wishes = WISHES[wish](target)
    for at in range(0, len(wishes), _IN_ONE):
        await call.write(Batch(frames=frames.encode(wishes[at : at + _IN_ONE])).SerializeToString())


async def main(place: str, token: str, target: int, wish: str, count: int) -> None:
    calls: list[Any] = []
    channels = [grpc.aio.insecure_channel(place, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(10)]
    try:
        asking = [
            asyncio.create_task(be_deaf(channels[number % 10], token, target, wish, calls)) for number in range(count)
        ]
        # Who is not read from, or was thrown out, does not come to the end of its wishes.
        await asyncio.wait(asking, timeout=2)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        sys.stdout.write("deaf\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
    finally:
        for channel in channels:
            await channel.close()


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.stdin.readline())))
