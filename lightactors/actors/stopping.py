"""How an actor is asked and finally made to stop: the ladder, as far as it goes in one process."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterable
from enum import IntEnum
from types import FrameType
from typing import TYPE_CHECKING, Any

import anyio

from lightactors.actors.flag import Flag
from lightactors.actors.owner import State

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.loops import Loop

logger = logging.getLogger("lightactors")

_LAST_CHANCE = 0.1
"""Seconds that an actor has on a rung whose time its elder siblings have used up."""


class Rung(IntEnum):
    """What it took to end an actor, gentlest first."""

    DRAIN = 0  # its mailbox was closed; it finished its queue and ran `on_stop`
    INTERRUPT = 1  # it was cancelled
    ABANDON = 2  # it did not react; its task or thread was reported and left behind


async def stop_all(cells: Iterable[Cell], grace: float) -> list[Rung]:
    """Stop cells one after another; all of them share the time that each rung has."""
    drain = anyio.current_time() + grace
    return [await _climb(cell, drain, drain + grace) for cell in cells]


async def _climb(cell: Cell, drain: float, interrupt: float) -> Rung:
    ended = Flag()
    cell.when_ended(ended.set)
    rung = Rung.DRAIN
    with anyio.CancelScope(shield=True):
        cell.order(cell.close)
        if not await _before(drain, ended) and cell.state < State.LEAVING:
            rung = Rung.INTERRUPT
            logger.warning("actor %s had not finished its queue in time and is cancelled", cell.path)
            cell.order(cell.interrupt)
        if not ended.is_set() and not await _leaves(cell, ended, interrupt):
            rung = Rung.ABANDON
            _report(cell)
            cell.abandoned()
            await stop_all(reversed(list(cell.children.values())), 0)
    return rung


async def _leaves(cell: Cell, ended: Flag, deadline: float) -> bool:
    """Wait for the end. An actor that stops its children takes its time, as long as its loop turns."""
    grace = max(deadline - anyio.current_time(), _LAST_CHANCE)
    if await _before(deadline, ended):
        return True
    while cell.state == State.LEAVING and await _turns(cell.loop, grace):
        if await _before(anyio.current_time() + grace, ended):
            return True
    return ended.is_set()


async def _before(deadline: float, flag: Flag) -> bool:
    with anyio.CancelScope(deadline=max(deadline, anyio.current_time() + _LAST_CHANCE)):
        await flag.wait()
    return flag.is_set()


async def _turns(loop: Loop, grace: float) -> bool:
    answered = Flag()
    loop.post(answered.set)
    return await _before(anyio.current_time() + grace, answered)


def _report(cell: Cell) -> None:
    logger.error(
        "actor %s does not react to being cancelled and is left behind; it %s at:\n%s",
        cell.path,
        "blocks its thread" if cell.place == "thread" else "stays",
        stack_of(cell),
    )


def stack_of(cell: Cell) -> str:
    """Return the stack of an actor's thread, or of its task."""
    if cell.place == "thread":
        frame = frame_of(cell.loop.ident)
        return "".join(traceback.format_stack(frame)) if frame else "(its thread has ended)"
    return "".join(traceback.format_list(_awaits(cell.coroutine())))


def frame_of(thread: int) -> FrameType | None:
    """Return what a thread runs at this moment; None when it has ended."""
    return sys._current_frames().get(thread)  # noqa: SLF001 (documented, "for debugging")


def _awaits(coroutine: Any) -> traceback.StackSummary:
    frames: list[tuple[FrameType, int]] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
    return traceback.StackSummary.extract(iter(frames))
