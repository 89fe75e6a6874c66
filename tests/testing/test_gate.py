"""The gate holds, tells who came, and lets go."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from lightactors.testing import Gate


async def test_gate_holds_until_it_is_opened() -> None:
    gate = Gate()
    passed: list[int] = []

    async def walker(number: int) -> None:
        await gate.wait()
        passed.append(number)

    async with anyio.create_task_group() as tg:
        tg.start_soon(walker, 1)
        tg.start_soon(walker, 2)
        await anyio.wait_all_tasks_blocked()
        assert passed == []
        gate.open()

    assert sorted(passed) == [1, 2]


async def test_reached_waits_for_the_first_to_come() -> None:
    gate = Gate()
    seen: list[str] = []

    async def watcher() -> None:
        await gate.reached()
        seen.append("reached")

    async with anyio.create_task_group() as tg:
        tg.start_soon(watcher)
        await anyio.wait_all_tasks_blocked()
        assert seen == []
        tg.start_soon(gate.wait)
        await gate.reached()
        gate.open()

    assert seen == ["reached"]


async def test_open_gate_holds_nobody() -> None:
    gate = Gate()
    gate.open()
    with anyio.fail_after(1):
        await gate.wait()
        await gate.reached()
