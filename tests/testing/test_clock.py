"""The virtual clock: timers in order, at their second, in no time; the outside still wakes the loop."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from lightactors.testing import virtual_backend

HOUR = 3600.0


@pytest.fixture(params=anyio.get_available_backends())
def at_once(request: pytest.FixtureRequest) -> dict[str, Any]:
    """`anyio.run()` keywords for a clock that jumps without waiting for the outside."""
    backend, options = virtual_backend(request.param, idle=0)
    return {"backend": backend, "backend_options": options}


def test_an_hour_of_timers_takes_milliseconds(at_once: dict[str, Any]) -> None:
    async def main() -> float:
        for _ in range(60):
            await anyio.sleep(60)
        return anyio.current_time()

    started = time.perf_counter()
    assert anyio.run(main, **at_once) == HOUR
    assert time.perf_counter() - started < 1  # it takes 10 ms; the rest is for a busy machine


@pytest.mark.parametrize("seed", range(5))
def test_timers_fire_in_order_and_on_time(seed: int, at_once: dict[str, Any]) -> None:
    rng = random.Random(seed)
    delays = [rng.uniform(0, HOUR) for _ in range(50)]
    fired: list[tuple[float, float]] = []

    async def timer(delay: float) -> None:
        await anyio.sleep(delay)
        fired.append((delay, anyio.current_time()))

    async def main() -> None:
        async with anyio.create_task_group() as tg:
            for delay in delays:
                tg.start_soon(timer, delay)

    anyio.run(main, **at_once)
    assert [delay for delay, _ in fired] == sorted(delays)
    assert [now for _, now in fired] == pytest.approx(sorted(delays))


async def test_an_hour_passes_at_its_exact_second() -> None:
    assert anyio.current_time() == 0
    await anyio.sleep(HOUR)
    assert anyio.current_time() == HOUR


async def test_clock_stands_still_while_somebody_works() -> None:
    with anyio.move_on_after(1) as scope:
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
        assert anyio.current_time() == 0
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert anyio.current_time() == 1


async def test_a_thread_wakes_a_loop_without_timers() -> None:
    woken = anyio.Event()
    token = anyio.lowlevel.current_token()
    thread = threading.Thread(target=anyio.from_thread.run_sync, args=(woken.set,), kwargs={"token": token})
    thread.start()
    await woken.wait()
    thread.join()
    assert anyio.current_time() == 0


async def test_a_thread_wakes_a_loop_before_its_next_timer() -> None:
    with anyio.fail_after(HOUR):
        assert await anyio.to_thread.run_sync(lambda: "done") == "done"
