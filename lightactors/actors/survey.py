"""A survey: the tree with what lives in other processes, each of which is asked for its own branch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import anyio

from lightactors.actors.mailbox import Ask
from lightactors.errors import check_seconds

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.owner import Owner
    from lightactors.actors.tree import Tree

logger = logging.getLogger("lightactors")

WITHIN = 1.0
"""Seconds that a process has to answer."""

_SHARE = 0.75
"""Of its own time, what a process gives those below it: it is to say in time who of them is silent."""

Words = Mapping["Cell", "Tree | None"]
"""What was said of actors by the processes in which they live; None: nothing in time."""


async def survey(owner: Owner, within: float) -> Tree:
    """Return an owner's tree with what lives in processes below it, all of them asked at once."""
    check_seconds("within", within)
    words: dict[Cell, Tree | None] = {}
    async with anyio.create_task_group() as askers:
        for cell in _elsewhere(owner):
            askers.start_soon(_hear, cell, within, words)
    return owner.snapshot(words)


def _elsewhere(owner: Owner) -> Iterator[Cell]:
    for child in list(owner.children.values()):
        if child.can_look():
            yield child
        yield from _elsewhere(child)


async def _hear(cell: Cell, within: float, words: dict[Cell, Tree | None]) -> None:
    asked = Ask(None, cell.loop)
    cell.order(cell.look, asked, within * _SHARE)
    try:
        with anyio.move_on_after(within):
            words[cell] = await asked.reply()
    except Exception as error:
        # It has just ended, or what it said made no sense: its parent's view will do.
        logger.warning("what is below actor %s is not in the survey: %s", cell.path, error)
    else:
        words.setdefault(cell, None)
    finally:
        if not asked.answered:
            cell.order(cell.abandon, asked)
