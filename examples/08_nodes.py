"""Actors across machines: one program listens, another one reaches its actors by their names.

    python 08_nodes.py serve        # in one terminal, or on one machine
    python 08_nodes.py              # in another one

Try what happens to the second one when you stop the first one with Ctrl-C and start it again.
"""

import sys
from collections.abc import AsyncIterator

import anyio

import lightactors as la

ADDRESS = "grpc://127.0.0.1:4748"


@la.actor
class Scores:
    """Keeps the best score of each player."""

    def __init__(self) -> None:
        self.best: dict[str, float] = {}

    @la.handler(idempotent=True)  # to report twice does no harm: sent again if the link is lost on the way
    def report(self, player: str, score: float) -> float:
        self.best[player] = max(score, self.best.get(player, score))
        return self.best[player]

    @la.handler
    async def ranking(self) -> AsyncIterator[tuple[str, float]]:
        for player in sorted(self.best, key=lambda player: -self.best[player]):
            yield player, self.best[player]


@la.actor
class Judge:
    """Started by the other program, on this one's machine."""

    @la.handler
    async def judge(self, scores: Scores, player: str, moves: list[int]) -> float:
        return await scores.report(player, sum(moves) / len(moves))  # a ref works wherever it was sent


async def serve() -> None:
    async with la.open_system("arena", listen=ADDRESS, spawnable=[Judge]) as system:
        await system.options(name="scores").spawn(Scores)
        print("listening at", *system.addresses, flush=True)
        await anyio.sleep_forever()


async def play() -> None:
    scores = await la.connect(Scores, f"{ADDRESS}/scores")  # typed, as if it were here
    print("Ada's best:", await scores.report("Ada", 7.0))

    async with await la.connect(ADDRESS) as arena:
        judge = await la.options(place=arena).spawn(Judge)
        print("Bob's best:", await judge.judge(scores, "Bob", [8, 9, 10]))
        print(await arena.survey())
        await la.stop(judge)

    async for player, best in scores.ranking():
        print(f"{player:5}{best:5.1f}")


if __name__ == "__main__":
    anyio.run(serve if sys.argv[1:] == ["serve"] else play)
