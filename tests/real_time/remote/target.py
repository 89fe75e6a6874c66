"""A node in a process of its own, for tests to send it whatever they like."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

import lightactors as la
from lightactors.security import Tokens

NAMES = "desk", "other"

TAKES = 0.01
"""Seconds that a message takes."""


@la.actor
class Desk:
    """What is to go on working meanwhile."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.produced = 0
        self.taken = 0

    @la.handler(idempotent=True)
    def note(self, text: str) -> int:
        """Keep the last hundred notes."""
        self.notes = [*self.notes[-99:], text]
        return len(self.notes)

    @la.handler(interleaved=True)
    async def wait(self, seconds: float) -> float:
        await anyio.sleep(min(seconds, 1.0))
        return seconds

    @la.handler
    async def take(self, body: bytes) -> None:
        """Take a while for each message."""
        await anyio.sleep(TAKES)
        self.taken += 1

    @la.handler
    async def count(self, size: int) -> AsyncIterator[bytes]:
        """Bring items of a size, for ever."""
        while True:
            self.produced += 1
            yield bytes(size)

    @la.handler
    def echo(self, body: bytes) -> bytes:
        return body

    @la.handler
    def counts(self) -> tuple[int, int]:
        """Return how many items were produced, and how many messages taken."""
        return self.produced, self.taken


async def main(tokens: str) -> None:
    async with la.open_system("target", listen="grpc://127.0.0.1:0", tokens=Tokens.load(Path(tokens))) as system:
        for name in NAMES:
            await la.options(name=name).spawn(Desk)
        await la.serve(await la.options(name="store").spawn(la.MemoryStore))
        sys.stdout.write(f"{system.addresses[0]}\n")
        sys.stdout.flush()
        while await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            sys.stdout.write("tidy\n")
            sys.stdout.flush()
    sys.stdout.write("ended\n")


if __name__ == "__main__":
    logging.basicConfig(level=logging.CRITICAL)  # every blob has its own complaint
    anyio.run(main, sys.argv[2], backend=sys.argv[1])
