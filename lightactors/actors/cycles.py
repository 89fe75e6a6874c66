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
    asked_by = {asked: asker}
    pending = [asked]
    while pending:
        cell = pending.pop()
        if cell is asker:
            names = _names(asker, asked_by)
            raise AskCycle(f"ask cycle {names}: each waits for the next; make one of the handlers interleaved")
        for waited, ask in cell.waits_for:
            # What runs aside already needs no mailbox any more to be answered.
            if ask.give_up is None and waited not in asked_by:
                asked_by[waited] = cell
                pending.append(waited)


def _names(asker: Cell, asked_by: dict[Cell, Cell]) -> str:
    names, cell = [asker.name], asked_by[asker]
    while cell is not asker:
        names.append(cell.name)
        cell = asked_by[cell]
    return " → ".join([asker.name, *reversed(names)])
