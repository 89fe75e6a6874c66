"""An actor: state, and handlers that take one message at a time."""

import anyio

import lightactors as la


@la.actor
class Counter:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    @la.handler
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value


async def main() -> None:
    async with la.open_system() as system:
        counter = await la.spawn(Counter, 40)  # a Counter to your editor; at run time a ref to it
        print(await counter.add(2))  # ask: send, and wait for the reply
        await counter.add.tell(8)  # tell: send, and go on
        print(await counter.add(0))
        print(system.tree())


anyio.run(main)
