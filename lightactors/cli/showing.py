"""`lightactors store show`: what is in a store that keeps it on a disk, in use or not."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import typer

from lightactors.actors.tree import counted, printable, size
from lightactors.cli.drawing import columns, duration, worker_lines
from lightactors.cli.exits import CommandError
from lightactors.training.records import ROLLOUT_STATUSES, AttemptedRollout, Rollout, Span
from lightactors.training.stores.sql.archive import Archive, Pace
from lightactors.training.tracing import semconv
from lightactors.training.tracing.rewards import find_final_reward

_FAILURES = 5
"""How many of the last failures are shown."""

_FEW = 10
"""Fewer ends say nothing of how quickly they come."""

_WIDTH = 100
"""Characters of a span's attributes that are shown."""


def show(url: str, *, as_json: bool) -> None:
    """Print what a store holds and how it goes."""
    with Archive(url) as archive:
        facts = _facts(archive)
        text = _dumped(facts) if as_json else "\n".join(_lines(archive, facts, time.time()))
    typer.echo(text)


def _facts(archive: Archive) -> dict[str, Any]:
    on_disk, used = archive.size_bytes()
    return {
        "store": archive.name,
        "size_bytes": on_disk,
        "used_bytes": used,
        "statuses": archive.counts(),
        "counters": archive.counters(),
        "resources": archive.resources(),
        "pace": archive.pace(),
        "workers": archive.workers(),
        "failures": [_failure(archive, rollout) for rollout in archive.rollouts(["failed"], _FAILURES)],
    }


def _failure(archive: Archive, rollout: Rollout) -> dict[str, Any]:
    attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else None
    return {
        "rollout_id": rollout.rollout_id,
        "end_time": rollout.end_time,
        "attempts": attempt.sequence_id if attempt else 0,
        "status": attempt.status if attempt else rollout.status,
        "error": _error(archive.spans(rollout.rollout_id)),
    }


def _error(spans: Sequence[Span]) -> str:
    """Return the last exception among spans, in a line."""
    for span in reversed(spans):
        said = span.attributes
        if semconv.EXCEPTION_TYPE in said:
            return f"{said[semconv.EXCEPTION_TYPE]}: {said.get(semconv.EXCEPTION_MESSAGE, '')}".partition("\n")[0]
    return ""


def _lines(archive: Archive, facts: Mapping[str, Any], now: float) -> list[str]:
    counters = facts["counters"]
    heads = [
        [f"{archive.name}: {counted(counters['rollouts'], 'rollout')}, {size(facts['size_bytes'])} on disk"],
        list(columns([[status, f"{count:>9,}"] for status, count in facts["statuses"].items() if count])),
        [
            f"{counted(counters['attempts'], 'attempt')}, {counted(counters['spans'], 'span')} "
            f"({size(counters['span_bytes'])}), {facts['resources']:,} resources",
            f"{counted(counters['fenced'], 'late report')} refused, {counted(counters['pruned'], 'rollout')} removed "
            "by retention",
            _pace(facts["pace"], now),
        ],
        worker_lines(facts["workers"], now),
        _failure_lines(facts["failures"], now),
    ]
    return [line for part in heads if part for line in [*part, ""]][:-1]


def _pace(pace: Pace | None, now: float) -> str:
    if pace is None or pace.count + 1 < _FEW:
        return "too few rollouts have ended to say how quickly they do"
    ends, latest = counted(pace.count + 1, "end"), _ago(pace.until, now)
    if pace.seconds < 1:
        return f"the last {ends} came within a second, {latest}"
    per_second = pace.count / pace.seconds
    rate = f"{per_second:,.1f} a second" if per_second >= 1 else f"{60 * per_second:.1f} a minute"
    return f"the last {ends} came at {rate}, the latest {latest}"


def _failure_lines(failures: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    if not failures:
        return []
    heading = ("last failures", "ended", "attempts", "as", "because of")
    rows = [
        (one["rollout_id"], _ago(one["end_time"], now), f"{one['attempts']}", one["status"], one["error"][:_WIDTH])
        for one in failures
    ]
    return list(columns([heading, *rows]))


def _ago(moment: float | None, now: float) -> str:
    return "" if moment is None else f"{duration(max(0.0, now - moment))} ago"


def show_rollouts(url: str, statuses: Sequence[str], limit: int, *, as_json: bool) -> None:
    """Print the newest rollouts."""
    for status in statuses:
        if status not in ROLLOUT_STATUSES:
            raise CommandError(f"--status {status!r} is none; choose from {', '.join(ROLLOUT_STATUSES)}")
    with Archive(url) as archive:
        rollouts = archive.rollouts(list(statuses) or None, limit)
        if as_json:
            typer.echo(_dumped([_plain(rollout) for rollout in rollouts]))
            return
        rows = [_rollout_row(archive, rollout, time.time()) for rollout in rollouts]
    heading = ("rollout", "mode", "status", "attempts", "worker", "began", "took", "reward")
    typer.echo("\n".join(columns([heading, *rows])) if rows else "there are no such rollouts")


def _rollout_row(archive: Archive, rollout: Rollout, now: float) -> tuple[str, ...]:
    attempt = rollout.attempt if isinstance(rollout, AttemptedRollout) else None
    spans = [] if attempt is None else archive.spans(rollout.rollout_id)
    reward = find_final_reward([span for span in spans if attempt and span.attempt_id == attempt.attempt_id])
    took = "" if attempt is None or attempt.end_time is None else duration(attempt.end_time - attempt.start_time)
    return (
        rollout.rollout_id,
        rollout.mode or "",
        rollout.status,
        f"{attempt.sequence_id if attempt else 0}",
        (attempt.worker_id or "") if attempt else "",
        _ago(rollout.start_time, now),
        took,
        "" if reward is None else f"{reward:g}",
    )


def show_spans(url: str, rollout_id: str, *, as_json: bool) -> None:
    """Print the spans of a rollout, in their order."""
    with Archive(url) as archive:
        content = archive.content(rollout_id)
    if content is None:
        raise CommandError(f"there is no rollout {rollout_id!r} in {archive.name}; --rollouts lists those there are")
    if as_json:
        typer.echo(_dumped(content))
        return
    numbers = {attempt.attempt_id: attempt.sequence_id for attempt in content.attempts}
    rows = [_span_row(span, numbers, content.rollout.start_time) for span in content.spans]
    heading = ("attempt", "span", "name", "after", "took", "status", "attributes")
    told = (content.rollout.rollout_id, content.rollout.status, counted(len(content.attempts), "attempt"))
    typer.echo("\n".join([", ".join(told), *(columns([heading, *rows]) if rows else ["it has no spans"])]))


def _span_row(span: Span, numbers: Mapping[str, int], began: float) -> tuple[str, ...]:
    start, end = span.start_time, span.end_time
    attributes = " ".join(f"{name}={value!r}" for name, value in span.attributes.items())
    return (
        f"{numbers.get(span.attempt_id, '')}",
        f"{span.sequence_id}",
        span.name,
        "" if start is None else f"{max(0.0, start - began):.3f} s",
        "" if start is None or end is None else f"{end - start:.3f} s",
        "" if span.status.status_code == "UNSET" else span.status.status_code,
        printable(attributes if len(attributes) <= _WIDTH else f"{attributes[: _WIDTH - 1]}…"),
    )


def _plain(value: object) -> Any:
    """Return a record as what JSON can hold."""
    return json.loads(msgspec.json.encode(value, enc_hook=_stand_in))


def _dumped(facts: object) -> str:
    return json.dumps(_plain(facts), indent=2)


def _stand_in(value: Any) -> object:
    """Return what stands for a value that JSON has no word for: an array's elements, or how Python shows it."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)
