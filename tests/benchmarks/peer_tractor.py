"""tractor's actors, which are processes: spawned, asked once, and stopped; runs in an environment of its own."""

import json
import time
import warnings

import trio

warnings.simplefilter("ignore")  # this release uses what trio has since deprecated

import tractor  # type: ignore[import-not-found]  # noqa: E402


async def echo(text: str) -> str:
    return text


async def life(count: int) -> tuple[float, float]:
    start = time.perf_counter()
    async with tractor.open_nursery() as nursery:
        portals = [await nursery.start_actor(f"echo{number}", enable_modules=[__name__]) for number in range(count)]
        for portal in portals:
            await portal.run(echo, text="x")
        spawned = time.perf_counter()
        for portal in portals:
            await portal.cancel_actor()
    return spawned - start, time.perf_counter() - spawned


async def asks(count: int) -> float:
    async with tractor.open_nursery() as nursery:
        portal = await nursery.start_actor("asked", enable_modules=[__name__])
        await portal.run(echo, text="x")
        start = time.perf_counter()
        for _ in range(count):
            await portal.run(echo, text="x" * 100)
        rate = count / (time.perf_counter() - start)
        await portal.cancel_actor()
    return rate


async def main() -> None:
    figures = {}
    for count in (1, 4):
        lives = [await life(count) for _ in range(3)]
        figures[f"spawn {count}"] = min(spawned for spawned, _ in lives)
        figures[f"stop {count}"] = min(stopped for _, stopped in lives)
    figures["asks"] = max([await asks(300) for _ in range(3)])
    print(json.dumps(figures))


if __name__ == "__main__":
    trio.run(main)
