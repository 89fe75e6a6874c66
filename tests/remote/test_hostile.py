"""Whatever comes over a link, the loop goes on: nonsense ends the link, and nothing else."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lightactors as la
from lightactors.errors import CannotTravel, LinkError
from lightactors.remote import Node, frames
from lightactors.remote.frames import Parser, pack
from lightactors.remote.link import ANSWER
from tests.actors.cast import Later, settle
from tests.remote.pair import Log, open_pair
from tests.remote.test_link import Desk


@given(st.binary())
def test_any_bytes_are_batches_or_a_link_error(data: bytes) -> None:
    with suppress(LinkError):
        feed(Parser(), data)


def feed(parser: Parser, data: bytes) -> list[list[frames.AnyFrame]]:
    """Let a socket bring this, as fast as the parser takes it."""
    batches: list[list[frames.AnyFrame]] = []
    while data:
        room = parser.room()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        batches += parser.filled(count)
        data = data[count:]
    return batches


@given(st.lists(st.integers(1, 400)), st.integers(1, 50))
def test_batches_come_whole_however_they_are_cut(sizes: list[int], piece: int) -> None:
    batches: list[list[frames.AnyFrame]] = [[frames.HandOver(b"x" * size), frames.Ready()] for size in sizes]
    data = b"".join(part for batch in batches for part in pack(batch))
    parser = Parser()
    came = [batch for at in range(0, len(data), piece) for batch in feed(parser, data[at : at + piece])]
    assert came == batches


@pytest.mark.parametrize("size", [frames.READ - 20, frames.READ, 3 * frames.READ, frames.BATCH + 1])
@pytest.mark.parametrize("piece", [1_000, frames.READ, 10_000_000])
def test_a_large_body_comes_whole_between_small_ones(size: int, piece: int) -> None:
    body = msgspec.Raw(msgspec.msgpack.encode(b"x" * size))
    tells: list[frames.AnyFrame] = [frames.Tell(number, "keep", "", body) for number in (1, 2)]
    data = b"".join(part for tell in tells for part in [*pack([frames.Ready(), tell]), *pack([frames.Ready()])])
    parser = Parser()
    came = [batch for at in range(0, len(data), piece) for batch in feed(parser, data[at : at + piece])]
    large = [frames.Ready(), frames.Tell(1, "keep", "", body)], [frames.Ready(), frames.Tell(2, "keep", "", body)]
    assert came == [large[0], [frames.Ready()], large[1], [frames.Ready()]]


NONSENSE = {
    "too large": b"\xff\xff\xff\xff",
    "no msgpack": (1).to_bytes(4) + b"\xc1",
    "no list": (1).to_bytes(4) + b"\x01",
    "no frame": (2).to_bytes(4) + b"\x91\x01",
    "deep": (100_000).to_bytes(4) + b"\x91" * 100_000,
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_ends_the_link_and_nothing_else(name: str) -> None:
    async with la.open_system() as system:
        ours, theirs = socket.socketpair()
        log = Log()
        link = await Node(system).open(ours, log, label="a stranger")
        theirs.sendall(NONSENSE[name])
        await log.is_lost.wait()
        assert "broke the protocol" in str(link.error)
        assert log.said == ["lost"]
        theirs.close()


async def test_what_no_frame_may_do_is_answered_or_ignored() -> None:
    async with open_pair() as pair:
        desk = await pair.reach(Desk, await la.spawn(Desk))
        body = msgspec.Raw(msgspec.msgpack.encode([1]))
        for frame in (
            frames.Reply(99, body),
            frames.Error(99, body),
            frames.Item(99, body),
            frames.End(99),
            frames.Cancel(99),
            frames.Grant(99, -5),
            frames.Credit(99, 10**6),
            frames.Credit(0, -(10**6)),
            frames.Watch(99),
            frames.Stop(99, float("nan")),
            frames.Ask(98, 99, "add", "", body),
            frames.Ask(97, 0, "__init__", "", body),
            frames.Tell(0, "add", "", msgspec.Raw(b"\x91\xa1\xff")),
            frames.Open(96, 0, "add", body),
            frames.Terminated(0, "nonsense", body),
            frames.Pong(7),
            frames.Survey(95, 99, 1.0),
            frames.Survey(94, 0, float("nan")),
            frames.Survey(93, 0, -1.0),
        ):
            pair.link.send(frame)
            pair.far_link.send(frame)
        assert await desk.add(1) == 2
        assert pair.link.error is None


@pytest.mark.parametrize("ask", [frames.Ask(5, 0, "hold", "", msgspec.Raw(b"\x90")), frames.Survey(5, 0, 1.0)])
async def test_ask_that_comes_twice_ends_the_link(ask: frames.AnyFrame) -> None:
    async with open_pair() as pair:
        pair.there.export_root(pair.far_link, await la.spawn(Desk))
        pair.link.send(ask)
        pair.link.send(ask)
        await pair.far_log.is_lost.wait()
        assert "came twice" in str(pair.far_link.error)


@pytest.mark.parametrize("second", ["stay", "add", "nothing of that name"])
async def test_ask_with_the_id_of_another_ends_both(second: str) -> None:
    async with open_pair() as pair:
        near = await la.spawn(Desk)
        pair.there.export_root(pair.far_link, near)
        pair.link.send(frames.Ask(5, 0, "stay", "", msgspec.Raw(b"\x90")))
        await anyio.sleep(1)
        pair.link.send(frames.Ask(5, 0, second, "", msgspec.Raw(msgspec.msgpack.encode([1]))))
        await pair.far_log.is_lost.wait()
        assert "came twice" in str(pair.far_link.error)
        await anyio.sleep(1)
        assert await near.read() == ["cancelled"]


async def test_answer_to_a_cancelled_ask_is_none_to_the_next_one_of_its_id() -> None:
    async with open_pair() as pair:
        near = await la.spawn(Desk)
        pair.there.export_root(pair.far_link, near)
        stay = frames.Ask(5, 0, "stay", "", msgspec.Raw(b"\x90"))
        for frame in (stay, frames.Cancel(5), stay):
            pair.link.send(frame)
            await anyio.sleep(1)
        assert await near.read() == ["cancelled"]
        pair.far_link.lose("cut")
        await anyio.sleep(1)
        assert await near.read() == ["cancelled", "cancelled"]


async def test_what_is_larger_than_the_link_takes_raises_at_the_sender() -> None:
    async with open_pair(limit=10_000) as pair:
        desk = await pair.reach(Desk, await la.spawn(Desk))
        with pytest.raises(CannotTravel, match="the link takes 10000"):
            await desk.note("x" * 10_000)
        assert await desk.add(1) == 2


async def test_slow_actor_slows_its_senders() -> None:
    async with open_pair() as pair, anyio.create_task_group() as tg:
        actor = Desk()
        near = await la.options(mailbox=10).adopt(actor)
        desk = await pair.reach(Desk, near, mailbox=10)
        Later(tg, near.hold)
        await settle()
        sent = 0

        async def send() -> None:
            nonlocal sent
            for _ in range(5_000):
                await desk.note.tell("")
                sent += 1

        sender = Later(tg, send)
        await anyio.sleep(1)
        assert sent < 1_100
        actor.gate.set()
        await sender.done()
        assert len(await desk.read()) == 5_000


@pytest.mark.parametrize(
    "frame",
    [frames.Ping(1), frames.Watch(99), frames.Ask(1, 99, "", "", msgspec.Raw(b"\x90")), frames.Survey(1, 99, 1.0)],
)
async def test_answers_that_no_window_bounds_are_counted(frame: frames.AnyFrame) -> None:
    async with open_pair() as pair:
        pair.far_link.receive([[frame] * 2000])
        assert pair.far_link.owed >= 2000 * ANSWER
        assert not pair.far_link.is_clear


async def test_listener_hears_of_the_links_life() -> None:
    async with open_pair() as pair:
        pair.link.hand_over(b"do this")
        pair.far_link.ready()
        pair.link.stop(0, 2.0)
        pair.there.fail(pair.far_link, ValueError("x"))
        pair.link.send(frames.Ping(7))
        await anyio.sleep(1)
        assert pair.far_log.said == [b"do this", ("stop", 2.0)]
        assert pair.log.said[0] == "ready"
        error: Any = pair.here.failure(pair.log.said[1])
        assert isinstance(error, ValueError)
        pair.far_link.goodbye()
        await pair.log.is_lost.wait()
        assert pair.log.said[2:] == ["goodbye", "lost"]
