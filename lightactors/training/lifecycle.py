"""Which status may follow which, and what an attempt's status means for its rollout and its worker.

Plain functions over tables; the clock is passed in. Every engine of the store decides with them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from lightactors.errors import FencedAttempt, InvalidTransition
from lightactors.training.records import (
    ROLLOUT_STATUSES,
    Attempt,
    AttemptStatus,
    Rollout,
    RolloutConfig,
    RolloutStatus,
    WorkerStatus,
)

S = TypeVar("S", bound=str)

QUEUEING: frozenset[RolloutStatus] = frozenset({"queuing", "requeuing"})
WATCHED: frozenset[RolloutStatus] = frozenset({"preparing", "running"})
FINISHED: frozenset[RolloutStatus] = frozenset({"succeeded", "failed", "cancelled"})

_ANY: frozenset[RolloutStatus] = frozenset(ROLLOUT_STATUSES)
_NONE: frozenset[RolloutStatus] = frozenset()

# Of its own accord a rollout only follows its latest attempt (`rollout_after`); whoever updates it by hand may
# set what they like, except that the end is the end.
ROLLOUT_TRANSITIONS: Mapping[RolloutStatus, frozenset[RolloutStatus]] = {
    status: _NONE if status in FINISHED else _ANY for status in ROLLOUT_STATUSES
}

# An attempt may end without ever having been `running`: one that sends no spans says only how it ended. And one
# that was given up for unresponsive speaks again with whatever it says next, be it its end.
ATTEMPT_TRANSITIONS: Mapping[AttemptStatus, frozenset[AttemptStatus]] = {
    "preparing": frozenset({"running", "succeeded", "failed", "timeout", "unresponsive"}),
    "running": frozenset({"succeeded", "failed", "timeout", "unresponsive"}),
    "unresponsive": frozenset({"running", "succeeded", "failed", "timeout"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "timeout": frozenset(),
}
ENDED: frozenset[AttemptStatus] = frozenset(status for status, after in ATTEMPT_TRANSITIONS.items() if not after)
ALIVE: frozenset[AttemptStatus] = frozenset({"preparing", "running"})

# A span shows work; a bare heartbeat only that somebody is there.
AFTER_SPAN: Mapping[AttemptStatus, AttemptStatus] = {
    "preparing": "running",
    "running": "running",
    "unresponsive": "running",
}
AFTER_HEARTBEAT: Mapping[AttemptStatus, AttemptStatus] = {**AFTER_SPAN, "preparing": "preparing"}

_ROLLOUT_FOLLOWS: Mapping[AttemptStatus, RolloutStatus] = {
    "preparing": "preparing",
    "running": "running",
    "succeeded": "succeeded",
}

WORKER_AFTER: Mapping[AttemptStatus, WorkerStatus] = {
    "preparing": "busy",
    "running": "busy",
    "succeeded": "idle",
    "failed": "idle",
    "timeout": "unknown",
    "unresponsive": "unknown",
}


def rollout_after(attempt: Attempt, config: RolloutConfig, given_back: int = 0) -> RolloutStatus:
    """Return what its latest attempt makes of a rollout; `given_back` of those before do not count."""
    if attempt.status in _ROLLOUT_FOLLOWS:
        return _ROLLOUT_FOLLOWS[attempt.status]
    may_retry = attempt.status in config.retry_condition and attempt.sequence_id - given_back < config.max_attempts
    return "requeuing" if may_retry else "failed"


def was_given_back(attempt: Attempt) -> bool:
    """Tell whether nobody worked on an attempt to its end: it has an end time, and no status that is an end."""
    return attempt.end_time is not None and attempt.status in ALIVE


def check_rollout(rollout: Rollout, status: RolloutStatus) -> None:
    """Raise `InvalidTransition` unless the rollout may become `status`; what it is already, it may stay."""
    allowed = ROLLOUT_TRANSITIONS[rollout.status]
    if status not in allowed and status != rollout.status:
        raise _illegal(f"rollout {rollout.rollout_id!r}", rollout.status, status, allowed)


def check_attempt(attempt: Attempt, status: AttemptStatus) -> None:
    """Raise `InvalidTransition` unless the attempt may become `status`; what it is already, it may stay."""
    allowed = ATTEMPT_TRANSITIONS[attempt.status]
    if status not in allowed and status != attempt.status:
        raise _illegal(f"attempt {attempt.attempt_id!r}", attempt.status, status, allowed)


def _illegal(what: str, now: str, then: str, allowed: frozenset[S]) -> InvalidTransition:
    cure = f"it can become {', '.join(sorted(allowed))}" if allowed else "that is final; enqueue a new rollout"
    return InvalidTransition(f"{what} is {now} and can't become {then}: {cure}")


def check_current(rollout: Rollout, attempt: Attempt, latest: Attempt) -> None:
    """Raise `FencedAttempt` unless the attempt may still speak for its rollout.

    It may while it has not ended, no later one was started and the rollout is open. An unresponsive attempt
    whose rollout waits for the next one is therefore welcome back until somebody claims that: it leaves the
    queue again, so that the work is not done twice.
    """
    if reason := _fence(rollout, attempt, latest):
        raise FencedAttempt(
            f"attempt {attempt.attempt_id!r} of rollout {rollout.rollout_id!r} may not report any more: {reason}; "
            "drop what it did and claim other work"
        )


def _fence(rollout: Rollout, attempt: Attempt, latest: Attempt) -> str | None:
    if attempt.attempt_id != latest.attempt_id:
        return f"attempt {latest.attempt_id!r} took its place"
    if rollout.status in FINISHED:
        return f"the rollout is {rollout.status}"
    return f"it is {attempt.status}" if attempt.status in ENDED else None


def is_repetition(attempt: Attempt, changes: Mapping[str, object]) -> bool:
    """Tell whether an attempt that has ended only says so again, as it does when the first answer was lost."""
    return attempt.status in ENDED and all(getattr(attempt, name) == value for name, value in changes.items())


def deadline(config: RolloutConfig, started: float, heard: float) -> float:
    """Return when the attempt will be overdue, on the clock of `started` and `heard`; infinite for never."""
    return min(_after(started, config.timeout_seconds), _after(heard, config.unresponsive_seconds))


def overdue(config: RolloutConfig, started: float, heard: float, now: float) -> AttemptStatus | None:
    """Return what an attempt is by now that started and was last heard of then; None while it is in time."""
    if _after(started, config.timeout_seconds) <= now:
        return "timeout"
    return "unresponsive" if _after(heard, config.unresponsive_seconds) <= now else None


def _after(moment: float, seconds: float | None) -> float:
    return math.inf if seconds is None else moment + seconds
