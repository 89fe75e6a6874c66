"""Every public coroutine may be cancelled at each of its checkpoints, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import lightactors as la
from lightactors.testing import virtual_backend
from tests.actors.cast import Porter, settle


@pytest.fixture(params=anyio.get_available_backends())
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param, idle=0)  # nothing comes from outside, and there are hundreds of sleeps


class CancelledAtCheckpoint:
    """Runs a coroutine and cancels its scope when it is about to wait for the k-th time."""

    def __init__(self, coroutine: Awaitable[Any], k: int, scope: anyio.CancelScope) -> None:
        self._coroutine = coroutine
        self._left = k
        self._scope = scope

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._coroutine.__await__()
        send, value = steps.send, None
        while True:
            try:
                waits_for = send(value)
            except StopIteration as stop:
                return stop.value
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()
            try:
                send, value = steps.send, (yield waits_for)
            except BaseException as error:
                send, value = steps.throw, error


@la.actor
class Careful:
    """Starts, works and stops in several steps each."""

    alive = 0

    async def on_start(self) -> None:
        Careful.alive += 1
        await anyio.sleep(1)
        await la.spawn(Porter)
        await anyio.sleep(1)

    async def on_stop(self) -> None:
        await anyio.sleep(1)
        Careful.alive -= 1

    @la.handler
    async def work(self) -> int:
        await anyio.sleep(1)
        await anyio.sleep(1)
        return 1

    @la.handler(interleaved=True)
    async def work_aside(self) -> int:
        return await la.ref_of(self).work()

    @la.handler(interleaved=True)
    def work_later(self) -> la.Eventually[int]:
        return self.work_aside()

    @la.handler
    async def items(self) -> AsyncIterator[int]:
        for item in range(20):
            await anyio.sleep(1)
            yield item


async def spawn(careful: Careful) -> None:
    await la.spawn(Careful)


async def spawn_by_name(careful: Careful) -> None:
    await la.options(name="new", replace=True).spawn(Careful)
    await la.options(name="new", replace=True).spawn(Careful)


async def adopt(careful: Careful) -> None:
    await la.adopt(Careful())


async def ask(careful: Careful) -> None:
    await careful.work()


async def ask_aside(careful: Careful) -> None:
    await careful.work_aside()
    await careful.work_later()


async def tell(careful: Careful) -> None:
    await careful.work.tell()
    await careful.work.tell()
    await careful.work.tell()


async def consume(careful: Careful) -> None:
    async with aclosing(careful.items()) as items:
        async for _ in items:
            pass


async def stop(careful: Careful) -> None:
    await la.stop(careful)


async def watch(careful: Careful) -> None:
    await careful.work.tell()
    watched = la.watch(careful)
    async with anyio.create_task_group() as tg:
        tg.start_soon(la.stop, careful)
        await watched


async def nested(careful: Careful) -> None:
    async with la.open_system("inner") as inner:
        other = await inner.spawn(Careful)
        await other.work()


ACTS: list[Callable[[Careful], Awaitable[None]]] = [
    spawn,
    spawn_by_name,
    adopt,
    ask,
    ask_aside,
    tell,
    consume,
    stop,
    watch,
    nested,
]


@pytest.mark.parametrize("act", ACTS)
async def test_public_coroutine_cancelled_at_any_checkpoint_leaves_nothing_behind(
    act: Callable[[Careful], Awaitable[None]],
) -> None:
    await anyio.lowlevel.checkpoint()
    tasks_before = len(anyio.get_running_tasks())
    k = 0
    while True:
        k += 1
        assert k < 200
        async with la.open_system() as system:
            careful = await system.options(mailbox=1).spawn(Careful)
            with anyio.CancelScope() as scope:
                await CancelledAtCheckpoint(act(careful), k, scope)
            if la.is_running(careful):
                assert await careful.work() == 1
            assert all(child.state.name == "RUNNING" for child in system.children.values())
        await settle()
        assert Careful.alive == 0
        assert system.children == {}
        assert system.statistics().dead_letters == 0
        assert len(anyio.get_running_tasks()) == tasks_before
        if not scope.cancel_called:
            break
