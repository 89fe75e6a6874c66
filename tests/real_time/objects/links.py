"""Two nodes with a link between them, each with its object store or both with one, and actors that take arrays."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

import lightactors as la
from lightactors.objects.sharing import Sharing
from lightactors.objects.store import ObjectStore
from lightactors.remote import Node
from tests.remote.pair import Pair, open_pair

SIZE = 500_000
"""Numbers in an array that goes through shared memory."""


@dataclass
class Batch:
    name: str
    rewards: np.ndarray
    by_name: dict[str, list[np.ndarray]]


@dataclass
class Weigh(la.Message[np.ndarray]):
    weights: np.ndarray


@la.actor
async def scales(mailbox: la.Mailbox[Weigh]) -> None:
    async for message in mailbox:
        mailbox.reply(message, message.weights * 2)
        del message  # which would keep the array until the next one


@la.actor
class Keeper:
    """Keeps arrays and gives them back."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.gate = anyio.Event()

    @la.handler
    def total(self, array: np.ndarray) -> tuple[float, bool]:
        return float(array.sum()), array.flags.writeable

    @la.handler
    def keep(self, value: object) -> int:
        self.kept.append(value)
        return len(self.kept)

    @la.handler
    def drop(self) -> None:
        self.kept.clear()

    @la.handler
    def last(self) -> object:
        return self.kept[-1]

    @la.handler
    def echo(self, array: np.ndarray) -> np.ndarray:
        return array

    @la.handler
    def ones(self, count: int) -> np.ndarray:
        return np.ones(count)

    @la.handler
    async def several(self, count: int) -> AsyncIterator[np.ndarray]:
        for number in range(count):
            yield np.full(SIZE, float(number))

    @la.handler
    def sum_up(self, batch: Batch) -> float:
        arrays = [batch.rewards, *(array for arrays in batch.by_name.values() for array in arrays)]
        return float(sum(array.sum() for array in arrays))

    @la.handler
    def length(self, body: bytes) -> int:
        return len(body)

    @la.handler
    def join(self, texts: list[str]) -> int:
        return len("".join(texts))

    @la.handler
    def numbers_only(self, number: int) -> int:
        return number

    @la.handler
    async def hold(self, array: np.ndarray) -> None:
        await self.gate.wait()

    @la.handler(interleaved=True)
    def open(self) -> None:
        self.gate.set()


def sharing_of(node: Node) -> Sharing:
    sharing = node.sharing
    assert isinstance(sharing, Sharing)
    return sharing


def store_of(node: Node) -> ObjectStore:
    return sharing_of(node).store


@asynccontextmanager
async def open_relatives(**options: Any) -> AsyncGenerator[Pair]:
    """Link two nodes as a program and a process of its own are: both have one store."""
    async with open_pair(**options) as pair:
        pair.far_link.on_home = pair.there.join_store
        pair.here.sharing.welcome(pair.link)
        with anyio.fail_after(10):
            while not pair.far_link.is_near:
                await anyio.lowlevel.checkpoint()
        yield pair


async def puts(store: ObjectStore) -> int:
    """Return how many objects were put into a store, besides the proofs that links begin with."""
    return (await store.statistics()).counters.puts


async def empties(store: ObjectStore, but: int = 0) -> None:
    """Wait until a store has no object any more."""
    with anyio.move_on_after(10):
        while (await store.statistics()).total_objects > but:
            gc.collect()  # an error's traceback has arguments in it
            await anyio.sleep(0.01)
        return
    left = (await store.statistics()).objects
    pytest.fail(f"left in the store: {len(left)} objects, such as {left[:3]}")
