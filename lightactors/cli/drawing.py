"""What `lightactors status` shows: a node's tree, its store and the store's workers, as lines and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from lightactors.actors.tree import Tree, counted, in_a_line, printable, size
from lightactors.training.records import StoreStatistics, Worker

_TIMES = ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s"))
_HEADINGS = ("worker", "status", "last heard", "host", "done", "failed", "at work on")


@dataclass(frozen=True)
class Status:
    """What is known of a node at one moment."""

    address: str
    tree: Tree
    store: StoreStatistics | None  # None: the node serves none
    workers: Sequence[Worker]
    now: float  # seconds since the epoch

    def lines(self) -> list[str]:
        """Return the drawing, for a terminal or a log."""
        parts = [[self.address], self.tree.lines()]
        if self.store is not None:
            parts += [_store_lines(self.store), worker_lines(self.workers, self.now)]
        return [line for part in parts if part for line in [*part, ""]][:-1]

    def json(self) -> str:
        """Return the same as JSON, with every figure there is."""
        facts = {
            "address": self.address,
            "time": self.now,
            "tree": _branch(self.tree),
            "store": self.store,
            "workers": self.workers,
        }
        return json.dumps(msgspec.to_builtins(facts), indent=2)


def _store_lines(store: StoreStatistics) -> list[str]:
    held = [
        f"{counted(store.total_rollouts, 'rollout')} ({store.queue_length:,} queued)",
        counted(store.total_attempts, "attempt"),
        f"{counted(store.total_spans, 'span')} ({size(store.total_span_bytes)})",
        f"{store.total_resources:,} resources",
    ]
    did = [
        f"up {duration(store.uptime)}",
        f"{counted(store.waiters, 'claim')} waiting",
        f"{counted(store.fenced, 'late report')} refused",
        f"{counted(store.evicted, 'span')} evicted",
        *([f"{counted(store.pruned, 'rollout')} removed by retention"] if store.pruned else []),
    ]
    return [f"{store.name}: {', '.join(held)}", f"{'':{len(store.name)}}  {', '.join(did)}"]


def worker_lines(workers: Sequence[Worker], now: float) -> list[str]:
    if not workers:
        return ["no runner has joined yet"]
    return list(columns([_HEADINGS, *(_worker_row(worker, now) for worker in workers)]))


def _worker_row(worker: Worker, now: float) -> tuple[str, ...]:
    figures = worker.heartbeat_stats or {}
    heard = max(filter(None, (worker.last_heartbeat_time, worker.last_dequeue_time)), default=None)
    return (
        worker.worker_id,
        worker.status,
        "never" if heard is None else f"{duration(max(0.0, now - heard))} ago",
        f"{figures.get('host', '')}",
        f"{figures.get('succeeded', '')}",
        f"{figures.get('failed', '')}",
        worker.current_rollout_id or "",
    )


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield printable("  ".join(cells).rstrip())


def _branch(tree: Tree) -> dict[str, Any]:
    return {
        "name": tree.name,
        "kind": tree.kind,
        "seen": tree.seen,
        "statistics": None if tree.statistics is None else _finite(asdict(tree.statistics)),
        "last_error": None if tree.last_error is None else in_a_line(tree.last_error),
        "children": [_branch(child) for child in tree.children],
    }


def _finite(facts: dict[str, Any]) -> dict[str, Any]:
    # JSON has no infinity; a mailbox without bounds has no capacity to speak of.
    return {name: None if value == float("inf") else value for name, value in facts.items()}


def duration(seconds: float) -> str:
    """Return a time in words, as exact as one wants to read it."""
    for unit, name, below, its_name in _TIMES:
        if seconds >= unit:
            return f"{seconds // unit:.0f} {name} {seconds % unit // below:.0f} {its_name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
