"""How an actor is asked and finally made to stop: the ladder, as far as it goes in one process."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterable
from enum import Enum, auto
from types import FrameType
from typing import TYPE_CHECKING, Any

import anyio

from lightactors.actors import loops
from lightactors.actors.flag import Flag
from lightactors.actors.owner import State

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.loops import Loop

logger = logging.getLogger("lightactors")

_HERE = os.path.dirname(__file__)

_LAST_CHANCE = 0.1
"""Seconds that an actor has on a rung whose time those stopped before it have used up."""


class Rung(Enum):
    """What it took to end an actor, gentlest first."""

    DRAIN = auto()  # its mailbox was closed; it finished its queue and ran `on_stop`
    INTERRUPT = auto()  # it was cancelled
    ABANDON = auto()  # it did not react; its task or thread was reported and left behind


async def stop_all(cells: Iterable[Cell], grace: float, interrupt_grace: float | None = None) -> list[Rung]:
    """Stop cells one after another; all of them share the time that each rung has.

    They may drain for `grace` seconds, and have `interrupt_grace` (default: as many) to react to being cancelled.
    """
    drain = anyio.current_time() + grace
    interrupt = drain + (grace if interrupt_grace is None else interrupt_grace)
    return [await _climb(cell, drain, interrupt) for cell in cells]


async def _climb(cell: Cell, drain: float, interrupt: float) -> Rung:
    ended = Flag()
    cell.when_ended(ended.set)
    rung = Rung.DRAIN
    with anyio.CancelScope(shield=True):
        cell.order(cell.close)
        if not await _drains(cell, drain, ended) and cell.state < State.LEAVING:
            rung = Rung.INTERRUPT
            logger.warning("actor %s did not finish in time and is cancelled", cell.path)
            cell.order(cell.interrupt)
        if not ended.is_set() and not await _leaves(cell, ended, interrupt):
            rung = Rung.ABANDON
            _report(cell)
            cell.abandoned()
            await stop_all(reversed(list(cell.children.values())), 0)
        elif cell.thread is not None:
            # Its own word that it has left may still be on the way to this loop; the name is to be free now.
            cell.owner.order(cell.leave_the_tree)
    return rung


async def _drains(cell: Cell, deadline: float, ended: Flag) -> bool:
    """Wait for the end, as long as nobody is in a hurry."""
    over = Flag()
    cell.when_ended(over.set)
    with cell.system.hurry.waking(over.set, loops.current()):
        await _before(deadline, over)
    return ended.is_set()


async def _leaves(cell: Cell, ended: Flag, deadline: float) -> bool:
    """Wait for the end. An actor that stops its children takes its time, as long as its loop turns."""
    grace = max(deadline - anyio.current_time(), _LAST_CHANCE)
    if await _before(deadline, ended):
        return True
    has_children = True
    while has_children and cell.state == State.LEAVING and await _turns(cell.loop, grace):
        has_children = bool(cell.children)  # without any, only `on_stop` is left, which has a grace of its own
        if await _before(anyio.current_time() + cell.system.grace + _LAST_CHANCE, ended):
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
        "actor %s does not react to being cancelled and is left behind; its %s is at:\n%s",
        cell.path,
        cell.place,
        stack_of(cell),
    )


def stack_of(cell: Cell) -> str:
    """Return the stack of an actor's thread, or of its task."""
    if cell.place != "thread":
        return readable_stack(_awaits(cell.coroutine()))
    frame = frame_of(cell.loop.ident)
    return readable_stack(traceback.extract_stack(frame)) if frame else "(its thread has ended)"


def readable_stack(stack: traceback.StackSummary) -> str:
    """Return a stack as text, from where the user's code begins."""
    ours = [number for number, frame in enumerate(stack) if os.path.dirname(frame.filename) == _HERE]
    begin = ours[-1] + 1 if ours and ours[-1] + 1 < len(stack) else 0
    return "".join(traceback.format_list(stack[begin:]))


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
