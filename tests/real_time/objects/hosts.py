"""A program that lends an array, for another one on another host: it ends when its standard input does."""

from __future__ import annotations

import json
import sys
import time

import anyio
import numpy as np
import psutil

import lightactors as la


@la.actor
class Lender:
    @la.handler
    async def put(self, size: int) -> la.ObjectRef[np.ndarray]:
        return await la.put(np.full(size // 8, 7.0))

    @la.handler
    def memory(self) -> int:
        """Return how many bytes of memory are this process's own."""
        memory = psutil.Process().memory_info()
        return int(memory.rss - memory.shared)


async def main(address: str) -> None:
    async with la.open_system("lender", listen=address):
        await la.options(name="lender").spawn(Lender)
        sys.stdout.write(json.dumps({"at": time.monotonic(), "address": address}) + "\n")
        sys.stdout.flush()
        await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
