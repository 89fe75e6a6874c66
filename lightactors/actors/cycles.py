"""Who waits for whom: an ask that could never be answered is refused instead of sent."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from lightactors.errors import AskCycle

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell

holder: ContextVar[Cell | None] = ContextVar("lightactors_holder", default=None)
"""The actor whose mailbox the running code holds while it waits; None in what is interleaved, and outside actors."""


def enter(asker: Cell, asked: Cell, ask: Any) -> None:
    """Note that the turn of `asker` waits for `asked`; raise `AskCycle` if `asked` can't answer before `asker` does."""
    # Noted before it is looked at: two actors in two threads may ask each other at the same moment.
    asker.waits_for.append((asked, ask))
    try:
        _refuse_cycle(asker, asked)
    except AskCycle:
        leave(asker, asked, ask)
        raise


def leave(asker: Cell, asked: Cell, ask: Any) -> None:
    """Note that it waits no more."""
    asker.waits_for.remove((asked, ask))


def _refuse_cycle(asker: Cell, asked: Cell) -> None:
    paths: list[tuple[Cell, ...]] = [(asked,)]
    while paths:
        path = paths.pop()
        if path[-1] is asker:
            names = " → ".join(cell.name for cell in (asker, *path))
            raise AskCycle(f"ask cycle {names}: each waits for the next; make one of the handlers interleaved")
        # What runs aside already needs no mailbox any more to be answered.
        waited = [cell for cell, ask in path[-1].waits_for if ask.give_up is None]
        paths += [(*path, cell) for cell in waited if cell not in path]
