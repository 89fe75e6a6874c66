"""The seam to the two loops: slots, tasks, posts from other threads, and pauses."""

from __future__ import annotations

import contextvars
import threading

import anyio
import anyio.to_thread
import pytest

from lightactors.actors import loops
from tests.actors.cast import Later, settle


async def test_the_same_loop_is_the_same_object() -> None:
    assert loops.current() is loops.current()
    assert loops.current().is_running_here()
    assert loops.is_any_running()


def test_outside_a_loop_there_is_none() -> None:
    assert not loops.is_any_running()
    with pytest.raises(RuntimeError, match="actors need a running event loop"):
        loops.current()


async def wait(slot: loops.Slot) -> object:
    return await slot


async def test_slot_brings_the_first_value_set_before_or_after_the_wait() -> None:
    loop = loops.current()
    before, after = loop.slot(), loop.slot()
    before.set(1)
    before.set(2)
    async with anyio.create_task_group() as tg:
        waiting = Later(tg, wait, after)
        await settle()
        after.set(3)
        after.set(4)
        assert await waiting.done() == 3
    assert await before == 1


async def test_slot_set_after_a_cancelled_wait_is_ignored() -> None:
    slot = loops.current().slot()
    with anyio.move_on_after(1) as scope:
        await slot
    slot.set(1)
    await settle()
    assert scope.cancelled_caught


async def test_posts_from_another_thread_run_in_order() -> None:
    loop = loops.current()
    seen: list[int] = []
    done = anyio.Event()

    def post() -> None:
        for number in range(1000):
            loop.post(seen.append, number)
        loop.post(done.set)

    thread = threading.Thread(target=post)
    thread.start()
    await done.wait()
    thread.join()
    assert seen == list(range(1000))


async def test_post_made_by_a_post_runs_too() -> None:
    loop = loops.current()
    done = anyio.Event()
    loop.post(loop.post, done.set)
    await done.wait()


async def test_order_runs_at_once_at_home_and_soon_from_elsewhere() -> None:
    loop = loops.current()
    seen: list[str] = []
    loop.order(seen.append, "home")
    assert seen == ["home"]
    await anyio.to_thread.run_sync(loop.order, seen.append, "elsewhere")
    await settle()
    assert seen == ["home", "elsewhere"]


@pytest.mark.parametrize("backend", anyio.get_available_backends())
def test_posts_to_a_loop_that_has_ended_are_dropped(backend: str) -> None:
    async def main() -> loops.Loop:
        return loops.current()

    loop = anyio.run(main, backend=backend)
    for _ in range(3):
        loop.post(print, "never")
        assert not loop._posted  # noqa: SLF001 (nothing else shows that they are not kept)


async def test_started_task_has_its_name_and_context() -> None:
    variable = contextvars.ContextVar("variable", default="outside")
    context = contextvars.copy_context()
    context.run(variable.set, "inside")
    seen: list[tuple[str | None, str]] = []
    done = anyio.Event()

    async def run() -> None:
        seen.append((anyio.get_current_task().name, variable.get()))
        done.set()

    loops.current().start(run, "my task", context)
    await done.wait()
    assert seen == [("my task", "inside")]


async def test_pause_lets_others_run() -> None:
    seen: list[str] = []

    async def other() -> None:
        seen.append("other")

    async with anyio.create_task_group() as tg:
        tg.start_soon(other)
        await loops.current().pause()
        await loops.current().pause()
        seen.append("me")
    assert seen == ["other", "me"]


async def test_pause_can_be_cancelled() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await loops.current().pause()
    assert scope.cancelled_caught


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_task_that_asyncio_cancels_before_its_first_step_begins_all_the_same() -> None:
    seen: list[str] = []

    async def run() -> None:
        try:
            await anyio.sleep(1)
        except anyio.get_cancelled_exc_class():
            seen.append("cancelled")
            raise

    task = loops.current().start(run, "task", contextvars.copy_context())
    task.cancel()  # type: ignore[attr-defined]
    await anyio.sleep(0.1)
    assert seen == ["cancelled"]
