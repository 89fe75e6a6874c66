"""The children that supervisors are tested with: they write down their starts and stops, and end in every way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.actors.cell import Cell
from lightactors.actors.ref import cell_of
from lightactors.errors import RestartsExhausted
from lightactors.testing import Gate
from tests.actors.cast import Oops


class Troupe:
    """What children have in common over their incarnations: a log, and who is to fail at the next starts."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.failing_starts: dict[str, int] = {}

    def starts(self, name: str) -> None:
        """Write a start down, and fail it if it is to fail."""
        self.log.append(f"start {name}")
        if self.failing_starts.get(name, 0) > 0:
            self.failing_starts[name] -= 1
            raise Oops(f"{name} did not start")

    def stops(self, name: str) -> None:
        self.log.append(f"stop {name}")

    def clear(self) -> None:
        self.log.clear()


@la.actor
class Player:
    """A child that ends as it is told."""

    def __init__(self, name: str, troupe: Troupe) -> None:
        self.name = name
        self.troupe = troupe
        self.notes: list[object] = []

    def on_start(self) -> None:
        self.troupe.starts(self.name)

    def on_stop(self) -> None:
        self.troupe.stops(self.name)

    @la.handler
    def note(self, entry: object) -> list[object]:
        self.notes.append(entry)
        return list(self.notes)

    @la.handler
    def fail(self) -> None:
        raise Oops(self.name)

    @la.handler
    async def quit(self) -> None:
        await la.stop(la.ref_of(self))

    @la.handler
    async def hold(self, gate: Gate) -> str:
        await gate.wait()
        return "held"

    @la.handler
    async def fail_at(self, gate: Gate) -> None:
        await gate.wait()
        raise Oops(self.name)


@la.actor
class Mother:
    """Has children, handlers that wait in every way, and streams."""

    def __init__(self, troupe: Troupe) -> None:
        self.troupe = troupe

    @la.handler
    async def bear(self, name: str = "child", restart: Any = None) -> Player:
        return await la.options(name=name, restart=restart).spawn(Player, name, self.troupe)

    @la.handler
    async def hold(self, gate: Gate) -> str:
        await gate.wait()
        return "held"

    @la.handler(interleaved=True)
    async def stay(self, gate: Gate) -> str:
        await gate.wait()
        return "stayed"

    @la.handler(interleaved=True)
    async def linger(self, gate: Gate, cleaned_up: Gate) -> str:
        """Wait, and take a while to be cancelled."""
        try:
            await gate.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await cleaned_up.wait()
        return "lingered"

    @la.handler
    async def count(self, end: int) -> AsyncIterator[int]:
        try:
            for number in range(end):
                yield number
        finally:
            self.troupe.log.append("closed")

    @la.handler
    def me(self) -> int:
        return id(self)

    @la.handler
    def fail(self) -> None:
        raise Oops("mother")

    @la.handler
    async def cancel_my_task(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.lowlevel.checkpoint()


class End(la.Message[None]):
    """Makes a `soloist` return."""


class Fail(la.Message[None]):
    """Makes a `soloist` raise."""


class Count(la.Message[int]):
    """Asks a `soloist` how many messages it has had."""


@la.actor
async def soloist(mailbox: la.Mailbox[End | Fail | Count], name: str, troupe: Troupe) -> None:
    """A behaviour that ends as it is told."""
    had = 0
    troupe.starts(name)
    try:
        async for message in mailbox:
            had += 1
            match message:
                case Count():
                    mailbox.reply(message, had)
                case End():
                    return
                case Fail():
                    raise Oops(name)
    finally:
        troupe.stops(name)


def cell(ref: object) -> Cell:
    return cell_of(ref, "the test")


def incarnation(ref: object) -> int:
    return cell(ref).incarnation


def kill(ref: object) -> None:
    """Cancel an actor without anybody having ordered its stop."""
    cell(ref).interrupt()


@contextmanager
def exhausted(pattern: str | None = None) -> Generator[list[RestartsExhausted]]:
    """Expect the block to end with `RestartsExhausted`, and hand it over."""
    found: list[RestartsExhausted] = []
    with pytest.raises(RestartsExhausted, match=pattern) as raised:
        yield found
    found.append(raised.value)


async def at(second: float) -> None:
    """Wait until that moment of the virtual clock, and a little longer: until what happens then has happened."""
    await anyio.sleep(second - anyio.current_time())
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
