"""Who has children: a system, or the cell of an actor that spawned some. Together they are the tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from lightactors.actors import loops
from lightactors.actors.stopping import stop_all
from lightactors.actors.survey import WITHIN, Words, survey
from lightactors.errors import NameTaken, SpawnError

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.keeper import Keeper
    from lightactors.actors.loops import Loop
    from lightactors.actors.system import System
    from lightactors.actors.tree import Tree

current: ContextVar[Owner | None] = ContextVar("lightactors_owner", default=None)
"""Where the running code belongs: inside an actor its cell, inside `open_system` the system."""


def here() -> Owner | None:
    """Return where the running code belongs, also in a handler that runs in its caller."""
    inline: Owner | None = loops.current().inline
    return inline or current.get()


class State(IntEnum):
    """Where in its life an actor is."""

    STARTING = 0
    RUNNING = 1
    DRAINING = 2  # the mailbox is closed, the queue is being finished
    LEAVING = 3  # the children are stopped, then `on_stop` runs
    RESTARTING = 4  # between two incarnations; messages wait
    STOPPED = 5


class Owner(ABC):
    """A branch of the tree. What happens to a child is told to its owner, on the owner's loop."""

    __slots__ = ()

    name: str
    loop: Loop
    system: System
    children: dict[str, Cell]
    keeper: Keeper | None  # who starts the children again, where some are to be

    @abstractmethod
    def keep_children(self, keeper: Keeper) -> None:
        """From now on have `keeper` start children again."""

    @abstractmethod
    def child_failed(self, child: Cell, error: BaseException) -> None:
        """Hear that a child has ended because of `error`."""

    @abstractmethod
    def shut_down(self) -> None:
        """End, because the significant children have ended."""

    @abstractmethod
    def refusal(self) -> str | None:
        """Say why no child may start here now; None: it may."""

    @property
    @abstractmethod
    def path(self) -> str:
        """The names from the root to here, with slashes."""

    def enter(self, child: Cell) -> None:
        """Take a child in under its name; from any thread."""
        if (reason := self.refusal()) is not None:
            raise SpawnError(f"can't spawn {child.name!r}: {reason}")
        if self.keeper is not None and self.keeper.takes(child.options):
            child.kept_by = self.keeper
        holder = self.children.setdefault(child.name, child)
        if holder is not child:
            raise NameTaken(
                f"{holder.kind} {child.name!r} is running here already; choose another name or pass replace=True"
            )

    def child_ended(self, child: Cell) -> None:
        """Hear that a child has ended, however."""
        if self.children.get(child.name) is child:
            del self.children[child.name]

    async def stop_children(self) -> None:
        """Stop the children, the youngest first, and whatever is being started again."""
        if self.keeper is not None:
            await self.keeper.close()
        if self.children:
            together = self.keeper is not None and self.keeper.policy.together
            await stop_all(reversed(list(self.children.values())), together=together)

    # Looking

    @abstractmethod
    def snapshot(self, words: Words) -> Tree:
        """Return the tree from here on, with what processes have said of the actors in them."""

    def branches(self, words: Words) -> list[Tree]:
        return [child.snapshot(words) for child in list(self.children.values())]

    def tree(self) -> Tree:
        """Return a snapshot of the tree; printing it draws it.

        It has what this process knows: of an actor in a process of its own nothing that is below it. See `survey`.
        """
        return self.snapshot({})

    async def survey(self, *, within: float = WITHIN) -> Tree:
        """Return a snapshot of the tree, processes included: those are asked, all at once, for what is in them.

        One that has not answered after `within` seconds is shown as its parent sees it, and as not answering.
        """
        return await survey(self, within)

    def order(self, function: Any, *args: Any) -> None:
        """Call `function` on this owner's loop: at once if that is where we are, else soon."""
        self.loop.order(function, *args)
