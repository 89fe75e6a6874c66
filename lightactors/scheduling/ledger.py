"""Which tasks are ready, in their order, and who holds the others: plain data, with the clock passed in."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from lightactors.errors import NotJoined
from lightactors.scheduling.records import Claim, WorkerState, WorkerStatus

T = TypeVar("T")

GONE_KEPT = 1_000
"""Workers that are gone and still told of; the others are forgotten, the oldest first."""


class Entry(NamedTuple, Generic[T]):
    """A task and its place in the order; tickets differ, so entries are compared by them alone."""

    ticket: int
    task: T


class _Worker(Generic[T]):
    __slots__ = ("held", "is_gone", "since")

    def __init__(self, now: float) -> None:
        self.held: dict[int, Entry[T]] = {}  # by the claims' numbers
        self.is_gone = False
        self.since = now

    @property
    def status(self) -> WorkerStatus:
        if self.is_gone:
            return "gone"
        return "busy" if self.held else "idle"


class Ledger(Generic[T]):
    """The tasks and the workers."""

    def __init__(self) -> None:
        self.added = 0
        self.finished = 0
        self.given_back = 0
        self.held = 0
        self._fresh: deque[Entry[T]] = deque()
        # A heap: workers give back in any order. All tickets here are older than those of what is fresh.
        self._returned: list[Entry[T]] = []
        self._numbers = itertools.count(1)
        self._workers: dict[str, _Worker[T]] = {}

    @property
    def ready(self) -> int:
        return len(self._fresh) + len(self._returned)

    def add(self, tasks: Iterable[T]) -> None:
        """Put tasks behind all others."""
        for task in tasks:
            self._fresh.append(Entry(self.added, task))
            self.added += 1

    # Workers

    def is_here(self, name: str) -> bool:
        """Tell whether a worker has joined and is not gone."""
        worker = self._workers.get(name)
        return worker is not None and not worker.is_gone

    def join(self, name: str, now: float) -> None:
        """Let a worker in, who is new or was gone."""
        self._workers.pop(name, None)
        self._workers[name] = _Worker(now)

    def leave(self, name: str, now: float) -> None:
        """Let a worker go; what it holds is ready again."""
        if self.is_here(name):
            self.give_back(name, None, now)
            worker = self._workers.pop(name)
            worker.is_gone, worker.since = True, now
            self._workers[name] = worker  # behind the others: the oldest are forgotten first
            self._forget_the_oldest()

    def _forget_the_oldest(self) -> None:
        gone = [name for name, worker in self._workers.items() if worker.is_gone]
        for name in gone[: len(gone) - GONE_KEPT]:
            del self._workers[name]

    def states(self, now: float) -> dict[str, WorkerState[T]]:
        """Tell what each worker is at."""
        return {
            name: WorkerState(worker.status, now - worker.since, [entry.task for entry in worker.held.values()])
            for name, worker in self._workers.items()
        }

    def count_workers(self) -> Counter[WorkerStatus]:
        return Counter(worker.status for worker in self._workers.values())

    # Claims

    def take(self, name: str, count: int, now: float) -> list[Claim[T]]:
        """Claim as many of the oldest ready tasks as there are, `count` at most."""
        worker = self._here(name)
        entries = [self._next() for _ in range(min(count, self.ready))]
        if entries and not worker.held:
            worker.since = now
        claims = [Claim(next(self._numbers), entry.task) for entry in entries]
        worker.held.update((claim.number, entry) for claim, entry in zip(claims, entries, strict=True))
        self.held += len(claims)
        return claims

    def _here(self, name: str) -> _Worker[T]:
        worker = self._workers.get(name)
        if worker is None or worker.is_gone:
            has = "has not joined this queue" if worker is None else "is gone from this queue"
            raise NotJoined(f"worker {name!r} {has}; join() it first")
        return worker

    def _next(self) -> Entry[T]:
        return heapq.heappop(self._returned) if self._returned else self._fresh.popleft()

    def finish(self, name: str, numbers: Iterable[int], now: float) -> int:
        """Have done with what is the worker's still, and tell how much that is."""
        finished = len(self._let_go(name, numbers, now))
        self.finished += finished
        return finished

    def give_back(self, name: str, numbers: Iterable[int] | None, now: float) -> int:
        """Make ready again, in the old order, what is the worker's still; None: all that it holds."""
        entries = self._let_go(name, numbers, now)
        for entry in entries:
            heapq.heappush(self._returned, entry)
        self.given_back += len(entries)
        return len(entries)

    def _let_go(self, name: str, numbers: Iterable[int] | None, now: float) -> list[Entry[T]]:
        worker = self._workers.get(name)
        if worker is None:
            return []
        chosen = list(worker.held) if numbers is None else dict.fromkeys(numbers)
        entries = [worker.held.pop(number) for number in chosen if number in worker.held]
        if entries and not worker.held:
            worker.since = now
        self.held -= len(entries)
        return entries
