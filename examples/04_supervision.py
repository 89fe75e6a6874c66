"""A supervisor starts what fails again; the ref stays good, and what was queued is kept."""

import anyio

import lightactors as la


@la.actor
class Miner:
    """Digs, and now and then breaks its pick."""

    def __init__(self) -> None:
        self.found = 0

    @la.handler
    def dig(self, stone: str) -> int:
        if stone == "granite":
            raise RuntimeError("the pick broke")
        self.found += 1
        return self.found


async def main() -> None:
    async with la.open_system() as system, la.supervise(max_restarts=3, period=5.0) as supervisor:
        miner = await supervisor.options(name="miner").spawn(Miner)
        for stone in ("slate", "granite", "marble"):
            await miner.dig.tell(stone)  # granite is the miner's own failure: nobody waits for its reply
        print("found", await miner.dig("chalk"))  # 2: the new miner began at 0, and found the marble first
        print(system.tree())
        print(la.why(miner))


if __name__ == "__main__":
    anyio.run(main)
