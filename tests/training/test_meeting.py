"""Who attends a meeting, whatever links they come over."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import pytest
from anyio.abc import TaskGroup

import lightactors as la
from lightactors.training.events import ExecutionEvent
from lightactors.training.strategies.meeting import Attendance, Meeting


class Place:
    """A meeting and its attendance; a link is a task that attends until it is cut."""

    def __init__(self, meeting: Meeting, event: ExecutionEvent, attendance: Attendance, tasks: TaskGroup) -> None:
        self.meeting = meeting
        self.event = event
        self._attendance = attendance
        self._tasks = tasks

    async def link(self, name: str) -> anyio.CancelScope:
        scope = anyio.CancelScope()

        async def attend() -> None:
            with scope:
                await self.meeting.attend(name)

        self._tasks.start_soon(attend)
        await anyio.wait_all_tasks_blocked()
        return scope

    async def cut(self, link: anyio.CancelScope) -> None:
        link.cancel()
        await anyio.wait_all_tasks_blocked()

    async def is_empty(self) -> bool:
        with anyio.move_on_after(0.1):
            await self._attendance.until_all_have_left()
            return True
        return False


@pytest.fixture
async def place() -> AsyncGenerator[Place]:
    event, attendance = ExecutionEvent(), Attendance()
    async with la.open_system() as system, anyio.create_task_group() as tasks:
        yield Place(await system.spawn(Meeting, event, attendance), event, attendance, tasks)
        tasks.cancel_scope.cancel()


async def test_lost_link_is_an_end_of_the_attendance_after_a_while(place: Place) -> None:
    assert await place.is_empty()
    link = await place.link("r")
    assert not await place.is_empty()
    await place.cut(link)
    assert not await place.is_empty()
    await anyio.sleep(2)
    assert await place.is_empty()


async def test_who_lost_the_link_shortly_before_the_end_is_told_of_it(place: Place) -> None:
    await place.cut(await place.link("r"))
    place.event.set()
    assert not await place.is_empty()
    await place.link("r")
    await anyio.sleep(2)
    assert not await place.is_empty()
    await place.meeting.leave("r")
    assert await place.is_empty()


async def test_old_links_late_end_leaves_who_attends_again(place: Place) -> None:
    old = await place.link("r")
    await place.link("r")
    await place.cut(old)
    assert not await place.is_empty()


async def test_who_was_told_of_the_end_is_waited_for_until_it_leaves(place: Place) -> None:
    await place.link("r")
    await place.link("r")
    place.event.set()
    assert not await place.is_empty()
    await place.meeting.leave("r")
    assert await place.is_empty()


async def test_old_links_late_end_leaves_who_left_and_came_again(place: Place) -> None:
    old = await place.link("r")
    await place.meeting.leave("r")
    await place.link("r")
    await place.cut(old)
    assert not await place.is_empty()
