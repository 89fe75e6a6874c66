"""A behaviour: an actor that is one function, with a typed mailbox and replies typed by their messages."""

from dataclasses import dataclass

import anyio

import lightactors as la


@dataclass(frozen=True)
class Hello(la.Message[str]):
    name: str


@dataclass(frozen=True)
class Bye:
    pass


@la.actor
async def greeter(mailbox: la.Mailbox[Hello | Bye], greeting: str) -> None:
    async for message in mailbox:
        match message:
            case Hello(name):
                mailbox.reply(message, f"{greeting}, {name}!")
            case Bye():
                return


async def main() -> None:
    async with la.open_system():
        ref = await la.spawn(greeter, "Good morning")
        print(await ref.ask(Hello("Ada")))  # a str, says the type checker
        await ref.tell(Bye())
        print(await la.watch(ref))


anyio.run(main)
