"""How an actor ended, told to whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Reason(Enum):
    """Why an actor is no more."""

    STOPPED = "stopped"  # it was asked to, and finished its queue
    INTERRUPTED = "interrupted"  # it was asked to, and cancelled before it had finished
    FINISHED = "finished"  # a behaviour returned
    FAILED = "failed"  # a told message, `on_start`, `on_stop` or a child raised
    ABANDONED = "abandoned"  # it did not react to being cancelled; its task or thread may still run


@dataclass(frozen=True)
class Terminated:
    """The actor behind `ref` has ended; no message will ever reach it again."""

    ref: Any
    reason: Reason
    error: BaseException | None = None
