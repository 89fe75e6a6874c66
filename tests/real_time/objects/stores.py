"""A store with its owner's process, lines to it, and objects that say themselves whether their bytes are right."""

from __future__ import annotations

import json
import os
import random
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

import lightactors as la
from lightactors.objects.client import Client, Held, Refused
from lightactors.objects.figures import Figures
from lightactors.objects.founder import Founder
from lightactors.objects.records import Op, Status
from lightactors.objects.sharing import Sharing
from lightactors.objects.values import put_together, take_apart
from lightactors.remote.node import node_of
from lightactors.supervision.limits import ObjectLimits

PATIENCE = 10.0
"""Seconds that a test waits for what must come at once: the machine may be busy."""

MIB = 2**20


class Store:
    """A store of its own, and this process's lines to it."""

    def __init__(self, limits: ObjectLimits) -> None:
        self.founder = Founder(limits)
        self._clients: list[Client] = []

    @property
    def name(self) -> str:
        return self.founder.name

    @property
    def pid(self) -> int:
        """The owner's process, which is there once somebody has asked something."""
        assert self.founder.pid is not None
        return self.founder.pid

    def client(self, label: str = "client") -> Client:
        client = Client(self.name, label)
        self._clients.append(client)
        client.ask(Op.CONTAINS, patience=PATIENCE)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.founder.close()


@contextmanager
def open_store(
    capacity: int = 64 * MIB, *, quota: int | None = None, spill: Path | None = None, spill_limit: int | None = None
) -> Generator[Store]:
    directory = None if spill is None else str(spill)
    store = Store(ObjectLimits(capacity=capacity, quota=quota, spill=directory, spill_limit=spill_limit))
    try:
        yield store
    finally:
        store.close()


def figures(client: Client) -> Figures:
    """Return what the owner knows."""
    answer = client.ask(Op.STATISTICS, patience=PATIENCE)
    with open(answer.descriptors[0], "rb") as file:
        file.seek(0)
        return Figures.of(json.load(file))


def until(client: Client, is_so: Callable[[Figures], bool], within: float = PATIENCE) -> Figures:
    """Return the first figures of which something is so."""
    deadline = time.monotonic() + within
    while True:
        found = figures(client)
        if is_so(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.001)


def wait_until(is_so: Callable[[], object], within: float = PATIENCE) -> None:
    deadline = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def accounted(found: Figures) -> int:
    """Return what the leases and objects of some figures take together."""
    rooms = (-(-one.size // 64) * 64 for one in found.objects if not one.is_spilled)
    return found.leased + sum(rooms)


def owner_of(system: la.System) -> int:
    """Return the id of the process that owns a system's store."""
    sharing = node_of(system).sharing
    assert isinstance(sharing, Sharing)
    founder = sharing.store._founder  # noqa: SLF001
    assert founder is not None
    assert founder.pid is not None
    return founder.pid


async def settled(is_so: Callable[[Figures], bool]) -> Figures:
    """Return the first figures of this system's store of which something is so."""
    found = await la.objects.statistics()
    with anyio.move_on_after(PATIENCE):
        while not is_so(found):
            await anyio.sleep(0.001)
            found = await la.objects.statistics()
    assert is_so(found), found
    return found


# Objects


def sealed(chance: random.Random, size: int) -> bytes:
    """Return bytes that end with a checksum of the others."""
    data = chance.randbytes(min(size, 4096)) * (size // 4096 + 1)
    data = chance.randbytes(8) + data[:size]
    return data + zlib.crc32(data).to_bytes(4, "little")


def is_whole(data: bytes | memoryview) -> bool:
    view = memoryview(data)
    return zlib.crc32(view[:-4]) == int.from_bytes(view[-4:], "little")


def put(client: Client, data: bytes) -> Held:
    """Put bytes, to be viewed in place; wait for nothing but the owner."""
    return client.put(take_apart(memoryview(data)), patience=PATIENCE)


def put_patiently(client: Client, data: bytes, *, within: float = PATIENCE) -> Held:
    """As well, and wait until there is room."""
    deadline = time.monotonic() + within
    while True:
        try:
            return put(client, data)
        except Refused as refused:
            if refused.status is not Status.FULL or time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def look(held: Held) -> memoryview:
    """Return the bytes of an object, where they lie."""
    view = held.client.view(held, patience=PATIENCE)
    value: memoryview = put_together(view, private=lambda: held.client.private(view), trusted=True)
    return value


# What is left behind


def shared_memory() -> int:
    """Return the bytes of shared memory that the system has given out."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Shmem:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Shmem in /proc/meminfo")


def open_files(pid: int) -> Iterator[str]:
    """Yield where the descriptors of a process lead to."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:  # closed since
            continue
