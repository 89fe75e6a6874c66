"""Messages to another process: the same works for every way there, ours, the floor's and the peers'."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio

import lightactors as la
from tests.benchmarks.measure import Row, per_second

BODY = "x" * 100
MEGABYTE = 2**20


@la.actor
class Echo:
    @la.handler
    def echo(self, text: str) -> str:
        return text

    @la.handler
    async def echo_slowly(self, text: str) -> str:
        return text

    @la.handler
    def note(self, text: str) -> None:
        """Take it."""

    @la.handler
    def size(self, body: bytes) -> int:
        return len(body)


Work = Callable[[int], Coroutine[Any, Any, None]]
Send = Callable[[Any], Awaitable[object]]


def from_tasks(tasks: int, call: Send) -> Work:
    """Return the work of so many callers, each with one ask under way."""

    async def one(count: int) -> None:
        for _ in range(count):
            await call(BODY)

    async def work(count: int) -> None:
        async with anyio.create_task_group() as tg:
            for _ in range(tasks):
                tg.start_soon(one, count // tasks)

    return work


def telling(tell: Send, ask: Send) -> Work:
    """Return the work of one who tells, and waits until all has arrived."""

    async def work(count: int) -> None:
        for _ in range(count):
            await tell(BODY)
        await ask(BODY)

    return work


def sending(send: Send, size: int) -> Work:
    """Return the work of one who sends so many megabytes in bodies of that size, each acknowledged."""
    body = bytes(size)

    async def work(megabytes: int) -> None:
        for _ in range(megabytes * MEGABYTE // size):
            await send(body)

    return work


async def asking_while_sending(ask: Send, send: Send) -> float:
    """Return the milliseconds that one caller's asks take (p50) while another one's large bodies go the same way."""
    took: list[float] = []
    body = bytes(8 * MEGABYTE)

    async def send_on() -> None:
        # No cancellation: gRPC's own calls would leak it (grpc/grpc#43502).
        while len(took) < 300:
            await send(body)

    async with anyio.create_task_group() as tg:
        tg.start_soon(send_on)
        await anyio.sleep(0.1)
        while len(took) < 300:
            start = time.perf_counter()
            await ask(BODY)
            took.append(time.perf_counter() - start)
    return statistics.median(took) * 1e3


COUNTS = {
    "ask, one at a time": 3_000,
    "ask, 64 callers": 64_000,
    "ask, 512 callers": 102_400,
    "tell": 200_000,
    "bodies of 64 KiB": 20,
    "bodies of 1 MiB": 40,
    "bodies of 100 MiB": 100,
}
"""How many of each are done in a round, bodies in MiB."""


def messages_of(ask: Send, tell: Send) -> dict[str, Work]:
    """Return the works of small messages, by their names."""
    works = [*(from_tasks(callers, ask) for callers in (1, 64, 512)), telling(tell, ask)]
    return dict(zip(COUNTS, works, strict=False))


def bodies_of(send: Send) -> dict[str, Work]:
    """Return the works of large ones."""
    works = [sending(send, size) for size in (MEGABYTE // 16, MEGABYTE, 100 * MEGABYTE)]
    return dict(zip(list(COUNTS)[4:], works, strict=True))


async def measured(works: dict[str, Work], *, share: float = 1) -> dict[str, float]:
    """Return the figure of each work; `share` is how much of its count is enough for who is slow."""
    return {what: await per_second(work, int(COUNTS[what] * share)) for what, work in works.items()}


async def rows_of(far: Any, *, largest: int) -> list[Row]:
    """Measure an `Echo` elsewhere, with bodies of up to so many bytes."""
    works = {**messages_of(far.echo, far.note.tell), **bodies_of(far.size)}
    if largest < 100 * MEGABYTE:
        del works["bodies of 100 MiB"]
    found = [Row(what, _unit(what), figure) for what, figure in (await measured(works)).items()]
    slowly = await per_second(from_tasks(64, far.echo_slowly), 64_000)
    return [*found, Row("ask, async handler, 64 callers", "asks/s", slowly)]


def _unit(what: str) -> str:
    return {"ask": "asks/s", "tell": "tells/s", "bodies": "MiB/s"}[what.split()[0].rstrip(",")]
