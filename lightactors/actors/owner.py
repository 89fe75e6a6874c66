"""Who has children: a system, or the cell of an actor that spawned some. Together they are the tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from lightactors.actors import loops
from lightactors.actors.stopping import stop_all
from lightactors.errors import NameTaken, SpawnError

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.keeper import Keeper
    from lightactors.actors.loops import Loop
    from lightactors.actors.system import System

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


@dataclass(frozen=True)
class ProcessFigures:
    """What an actor's process uses."""

    pid: int
    started: float  # seconds since the epoch
    cpu: float  # seconds of processor time so far
    memory: int  # bytes of it in memory, those shared with its siblings too
    exit: str | None = None  # how it ended

    def __str__(self) -> str:
        if self.exit is not None:
            return f"process {self.pid} {self.exit}"
        return f"process {self.pid}, {self.cpu:.1f} s, {self.memory / 2**20:.0f} MB"


@dataclass(frozen=True)
class Statistics:
    """What one actor has done and has before it."""

    name: str
    state: str
    place: str
    mailbox: int  # messages queued
    capacity: float
    senders_waiting: int
    interleaved: int  # handlers and streams that wait outside the mailbox
    handled: int  # messages handled, with or without an error
    failed: int  # of those, how many raised
    restarts: int
    children: int
    process: ProcessFigures | None = None


@dataclass(frozen=True)
class Tree:
    """A snapshot of an actor, or a system, and what it has spawned; printing it draws it."""

    name: str
    kind: str
    statistics: Statistics | None
    last_error: BaseException | None
    children: list[Tree]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__  # so that a notebook or a prompt draws it too

    def lines(self) -> list[str]:
        """Return the drawing, a line for each actor."""
        lines = [self._line()]
        for child in self.children:
            last = child is self.children[-1]
            first, *rest = child.lines()
            lines.append(("└── " if last else "├── ") + first)
            lines += [("    " if last else "│   ") + line for line in rest]
        return lines

    def _line(self) -> str:
        if self.statistics is None:
            return f"{self.name} ({self.kind})"
        facts = [self.statistics.state]
        if self.statistics.process is not None:
            facts.append(str(self.statistics.process))
        elif self.statistics.place != "task":
            facts.append(self.statistics.place)
        if self.statistics.mailbox:
            facts.append(f"{self.statistics.mailbox} queued")
        facts.append(f"{self.statistics.handled} handled")
        if self.statistics.restarts:
            facts.append(f"{self.statistics.restarts} restarts")
        if self.last_error is not None:
            facts.append(f"last error {_short(self.last_error)}")
        return f"{self.name} ({self.kind}): " + ", ".join(facts)


def _short(error: BaseException) -> str:
    first, *more = repr(error).split("\\n", 1)
    return f"{first} …" if more else first


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

    def branches(self) -> list[Tree]:
        return [child.tree() for child in list(self.children.values())]

    def order(self, function: Any, *args: Any) -> None:
        """Call `function` on this owner's loop: at once if that is where we are, else soon."""
        self.loop.order(function, *args)
