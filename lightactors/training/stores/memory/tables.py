"""The store's tables in memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lightactors.training.records import ResourcesUpdate, Rollout, Span, Worker
from lightactors.training.stores import queries
from lightactors.training.stores.memory.selecting import select
from lightactors.training.stores.memory.spans import MemoryLimits, SpanTable
from lightactors.training.stores.memory.table import Row, Table
from lightactors.training.stores.queries import Page, Predicate
from lightactors.training.stores.tables import Entry, Totals, Try


class RolloutRow(Entry, gc=False, eq=False, kw_only=True):
    """An entry that is a row of a `Table`."""

    indexed: str | None = None
    is_moved: bool = False


class MemoryRollouts(Table[RolloutRow]):
    """The rollouts."""

    def __init__(self) -> None:
        super().__init__()
        self.find = self.by_id.get  # nearly every call of the store begins with it
        self.put = self.replace

    @property
    def ids(self) -> dict[str, RolloutRow]:
        return self.by_id

    def at(self, number: int) -> RolloutRow:
        return self.rows[number]

    def prepared(self, rollout: Rollout) -> None:
        """Ask nothing: whatever was given is kept."""

    def add(self, rollout: Rollout, prepared: None) -> RolloutRow:
        return self.append(rollout.rollout_id, RolloutRow(number=len(self.rows), record=rollout))

    def as_kept(self, rollout: Rollout) -> Rollout:
        return rollout

    def tries(self, entry: RolloutRow) -> Iterator[Try]:
        return entry.tries()

    def select(
        self, statuses: Sequence[str] | None, ids: Sequence[str] | None, contains: str | None, logic: str, page: Page
    ) -> list[RolloutRow]:
        sets = [] if statuses is None else [self.with_status(statuses)]
        if ids is not None:
            sets.append(self.with_ids(ids))
        # Moments never go back, so the order of start times is the order of numbers.
        ordered = queries.in_order(page, "start_time")
        found = select(self, sets, queries.texts(rollout_id_contains=contains), logic, ordered)
        return [self.by_id[rollout.rollout_id] for rollout in found]


class MemoryQueue:
    """The queue: entries by number, in the order in which they came."""

    def __init__(self) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def head(self) -> Entry | None:
        return next(iter(self._entries.values()), None)

    def put(self, entry: Entry) -> bool:
        if entry.number in self._entries:
            return False
        self._entries[entry.number] = entry
        return True

    def drop(self, entry: Entry) -> None:
        self._entries.pop(entry.number, None)


class MemoryFinished:
    """The finished rollouts; a cursor is how many there were."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.add = self._entries.append

    def is_beyond(self, cursor: int) -> bool:
        return cursor < len(self._entries)

    def after(self, cursor: int, limit: int | None) -> tuple[list[Entry], int]:
        entries = self._entries[cursor : None if limit is None else cursor + limit]
        return entries, cursor + len(entries)


class MemoryHeld:
    """Who is on what."""

    def __init__(self) -> None:
        self._held: dict[str, dict[int, Entry]] = {}

    def put(self, entry: Entry, worker_id: str | None) -> None:
        if entry.holder is not None:
            held = self._held[entry.holder]
            del held[entry.number]
            if not held:
                del self._held[entry.holder]
        if worker_id is not None:
            self._held.setdefault(worker_id, {})[entry.number] = entry

    def of(self, worker_id: str) -> list[Entry]:
        held = self._held.get(worker_id)
        return [held[number] for number in sorted(held)] if held else []


class MemoryWorkers(Table[Row]):
    """The workers; `get` finds one by its id, a few times in each rollout."""

    def __init__(self) -> None:
        super().__init__()
        self._workers: dict[str, Worker] = {}
        self.get = self._workers.get

    def put(self, worker: Worker) -> None:
        self._workers[worker.worker_id] = worker
        row = self.by_id.get(worker.worker_id)
        if row is None:
            self.append(worker.worker_id, Row(len(self), worker))
        else:
            self.replace(row, worker)

    def select(self, statuses: Sequence[str] | None, contains: str | None, logic: str, page: Page) -> list[Worker]:
        sets = [] if statuses is None else [self.with_status(statuses)]
        found: list[Worker] = select(self, sets, queries.texts(worker_id_contains=contains), logic, page)
        return found


class MemoryResources:
    """The resources."""

    def __init__(self) -> None:
        self._by_id: dict[str, ResourcesUpdate] = {}
        self.latest_id: str | None = None

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, resources_id: object) -> bool:
        return resources_id in self._by_id

    def get(self, resources_id: str) -> ResourcesUpdate | None:
        return self._by_id.get(resources_id)

    def put(self, update: ResourcesUpdate) -> None:
        self._by_id[update.resources_id] = update
        self.latest_id = update.resources_id

    def select(self, conditions: Sequence[Predicate[Any]], page: Page) -> list[ResourcesUpdate]:
        return page.cut(page.sorted(queries.matching(self._by_id.values(), conditions, "and")))


class MemoryTables:
    """All tables."""

    def __init__(self, limits: MemoryLimits, size_of: Callable[[Span], int]) -> None:
        self.rollouts = MemoryRollouts()
        self.queue = MemoryQueue()
        self.finished = MemoryFinished()
        self.held = MemoryHeld()
        self.workers = MemoryWorkers()
        self.resources = MemoryResources()
        self.spans = SpanTable(limits, size_of)
        self.totals = Totals()

    def counted(self) -> Totals:
        return self.totals

    def latest_moment(self) -> float:
        return -math.inf
