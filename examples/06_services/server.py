"""Actors that any language can call: a counter and a store, each with its own typed gRPC service.

Run it, and then a client: `client.py` in Python, or `client.js` in JavaScript. Both know nothing but the proto
files: `protos/lightactors/v1/store.proto`, and `counter.proto`, which was written by

    lightactors protogen server:Counter --package demo.v1 -o counter.proto
"""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio

import lightactors as la


class TooMuch(Exception):
    """Nobody counts so far."""


@dataclass
class Count:
    """Where the counter stands, and who brought it there."""

    value: int
    by: str | None


@la.actor
class Counter:
    """Counts for everybody."""

    def __init__(self) -> None:
        self.value = 0

    @la.handler
    def add(self, amount: int = 1, by: str | None = None) -> Count:
        """Count on by `amount`; raises `TooMuch` above a million."""
        if self.value + amount > 1_000_000:
            raise TooMuch(f"{self.value} and {amount} is more than a million")
        self.value += amount
        return Count(self.value, by)

    @la.handler
    async def count_to(self, end: int) -> AsyncIterator[Count]:
        """Count from 1 to `end`, ten a second."""
        reached = 0
        try:
            while reached < end:
                await anyio.sleep(0.1)
                reached += 1
                yield Count(reached, None)
        finally:
            print(f"counted to {reached} of {end}", flush=True)

    @la.handler(interleaved=True)
    async def wait_for_ever(self) -> None:
        """Answer never: who gives up, or has set a deadline, ends this too."""
        try:
            await anyio.sleep_forever()
        finally:
            print("nobody waits any more", flush=True)


async def main() -> None:
    address = sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:4747"
    async with la.open_system("services", listen=address) as system:
        counter = await la.spawn(Counter)
        store = await la.spawn(la.MemoryStore)
        for name in (await la.serve(counter, service="demo.v1.Counter"), await la.serve(store)):
            print("serving", name, flush=True)
        print("at", *system.addresses, flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main)
