"""What is done with a ref besides sending to it: stop it, watch it, look at it.

Functions and not methods, because the names on a ref are the actor's own.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import anyio

from lightactors.actors import owner as owners
from lightactors.actors.cell import Cell
from lightactors.actors.flag import Flag
from lightactors.actors.owner import Owner
from lightactors.actors.ref import cell_of
from lightactors.actors.stopping import stop_all
from lightactors.actors.terminated import Terminated
from lightactors.actors.tree import Statistics
from lightactors.actors.why import Explanation, explain
from lightactors.supervision.ladder import Ladder, Rung, ladder_of


async def stop(ref: object, *, grace: float | Ladder | None = None) -> Rung:
    """Stop an actor and its children; return the rung that did it.

    It takes no more messages, finishes those it has, stops its children, youngest first, and runs `on_stop`.
    After `grace` seconds (default: its own, or its system's) it is cancelled; after as many again it is reported,
    with its stack, and left behind. A process is also terminated and killed, with everything it has started; a
    `Ladder` gives each rung its own time. It is not started again, whatever its `restart`. Stopping a stopped actor
    does nothing. An actor that stops itself, or an owner of its own, does not wait for the end; one that stops
    itself has ended by its own wish, and a permanent one is started again.

    Raises `AccessDenied` for an actor of another node where this program is no admin.
    """
    cell = cell_of(ref, "stop()")
    cell.see_it_may_be_stopped()
    ladder = None if grace is None else ladder_of(grace)
    here = owners.here()
    if _is_inside(here, cell):
        cell.order(cell.shut_down if here is cell else cell.close)
        await anyio.lowlevel.checkpoint()
        return Rung.DRAIN
    rungs = await stop_all([cell], ladder)
    return rungs[0]


def _is_inside(here: Owner | None, cell: Cell) -> bool:
    while isinstance(here, Cell):
        if here is cell:
            return True
        here = here.owner
    return False


class Watch:
    """The end of an actor, to be awaited: `terminated = await watch(ref)`."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    async def _wait(self) -> Terminated:
        ended, told = Flag(), list[Terminated]()

        def tell(terminated: Terminated) -> None:
            told.append(terminated)
            ended.set()

        self._cell.when_ended(tell)
        try:
            await ended.wait()
        finally:
            self._cell.forget(tell)
        return told[0]

    def __await__(self) -> Generator[Any, Any, Terminated]:
        return self._wait().__await__()

    def __repr__(self) -> str:
        return f"<watch on {self._cell.ref!r}>"


def watch(ref: object) -> Watch:
    """Be told of an actor's end: await the result for its `Terminated`.

    Called inside an actor, it also sends the `Terminated` to that actor as a signal, which overtakes messages:
    to `on_terminated(self, terminated)` of a class that has it, or into the mailbox of a behaviour. An actor
    that watches a child in this way goes on when the child fails; otherwise it fails with it.
    """
    cell = cell_of(ref, "watch()")
    watcher = owners.here()
    if isinstance(watcher, Cell) and watcher is not cell and watcher.hears_signals():
        watcher.watches(cell)
    return Watch(cell)


def statistics(ref: object) -> Statistics:
    """Return what an actor has done and has before it."""
    return cell_of(ref, "statistics()").statistics()


def why(ref: object) -> Explanation:
    """Explain an actor's end; printing the result tells it.

    It has what the actor died of, with the causes, what it was handling, what was still queued, and for a process how
    that ended and what it printed last. For an actor that was started again it is about the death before that.
    """
    return explain(cell_of(ref, "why()"))
