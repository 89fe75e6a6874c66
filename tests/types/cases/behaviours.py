"""A behaviour's ref takes the messages of its mailbox, and an ask returns what the message promises."""

from __future__ import annotations

from typing import assert_type

import lightactors as la


class Hello(la.Message[str]):
    def __init__(self, name: str) -> None:
        self.name = name


class Count(la.Message[int]):
    pass


class Bye:
    pass


class Other(la.Message[bytes]):
    pass


@la.actor
async def greeter(mailbox: la.Mailbox[Hello | Count | Bye], greeting: str, *, times: int = 1) -> None:
    async for message in mailbox:
        assert_type(message, Hello | Count | Bye)
        match message:
            case Hello():
                mailbox.reply(message, greeting)
                mailbox.reply(message, 3)  # E(mypy): Cannot infer  # E(pyright): "Literal[3]"
            case Count():
                mailbox.reply(message, 3)
            case Bye():
                return
    assert_type(await mailbox.receive(), Hello | Count | Bye)


async def conversation(system: la.System) -> None:
    ref = await la.spawn(greeter, "hello")
    assert_type(ref, la.Ref[Hello | Count | Bye])
    assert_type(await system.options(name="g").spawn(greeter, "hi", times=3), la.Ref[Hello | Count | Bye])
    assert_type(await ref.ask(Hello("you")), str)
    assert_type(await ref.ask(Count()), int)
    await ref.tell(Bye())
    ref.tell_nowait(Hello("you"))
    await ref.tell(Other())  # E: "Other"
    await ref.tell("hello")  # E(mypy): incompatible type "str"  # E(pyright): "Literal['hello']"
    await ref.ask(Bye())  # E: "Bye"
    await la.spawn(greeter)  # E(mypy): No overload variant  # E(pyright): "greeting"
    await la.spawn(greeter, 3)  # E(mypy): No overload variant  # E(pyright): "Literal[3]"
    await la.spawn(greeter, "hi", tims=3)  # E(mypy): "tims"  # E(pyright): "tims"


async def narrower_view(ref: la.Ref[Hello | Count | Bye]) -> None:
    await greet(ref)
    await tell_anything(ref)  # E(mypy): incompatible type  # E(pyright): cannot be assigned


async def greet(ref: la.Ref[Hello]) -> None:
    assert_type(await ref.ask(Hello("you")), str)


async def tell_anything(ref: la.Ref[object]) -> None:
    await ref.tell(3)


@la.actor  # E(mypy): incompatible type  # E(pyright): No overloads for "actor"
def no_coroutine(mailbox: la.Mailbox[Hello]) -> None: ...
