"""The ladder: what is done to make an actor end, gentlest first, and how long each rung waits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from lightactors.errors import check_seconds


class Rung(Enum):
    """What it took to end an actor, gentlest first."""

    DRAIN = auto()  # its mailbox was closed; it finished its queue and ran `on_stop`
    INTERRUPT = auto()  # it was cancelled; a process got SIGINT
    TERMINATE = auto()  # a process got SIGTERM, and SIGCONT in case it was stopped
    KILL = auto()  # a process got SIGKILL, and every descendant of its
    ABANDON = auto()  # nothing helped; its task, thread or process was reported and left behind


GRACE = 5.0
"""Seconds that each rung waits unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """How many seconds each rung waits for the end before the next one is climbed.

    What lives in this process knows only the first two: Python can kill neither a task nor a thread.
    """

    drain: float = GRACE
    interrupt: float = GRACE
    terminate: float = GRACE
    kill: float = GRACE

    def __post_init__(self) -> None:
        for rung in ("drain", "interrupt", "terminate", "kill"):
            check_seconds(rung, getattr(self, rung))

    def grace(self, rung: Rung) -> float:
        """Return the seconds that a rung waits."""
        seconds: float = getattr(self, rung.name.lower())
        return seconds


def ladder_of(grace: float | Ladder, name: str = "grace") -> Ladder:
    """Return a ladder; one number is the grace of each rung."""
    return grace if isinstance(grace, Ladder) else Ladder(*[check_seconds(name, grace)] * 4)
