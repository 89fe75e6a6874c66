"""What every runner was told, written down where its death can't take it, and whether the store agrees.

An event is written with one `write` to a file that all append to: a process that is killed has written it, or nearly
always not. What is cut off counts as not written.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from lightactors.training.records import Attempt, Rollout, Span

What = Literal["claimed", "numbered", "span asked", "span kept", "span refused", "asked", "acknowledged", "refused"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a runner was about to ask, or was told, about an attempt, by the machine's monotonic clock."""

    at: float
    worker: str
    what: What
    rollout: str
    attempt: str
    sequence: int = 0  # of the span, or the attempt that was claimed


class Pen:
    """A runner's hold on the history."""

    def __init__(self, path: Path, worker: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._worker = worker

    def note(self, what: What, attempt: Attempt, sequence: int = 0) -> None:
        event = Event(time.monotonic(), self._worker, what, attempt.rollout_id, attempt.attempt_id, sequence)
        os.write(self._file, msgspec.json.encode(event) + b"\n")


def read(path: Path) -> list[Event]:
    """Return what was written; where a kill has cut an event off, the next one follows on the same line."""
    whole = (line[line.rindex(b'{"at"') :] for line in path.read_bytes().splitlines() if b'{"at"' in line)
    return [msgspec.json.decode(line, type=Event) for line in whole]


class Kept(msgspec.Struct, frozen=True):
    """What the store has of a rollout in the end."""

    rollout: Rollout
    attempts: Sequence[Attempt]
    spans: Sequence[Span]


Key = tuple[str, str]
"""A rollout's id and that of an attempt."""


class Verdict(msgspec.Struct):
    """What is wrong, and figures."""

    wrong: list[str]
    refused: int
    unanswered: int
    attempts: int

    def check(self) -> None:
        assert not self.wrong, f"{len(self.wrong)} things are wrong, such as\n" + "\n".join(self.wrong[:20])


def judge(events: Sequence[Event], kept: Sequence[Kept]) -> Verdict:
    """Compare what runners were told with what the store has, once all is quiet."""
    wrong = [
        *_lost(kept),
        *_misremembered(events, kept),
        *_shared(events),
        *_late(events),
        *_untimely(kept),
    ]
    counts = Counter(event.what for event in events)
    refused = counts["refused"] + counts["span refused"]
    answered = refused + counts["acknowledged"] + counts["span kept"]
    asked = counts["asked"] + counts["span asked"]
    return Verdict(wrong, refused, asked - answered, sum(len(one.attempts) for one in kept))


def _lost(kept: Iterable[Kept]) -> Iterable[str]:
    for one in kept:
        who = one.rollout.rollout_id
        if one.rollout.status != "succeeded":
            yield f"{who} is {one.rollout.status}"
        ended_well = [attempt for attempt in one.attempts if attempt.status == "succeeded"]
        if len(ended_well) != 1 or ended_well[0] is not one.attempts[-1]:
            yield f"{who} was acknowledged {len(ended_well)} times: {one.attempts}"
        if [attempt.sequence_id for attempt in one.attempts] != list(range(1, len(one.attempts) + 1)):
            yield f"{who} lacks attempts: {one.attempts}"


def _untimely(kept: Iterable[Kept]) -> Iterable[str]:
    """Yield what took less than no time, and what began before what came before it."""
    for one in kept:
        rollout, latest = one.rollout, 0.0
        records: list[Rollout | Attempt] = [rollout, *one.attempts]
        for record in records:
            if record.end_time is not None and record.end_time < record.start_time:
                yield f"{record} ended before it began"
            if record.start_time < latest:
                yield f"{record} began before the one before"
            latest = record.start_time
        if [span.sequence_id for span in one.spans] != sorted(span.sequence_id for span in one.spans):
            yield f"{rollout.rollout_id}: spans are out of order"


def _misremembered(events: Sequence[Event], kept: Iterable[Kept]) -> Iterable[str]:
    attempts = {(a.rollout_id, a.attempt_id): a for one in kept for a in one.attempts}
    spans = {(s.rollout_id, s.attempt_id, s.sequence_id) for one in kept for s in one.spans}
    for event in events:
        attempt = attempts.get((event.rollout, event.attempt))
        span = (event.rollout, event.attempt, event.sequence)
        if attempt is None:
            yield f"forgotten: {event}"
        elif event.what == "claimed" and attempt.worker_id != event.worker:
            yield f"now another's: {event}, {attempt}"
        elif (event.what == "acknowledged" and attempt.status != "succeeded") or (
            event.what == "refused" and attempt.status == "succeeded"
        ):
            yield f"now {attempt.status}: {event}"
        elif (event.what == "span kept" and span not in spans) or (event.what == "span refused" and span in spans):
            yield f"not so: {event}"


def _shared(events: Iterable[Event]) -> Iterable[str]:
    """Yield attempts that two were given, and numbers that were given out twice."""
    claimed: dict[Key, Event] = {}
    numbered: dict[tuple[str, int], Event] = {}
    for event in events:
        if event.what == "claimed":
            other = claimed.setdefault((event.rollout, event.attempt), event)
        elif event.what == "numbered":
            other = numbered.setdefault((event.rollout, event.sequence), event)
        else:
            continue
        if other is not event:
            yield f"given twice: {event}, {other}"


def _late(events: Sequence[Event]) -> Iterable[str]:
    """Yield what was accepted of an attempt although a later one had been claimed before it was asked."""
    ordinals = {(event.rollout, event.attempt): event.sequence for event in events if event.what == "claimed"}
    latest: dict[str, int] = defaultdict(int)  # attempt that is known to have been claimed by now
    overtaken: set[tuple[str, str, int]] = set()
    for event in sorted(events, key=lambda event: event.at):
        call = (event.rollout, event.attempt, event.sequence)
        if event.what == "claimed":
            latest[event.rollout] = max(latest[event.rollout], event.sequence)
        elif event.what in ("asked", "span asked"):
            if ordinals[event.rollout, event.attempt] < latest[event.rollout]:
                overtaken.add(call)
        elif event.what in ("acknowledged", "span kept") and call in overtaken:
            yield f"late, yet accepted: {event}"
