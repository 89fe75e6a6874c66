"""The store's process, which is killed when this program is told so, and started again on the same address and file.

`python -m tests.real_time.durability.keeper URL ADDRESS BACKEND` says when the store serves, and how many seconds after
its start; a line `kill` kills it, and `clock SECONDS` puts its wall clock off by so much.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys
import time
from functools import partial

import anyio

import lightactors as la
import lightactors.remote.grpc.server  # what a child would import only when it listens
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.sql import DurableStore
from tests.real_time.durability.forks import Orders, fork
from tests.real_time.remote.hosts import say


class WallClock:
    """The time in records, which a parent can put off for its children."""

    def __init__(self) -> None:
        self._offset = mmap.mmap(-1, 8)

    def put_off(self, seconds: float) -> None:
        struct.pack_into("d", self._offset, 0, seconds)

    def __call__(self) -> float:
        return time.time() + float(struct.unpack_from("d", self._offset)[0])


CLOCK = WallClock()


async def serve(url: str, address: str, tell: int, began: float) -> None:
    async with la.open_system("store", listen=address, insecure=True) as system:
        os.write(tell, system.addresses[0].encode())
        options = system.options(name="store")
        await (
            options.spawn(MemoryStore, now=CLOCK) if url == "memory" else options.spawn(DurableStore, url, now=CLOCK)
        )
        say(serving=system.addresses[0], seconds=time.monotonic() - began)
        await anyio.sleep_forever()


def main(url: str, address: str, backend: str) -> None:
    __import__(f"anyio._backends._{backend}")
    orders = Orders()
    hear, tell = os.pipe()
    while True:
        pid = fork(partial(anyio.run, serve, url, address, tell, time.monotonic(), backend=backend))
        if address.endswith(":0"):
            address = os.read(hear, 1000).decode()  # the next one listens there too
        while (order := orders.next(1e9) or "").startswith("clock"):
            CLOCK.put_off(float(order.split()[1]))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if not order:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
