"""A contract that cannot work is refused where it is declared, with the cure."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import lightactors as la
from lightactors.contract import Kind, contract_of
from lightactors.errors import ContractError


def test_contract_is_the_table_of_the_handlers() -> None:
    @la.actor
    class Counter:
        @la.handler
        def plain(self, a: int, b: int = 0) -> int:
            return a + b

        @la.handler(idempotent=True)
        async def coroutine(self, *, key: int) -> int:
            return key

        @la.handler(interleaved=True)
        async def stream(self, *values: int) -> AsyncIterator[int]:
            for value in values:
                yield value

        def no_handler(self) -> None: ...

    contract = contract_of(Counter)
    assert contract.name == "Counter"
    assert {name: (m.kind, m.idempotent, m.interleaved) for name, m in contract.methods.items()} == {
        "plain": (Kind.PLAIN, False, False),
        "coroutine": (Kind.ASYNC, True, False),
        "stream": (Kind.STREAM, False, True),
    }


def test_call_is_shown_as_it_is_written() -> None:
    @la.actor
    class Counter:
        @la.handler
        def add(self, amount: int, *, times: int = 1) -> int:
            return amount * times

    assert contract_of(Counter).methods["add"].call((1,), {"times": 2}) == "Counter.add(1, times=2)"


def plain_generator(self: object) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("target", "cure"),
    [
        (plain_generator, "a stream is an `async def` with a yield"),
        (lambda: None, "takes no self"),
        (functools.partial(print), "put @handler on top of other decorators"),
        (staticmethod(len), "put @handler on top of other decorators"),
        (3, "@handler decorates methods, got 3"),
    ],
)
def test_what_is_no_method_is_no_handler(target: Any, cure: str) -> None:
    with pytest.raises(ContractError, match=cure):
        la.handler(target)


@pytest.mark.parametrize("target", [3, "text", functools.partial(print)])
def test_what_is_no_class_or_async_function_is_no_actor(target: Any) -> None:
    with pytest.raises(ContractError, match="@actor decorates a class or an async function"):
        la.actor(target)


def test_plain_function_is_no_behaviour() -> None:
    def plain(mailbox: Any) -> None: ...

    with pytest.raises(ContractError, match=r"must be `async def plain\(mailbox, ...\)`"):
        la.actor(plain)  # type: ignore[arg-type]


def test_contract_error_is_a_type_error_too() -> None:
    with pytest.raises(TypeError):
        contract_of(int)


def test_subclass_may_override_and_add_handlers() -> None:
    @la.actor
    class Base:
        @la.handler
        def one(self) -> str:
            return "base"

    class Sub(Base):
        @la.handler
        def one(self) -> str:
            return "sub"

        @la.handler
        def two(self) -> int:
            return 2

    assert set(contract_of(Sub).methods) == {"one", "two"}
    assert str(contract_of(Sub).methods["one"]) == "Sub.one()"
    assert set(contract_of(Base).methods) == {"one"}
