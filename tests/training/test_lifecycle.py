"""The tables: which status may follow which, and what an attempt's status does to its rollout."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest

from lightactors.errors import FencedAttempt, InvalidTransition
from lightactors.training import lifecycle
from lightactors.training.records import (
    ATTEMPT_STATUSES,
    ROLLOUT_STATUSES,
    Attempt,
    AttemptStatus,
    Rollout,
    RolloutConfig,
    RolloutStatus,
    WorkerStatus,
)


def attempt(status: AttemptStatus = "preparing", sequence_id: int = 1, **fields: Any) -> Attempt:
    fields |= {"rollout_id": "ro-1", "attempt_id": f"at-{sequence_id}", "sequence_id": sequence_id}
    return Attempt(start_time=0, status=status, **fields)


def rollout(status: RolloutStatus) -> Rollout:
    return Rollout(rollout_id="ro-1", input=None, start_time=0, status=status)


def test_tables_are_complete() -> None:
    assert set(lifecycle.ROLLOUT_TRANSITIONS) == set(ROLLOUT_STATUSES)
    assert set(lifecycle.ATTEMPT_TRANSITIONS) == set(lifecycle.WORKER_AFTER) == set(ATTEMPT_STATUSES)
    assert set(lifecycle.WORKER_AFTER.values()) == set(get_args(WorkerStatus))
    assert set(lifecycle.AFTER_SPAN) == set(lifecycle.AFTER_HEARTBEAT) == set(ATTEMPT_STATUSES) - lifecycle.ENDED
    assert {"succeeded", "failed", "timeout"} == lifecycle.ENDED


@pytest.mark.parametrize("before", ROLLOUT_STATUSES)
@pytest.mark.parametrize("after", ROLLOUT_STATUSES)
def test_only_a_finished_rollout_stays_what_it_is(before: RolloutStatus, after: RolloutStatus) -> None:
    if before in {"succeeded", "failed", "cancelled"} and before != after:
        with pytest.raises(InvalidTransition, match=f"rollout 'ro-1' is {before} and can't become {after}: that is"):
            lifecycle.check_rollout(rollout(before), after)
    else:
        lifecycle.check_rollout(rollout(before), after)


@pytest.mark.parametrize("before", ATTEMPT_STATUSES)
@pytest.mark.parametrize("after", ATTEMPT_STATUSES)
def test_attempt_goes_forward_only(before: AttemptStatus, after: AttemptStatus) -> None:
    back = after == "preparing" or before in {"succeeded", "failed", "timeout"}
    if before != after and back:
        with pytest.raises(InvalidTransition, match=f"attempt 'at-1' is {before} and can't become {after}"):
            lifecycle.check_attempt(attempt(before), after)
    else:
        lifecycle.check_attempt(attempt(before), after)


@pytest.mark.parametrize("status", ["preparing", "running", "succeeded"])
def test_rollout_is_what_its_attempt_is(status: AttemptStatus) -> None:
    config = RolloutConfig(max_attempts=9, retry_condition=ATTEMPT_STATUSES)
    assert lifecycle.rollout_after(attempt(status), config) == status


@pytest.mark.parametrize("status", ["failed", "timeout", "unresponsive"])
def test_failure_is_retried_where_asked_while_attempts_remain(status: AttemptStatus) -> None:
    retrying = RolloutConfig(max_attempts=2, retry_condition=[status])
    others: Any = sorted({"failed", "timeout", "unresponsive"} - {status})
    assert lifecycle.rollout_after(attempt(status, 1), retrying) == "requeuing"
    assert lifecycle.rollout_after(attempt(status, 2), retrying) == "failed"
    assert lifecycle.rollout_after(attempt(status), RolloutConfig(max_attempts=2, retry_condition=others)) == "failed"
    assert lifecycle.rollout_after(attempt(status), RolloutConfig(retry_condition=[status])) == "failed"


@pytest.mark.parametrize("status", ["queuing", "requeuing", "preparing", "running"])
def test_latest_attempt_may_speak_while_its_rollout_is_open(status: RolloutStatus) -> None:
    for own in ("preparing", "running", "unresponsive"):
        lifecycle.check_current(rollout(status), attempt(own), attempt(own))


@pytest.mark.parametrize(
    ("status", "mine", "latest", "reason"),
    [
        ("running", attempt("running"), attempt("running", 2), "attempt 'at-2' took its place"),
        ("requeuing", attempt("timeout"), attempt("timeout"), "it is timeout"),
        ("failed", attempt("unresponsive"), attempt("unresponsive"), "the rollout is failed"),
        ("cancelled", attempt("running"), attempt("running"), "the rollout is cancelled"),
    ],
)
def test_who_is_not_current_is_fenced(status: RolloutStatus, mine: Attempt, latest: Attempt, reason: str) -> None:
    with pytest.raises(FencedAttempt, match=f"attempt 'at-1' of rollout 'ro-1' may not report any more: {reason}"):
        lifecycle.check_current(rollout(status), mine, latest)


def test_only_an_end_is_repeated() -> None:
    ended = attempt("failed", worker_id="w")
    assert lifecycle.is_repetition(ended, {"status": "failed", "worker_id": "w"})
    assert not lifecycle.is_repetition(ended, {"status": "succeeded"})
    assert not lifecycle.is_repetition(ended, {"status": "failed", "worker_id": "other"})
    assert not lifecycle.is_repetition(attempt("running"), {"status": "running"})


def test_deadline_is_the_earlier_one() -> None:
    both = RolloutConfig(timeout_seconds=10, unresponsive_seconds=3)
    assert lifecycle.deadline(both, started=100, heard=101) == 104
    assert lifecycle.deadline(both, started=100, heard=109) == 110
    assert lifecycle.deadline(RolloutConfig(), started=100, heard=100) == math.inf


@pytest.mark.parametrize(
    ("now", "status"), [(103.9, None), (104, "unresponsive"), (109.9, "unresponsive"), (110, "timeout")]
)
def test_overdue_attempt_timed_out_before_it_was_silent(now: float, status: AttemptStatus | None) -> None:
    config = RolloutConfig(timeout_seconds=10, unresponsive_seconds=3)
    assert lifecycle.overdue(config, started=100, heard=101, now=now) == status
    assert lifecycle.overdue(RolloutConfig(), started=100, heard=101, now=now) is None
