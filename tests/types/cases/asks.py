"""What an ask returns, and what a tell takes, is what the handler's signature says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import assert_type

import lightactors as la


@la.actor
class Counter:
    def __init__(self, start: int = 0, *, step: int = 1) -> None:
        self.value = start * step

    @la.handler
    def add(self, amount: int) -> int:
        return amount

    @la.handler
    async def describe(self, prefix: str, *, loud: bool = False) -> str:
        return prefix

    @la.handler(idempotent=True, interleaved=True)
    async def wait_until(self, value: int) -> None: ...

    @la.handler(interleaved=True)
    def take(self, wait: bool = True) -> la.Eventually[bytes]:
        return b""

    @la.handler
    async def history(self, last: int) -> AsyncIterator[float]:
        yield 1.0

    @la.handler(interleaved=True)
    async def names(self) -> AsyncIterator[str]:
        yield ""


async def results(counter: Counter) -> None:
    assert_type(await counter.add(1), int)
    assert_type(await counter.describe("a", loud=True), str)
    assert_type(await counter.take(), bytes)
    assert_type(await counter.take(wait=False), bytes)
    async for number in counter.history(3):
        assert_type(number, float)
    async for name in counter.names():
        assert_type(name, str)
    await counter.wait_until(3)
    await counter.add.tell(1)
    counter.add.tell_nowait(1)
    await counter.describe.tell("a", loud=True)
    value: str = await counter.add(1)  # E(mypy): Incompatible types  # E(pyright): "int" is not


async def wrong_asks(counter: Counter) -> None:
    await counter.add("1")  # E(mypy): expected "int"  # E(pyright): parameter "amount"
    await counter.add()  # E(mypy): Missing positional argument  # E(pyright): Argument missing
    await counter.add(1, 2)  # E(mypy): Too many  # E(pyright): Expected 1 positional
    await counter.add(quantity=1)  # E: quantity
    await counter.describe("a", True)  # E(mypy): Too many positional  # E(pyright): Expected 1 positional
    await counter.subtract(1)  # E(mypy): has no attribute "subtract"  # E(pyright): Cannot access attribute "subtract"
    await counter.history(3)  # E: Items
    counter.history("3")  # E(mypy): "str"  # E(pyright): "Literal['3']"


async def wrong_tells(counter: Counter) -> None:
    await counter.add.tell("1")  # E(mypy): "str"  # E(pyright): "Literal['1']"
    await counter.add.tell()  # E(mypy): Missing positional argument  # E(pyright): Argument missing
    counter.add.tell_nowait(1, 2)  # E(mypy): Too many  # E(pyright): Expected 1 positional
    counter.history.tell(3)  # E: tell


async def spawning(system: la.System) -> None:
    assert_type(await la.spawn(Counter, 1), Counter)
    assert_type(await la.spawn(Counter, step=3), Counter)
    assert_type(await la.options(name="c", place="thread").spawn(Counter, 1), Counter)
    assert_type(await system.spawn(Counter), Counter)
    assert_type(await system.options(mailbox=3).spawn(Counter, start=1), Counter)
    assert_type(await la.adopt(Counter()), Counter)
    assert_type(await la.stop(await la.spawn(Counter)), la.Rung)
    assert_type(await la.watch(await la.spawn(Counter)), la.Terminated)
    assert_type(la.ref_of(Counter()), Counter)
    await la.spawn(Counter, "1")  # E(mypy): No overload variant  # E(pyright): "Literal['1']"
    await la.spawn(Counter, 1, 2)  # E(mypy): No overload variant  # E(pyright): No overloads for "spawn"
    await system.spawn(Counter, stat=1)  # E(mypy): No overload variant  # E(pyright): No parameter named "stat"
    la.options(place="moon")  # E: "Literal['moon']"
    la.options(label="c")  # E: label


@la.actor
class Store(ABC):
    @la.handler
    @abstractmethod
    async def get(self, key: str) -> int: ...

    @la.handler
    def size(self) -> int:
        return 0


class MemoryStore(Store):
    @la.handler
    async def get(self, key: str) -> int:
        return 1


class WrongStore(Store):
    @la.handler
    async def get(self, key: bytes) -> int:  # E(mypy): incompatible  # E(pyright): overrides
        return 1


async def through_the_contract(store: Store) -> None:
    assert_type(await store.get("a"), int)
    assert_type(await store.size(), int)


async def subclass() -> None:
    store = await la.spawn(MemoryStore)
    assert_type(store, MemoryStore)
    await through_the_contract(store)
    await through_the_contract(MemoryStore())
    assert_type(await store.get("a"), int)
    assert_type(await store.size(), int)
    await store.get(1)  # E(mypy): expected "str"  # E(pyright): parameter "key"
    Store()  # E: abstract
