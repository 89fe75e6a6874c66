"""A flag may be raised by any thread and waited for on any loop."""

from __future__ import annotations

import threading

import anyio
import anyio.to_thread

from lightactors.actors import Flag
from tests.actors.cast import Later, settle


async def test_waiters_go_on_when_the_flag_is_raised() -> None:
    flag = Flag()
    async with anyio.create_task_group() as tg:
        waiters = [Later(tg, flag.wait) for _ in range(3)]
        await settle()
        assert {waiter.outcome for waiter in waiters} == {"pending"}
        assert not flag.is_set()
        flag.set()
        for waiter in waiters:
            await waiter.done()
    assert flag.is_set()


async def test_raised_flag_keeps_nobody() -> None:
    flag = Flag()
    flag.set()
    flag.set()
    await flag.wait()


async def test_flag_may_be_raised_by_another_thread() -> None:
    flag = Flag()
    threading.Timer(0.01, flag.set).start()
    await flag.wait()


async def test_flag_may_be_waited_for_in_another_threads_loop() -> None:
    flag = Flag()
    waiting = threading.Event()

    async def wait() -> None:
        waiting.set()
        await flag.wait()

    thread = threading.Thread(target=anyio.run, args=(wait,))
    thread.start()
    await anyio.to_thread.run_sync(waiting.wait)
    flag.set()
    await anyio.to_thread.run_sync(thread.join)


async def test_cancelled_waiter_leaves_the_others_waiting() -> None:
    flag = Flag()
    async with anyio.create_task_group() as tg:
        first, second = Later(tg, flag.wait), Later(tg, flag.wait)
        await settle()
        await first.cancel()
        flag.set()
        assert await second.done() is None


async def test_flag_fits_as_a_callback_and_shows_itself() -> None:
    flag = Flag()
    assert repr(flag) == "<Flag not set>"
    flag.set("any", "arguments")
    assert repr(flag) == "<Flag set>"
