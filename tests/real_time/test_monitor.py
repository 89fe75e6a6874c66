"""A handler that keeps its loop from turning is reported by name, with its stack."""

from __future__ import annotations

import math
import threading
import time

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import lightactors as la


@la.actor
class Blocker:
    """Blocks its loop, as a handler must not."""

    @la.handler
    def block(self, seconds: float) -> None:
        time.sleep(seconds)

    @la.handler
    async def block_in_a_coroutine(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (that is the case)


def monitors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lightactors monitor"]


@pytest.mark.parametrize("handler", ["block", "block_in_a_coroutine"])
async def test_blocking_handler_is_reported_by_its_actors_name_with_the_stack(
    handler: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with la.open_system(blocked_after=0.1) as system:
        blocker = await system.options(name="b").spawn(Blocker)
        await getattr(blocker, handler)(0.4)

    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("actor local/b has kept its event loop from turning for 0.1 s; let it await, or give it")
    assert f"in {handler}\n    time.sleep(seconds)" in text


async def test_blocking_code_outside_any_actor_is_reported_too(caplog: pytest.LogCaptureFixture) -> None:
    async with la.open_system(blocked_after=0.1):
        await anyio.sleep(0.05)
        time.sleep(0.4)  # noqa: ASYNC251 (that is the case)

    assert caplog.text.count("code outside any actor has kept its event loop") == 1


async def test_each_block_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async with la.open_system(blocked_after=0.1) as system:
        blocker = await system.spawn(Blocker)
        for _ in range(2):
            await blocker.block(0.5)
            await anyio.sleep(0.1)

    assert caplog.text.count("has kept its event loop from turning") == 2


async def test_loop_that_turns_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    async with la.open_system(blocked_after=0.2) as system:
        blocker = await system.spawn(Blocker)
        for _ in range(30):
            await blocker.block(0.01)
            await anyio.lowlevel.checkpoint()

    assert caplog.text == ""


async def test_actor_in_a_thread_may_block_it(caplog: pytest.LogCaptureFixture) -> None:
    async with la.open_system(blocked_after=0.1) as system:
        blocker = await system.options(place="thread").spawn(Blocker)
        await blocker.block(0.4)

    assert caplog.text == ""


async def test_nothing_is_reported_after_the_system_closed(caplog: pytest.LogCaptureFixture) -> None:
    async with la.open_system(blocked_after=0.1):
        pass
    time.sleep(0.3)  # noqa: ASYNC251 (that is the case)

    assert caplog.text == ""


async def test_one_monitor_runs_while_a_system_is_open() -> None:
    before = len(monitors())  # an earlier test's default root may still have one
    async with la.open_system(), la.open_system("inner"):
        assert len(monitors()) == max(1, before)
    assert len(monitors()) == before


async def test_no_monitor_runs_when_none_is_wanted() -> None:
    before = len(monitors())
    async with la.open_system(blocked_after=math.inf):
        assert len(monitors()) == before


async def test_system_that_closes_does_not_wait_for_another_loops_system(anyio_backend: str) -> None:
    opened, close = threading.Event(), threading.Event()

    async def other() -> None:
        async with la.open_system("other"):
            opened.set()
            await anyio.to_thread.run_sync(close.wait)

    for _ in range(20):
        opened.clear()
        close.clear()
        thread = threading.Thread(target=anyio.run, args=(other,), kwargs={"backend": anyio_backend})
        start = time.monotonic()
        async with la.open_system():
            thread.start()
        assert time.monotonic() - start < 1
        await anyio.to_thread.run_sync(opened.wait)
        close.set()
        await anyio.to_thread.run_sync(thread.join)
