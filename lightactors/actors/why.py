"""Why an actor died: what it was doing, what it died of, what it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightactors.actors.mailbox import sent
from lightactors.actors.tree import in_a_line, times
from lightactors.supervision.ladder import Rung

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell

SHOWN = 5
"""Messages left in the queue that an explanation shows."""


_CAUSES = 10
"""Causes of causes that an explanation shows."""


@dataclass(frozen=True)
class Death:
    """How one incarnation of an actor died."""

    address: str
    error: BaseException
    message: str | None = None  # what it was handling
    queued: tuple[str, ...] = ()  # what came next in its mailbox
    more_queued: int = 0
    exit: str | None = None  # how its process ended
    output: tuple[str, ...] = ()  # the last lines that its process printed

    def lines(self) -> list[str]:
        """Return the story, a line for each fact."""
        lines = [f"{self.address} died of {_chain(self.error)}"]
        if self.message is not None:
            lines.append(f"  while it handled {self.message}")
        if self.exit is not None and self.exit not in lines[0]:
            lines.append(f"  its process {self.exit}")
        if self.queued:
            more = f", and {self.more_queued} more" if self.more_queued else ""
            lines.append(f"  still queued: {', '.join(self.queued)}{more}")
        if self.output:
            lines += ["  its last output:", *(f"    {line}" for line in self.output)]
        return lines


def death_of(cell: Cell, error: BaseException, message: str | None) -> Death:
    """Write down how an actor dies, as long as its queue is there to be seen."""
    queue = list(cell.mailbox.queue)
    return Death(
        cell.address,
        error,
        message,
        tuple(str(sent(envelope)) for envelope in queue[:SHOWN]),
        max(0, len(queue) - SHOWN),
    )


def _chain(error: BaseException) -> str:
    """Return an error and what caused it, the first cause last."""
    links: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(links) < _CAUSES:
        links.append(in_a_line(cause))
        cause = cause.__cause__
    return ", because of ".join(links)


_TOOK = {
    Rung.DRAIN: "",
    Rung.INTERRUPT: ", and it had to be cancelled: it did not finish in time",
    Rung.TERMINATE: ", and its process had to be terminated by SIGTERM: it did not react to being interrupted",
    Rung.KILL: ", and its process had to be killed: it did not react to SIGTERM",
    Rung.ABANDON: ", and it had to be left behind: it did not react to anything",
}


@dataclass(frozen=True)
class Explanation:
    """What there is to say about an actor's end, or its health; printing it says it. See `why`."""

    path: str
    kind: str
    state: str
    restarts: int
    death: Death | None
    last_error: BaseException | None
    failed: int
    rung: Rung | None  # what it took to end it, if somebody else did

    def __str__(self) -> str:
        lines = [f"{self.path} ({self.kind}) is {self.state}{self._restarts()}"]
        if self.rung is not None:
            lines.append(f"somebody stopped it{_TOOK[self.rung]}")
        if self.death is not None:
            lines += self.death.lines()
        elif self.last_error is not None:
            lines.append(f"its handlers have failed {times(self.failed)}, last with {_chain(self.last_error)}")
        elif self.rung in (None, Rung.DRAIN):
            lines.append("nothing in it has failed")
        return "\n".join(lines)

    __repr__ = __str__

    def _restarts(self) -> str:
        return f", restarted {times(self.restarts)}" if self.restarts else ""


def explain(cell: Cell) -> Explanation:
    """Return all that is known of an actor's end."""
    return Explanation(
        cell.path,
        cell.kind,
        cell.state.name.lower(),
        cell.incarnation - 1,
        cell.death,
        cell.last_error,
        cell.failed,
        cell.rung,
    )
