"""How actors are asked and finally made to stop: up the ladder, in order and in a bounded time."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import traceback
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

import anyio

from lightactors.actors import loops
from lightactors.actors.flag import Flag
from lightactors.supervision.ladder import Ladder, Rung

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.loops import Loop
    from lightactors.actors.system import System

logger = logging.getLogger("lightactors")

_HERE = os.path.dirname(__file__)

_LAST_CHANCE = 0.1
"""Seconds that an actor has on a rung whose time those stopped before it have used up."""


_PUSHED = {
    Rung.INTERRUPT: "did not finish in time and is cancelled",
    Rung.TERMINATE: "did not react to being interrupted and is terminated",
    Rung.KILL: "did not react to being terminated and is killed",
}


async def stop_all(
    cells: Iterable[Cell], ladder: Ladder | None = None, *, together: bool = False, suspend: bool = False
) -> list[Rung]:
    """Stop cells; return the rung that each of them needed.

    All are told at once (`on_drain`). They drain in the order given, each as soon as the one before it has ended, or
    `together`. The time of all
    begins now: whoever has not drained by its deadline climbs on beside the others, not after them.
    `ladder` is for all of them (default: each has its own). `suspend` keeps their queues for
    the incarnation that is to follow.
    """
    begin = anyio.current_time()
    climbs = [_Climb(cell, ladder or cell.ladder, begin, suspend) for cell in cells]
    with anyio.CancelScope(shield=True):
        with _hurried(climbs):
            await _drain(climbs, together)
        stubborn = [climb for climb in climbs if not climb.ended.is_set()]
        if len(stubborn) == 1:
            await stubborn[0].climb()
        elif stubborn:
            async with anyio.create_task_group() as climbers:
                for climb in stubborn:
                    climbers.start_soon(climb.climb)
        for climb in climbs:
            climb.finish()
    return [climb.rung for climb in climbs]


@contextmanager
def _hurried(climbs: list[_Climb]) -> Generator[None]:
    """Cut the drain short as soon as the system is in a hurry."""
    here = loops.current()
    with ExitStack() as waking:
        # Once for all cells of a system: ten thousand waiters of one flag would take seconds to come and go.
        for system in {climb.cell.system for climb in climbs}:
            waking.enter_context(system.hurry.waking(partial(_hurry, climbs, system), here))
        yield


def _hurry(climbs: list[_Climb], system: System) -> None:
    for climb in climbs:
        if climb.cell.system is system:
            climb.drained.set()


async def _drain(climbs: list[_Climb], together: bool) -> None:
    late: list[_Climb] = []
    for climb in climbs:
        climb.announce()
    for group in [climbs] if together and climbs else _in_order(climbs):
        for climb in group:
            climb.drain()
        if anyio.current_time() >= group[0].deadline:
            late += group
        for climb in group:
            await _before(climb.deadline, climb.drained)
    last_chance = anyio.current_time() + _LAST_CHANCE
    for climb in climbs:
        await _before(last_chance if climb in late else climb.deadline, climb.drained)


def _in_order(climbs: list[_Climb]) -> list[list[_Climb]]:
    """Return who drains when: one after the other, but processes that stand side by side together.

    Each of them takes milliseconds at best, and one that hangs must not take the time of all.
    """
    return [
        climbs_here
        for is_process, group in itertools.groupby(climbs, key=lambda climb: climb.cell.place == "process")
        for climbs_here in ([list(group)] if is_process else [[climb] for climb in group])
    ]


class _Climb:
    """One cell on its way up the ladder."""

    def __init__(self, cell: Cell, ladder: Ladder, begin: float, suspend: bool) -> None:
        self.rung = Rung.DRAIN
        self.deadline = begin + ladder.drain
        self.ended = Flag()
        self.drained = Flag()  # it has ended, or somebody is in a hurry
        self.cell = cell
        self._ladder = ladder
        self._suspend = suspend
        if suspend:
            cell.when_at_rest(self._has_ended)
        else:
            cell.when_ended(self._has_ended)

    def _has_ended(self, *_: object) -> None:
        self.ended.set()
        self.drained.set()

    def announce(self) -> None:
        """Let the actor know that it is to stop, while those before it in line still drain."""
        if not self._suspend:
            self.cell.order(self.cell.tell_that_it_drains)

    def drain(self) -> None:
        self.cell.order(self.cell.suspend if self._suspend else self.cell.close)

    async def climb(self) -> None:
        """Push harder and harder; report the cell, and leave it behind, if nothing helps."""
        cell = self.cell
        for rung, push in cell.pushes():
            if cell.takes(rung):
                self.rung = rung
                logger.warning("actor %s %s", cell.path, _PUSHED[rung])
                cell.order(push)
            if await _before(anyio.current_time() + max(self._ladder.grace(rung), _LAST_CHANCE), self.ended):
                return
        if not await self._takes_its_time():
            self.rung = Rung.ABANDON
            logger.error("actor %s %s", cell.path, cell.why_it_stays())
            cell.abandoned()
            await stop_all(reversed(list(cell.children.values())), Ladder(0, 0, 0, 0))

    async def _takes_its_time(self) -> bool:
        """Wait for an actor that stops its children, as long as its loop turns; tell whether it has ended."""
        cell = self.cell
        has_children = True
        while has_children and cell.leaves() and await _turns(cell.loop, self._ladder.interrupt + _LAST_CHANCE):
            has_children = bool(cell.children)  # without any, only `on_stop` is left, which has a grace of its own
            if await _before(anyio.current_time() + cell.ladder.drain + _LAST_CHANCE, self.ended):
                return True
        return self.ended.is_set()

    def finish(self) -> None:
        cell = self.cell
        if not self._suspend:
            cell.rung = cell.rung or self.rung
        if cell.thread is not None and self.rung is not Rung.ABANDON and not self._suspend:
            # Its own word that it has left may still be on the way to this loop; the name is to be free now.
            cell.owner.order(cell.leave_the_tree)


async def _before(deadline: float, flag: Flag) -> bool:
    if flag.is_set():  # most actors end as soon as they are told to; a scope costs more than their whole end
        return True
    with anyio.CancelScope(deadline=deadline):
        await flag.wait()
    return flag.is_set()


async def _turns(loop: Loop, grace: float) -> bool:
    answered = Flag()
    loop.post(answered.set)
    return await _before(anyio.current_time() + grace, answered)


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
