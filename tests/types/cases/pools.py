"""A pool has the type of its members, and so has its router."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

import lightactors as la


@la.actor
class Worker:
    def __init__(self, start: int, *, step: int = 1) -> None:
        self.value = start * step

    @la.handler
    def add(self, amount: int) -> int:
        return amount


class Hello(la.Message[str]):
    pass


@la.actor
async def greeter(mailbox: la.Mailbox[Hello], greeting: str) -> None: ...


def remainder(amount: int) -> int:
    return amount % 3


async def pools(system: la.System) -> None:
    pool = await la.spawn_many(4, Worker, 1, step=2)
    assert_type(pool, la.Pool[Worker])
    assert_type(await la.options(place="thread", restart="permanent").spawn_many(4, Worker, 1), la.Pool[Worker])
    assert_type(await system.spawn_many(4, Worker, start=1), la.Pool[Worker])
    assert_type(pool.router(), Worker)
    assert_type(await pool.router("least_loaded").add(1), int)
    assert_type(await pool.router("by_key", key=remainder).add(1), int)
    assert_type(iter(pool), Iterator[Worker])
    assert_type(len(pool), int)
    assert_type(await la.stop(pool), la.Rung)
    assert_type(await pool.stop(grace=1), la.Rung)
    await pool.resize(8)
    await pool.router().add("1")  # E(mypy): expected "int"  # E(pyright): parameter "amount"
    pool.router("random")  # E: "Literal['random']"
    await la.spawn_many(4, Worker)  # E(mypy): No overload variant  # E(pyright): No overloads for "spawn_many"
    await la.spawn_many(4, Worker, "1")  # E(mypy): No overload variant  # E(pyright): "Literal['1']"
    await la.spawn_many("4", Worker, 1)  # E(mypy): No overload variant  # E(pyright): "Literal['4']"


async def pools_of_behaviours() -> None:
    pool = await la.spawn_many(2, greeter, "hello")
    assert_type(pool, la.Pool[la.Ref[Hello]])
    assert_type(await pool.router().ask(Hello()), str)
    await pool.router().tell("hello")  # E(mypy): incompatible type "str"  # E(pyright): "Literal['hello']"
