"""What the queue tells of itself, as it travels."""

from __future__ import annotations

from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")

WorkerStatus: TypeAlias = Literal["idle", "busy", "gone"]
"""It may claim and holds nothing; it holds tasks; it has left, or its end was heard."""


class Claim(msgspec.Struct, Generic[T], frozen=True, array_like=True):
    """A task that one worker holds. The number is the claim's own: claimed again, the task has another one."""

    number: int
    task: T


class WorkerState(msgspec.Struct, Generic[T], frozen=True):
    """What a worker is at: for how many seconds it has been idle, busy or gone, and which tasks it holds."""

    status: WorkerStatus
    seconds: float
    tasks: list[T]


class QueueStatistics(msgspec.Struct, frozen=True):
    """The queue's figures: what there is now, and what has been since it was started."""

    ready: int
    held: int
    claims_waiting: int
    idle: int
    busy: int
    gone: int
    added: int
    finished: int
    given_back: int
