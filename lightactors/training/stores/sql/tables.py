"""The store's tables in a database, as one transaction after the other sees them.

A table here is a working set: rows are fetched when the rules first look at them, changed in memory, and written back
together by `flush`. What was looked at is written if it is no longer what was read, so nobody has to say what they
changed. Between transactions the working set is kept as long as nobody else writes, up to a size.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from lightactors.training import checks
from lightactors.training.records import ResourcesUpdate, Rollout, RolloutConfig, Span, Worker
from lightactors.training.stores import queries
from lightactors.training.stores.queries import EVERYTHING, Page, Predicate
from lightactors.training.stores.sql import bodies, foresight, schema
from lightactors.training.stores.sql.database import Database, Row
from lightactors.training.stores.sql.selecting import limit_of, rollouts_query, spans_order
from lightactors.training.stores.tables import Entry, SpanStatistics, Totals, Try

_KEPT_BYTES = 64 * 2**20
"""How much of rollouts is kept between transactions."""

_ENTRY_BYTES = 2048
"""What a rollout takes beside its input, roughly."""

_HEADS = 256
"""How many of the queue are fetched at a time."""

_DEFAULT_CONFIG = RolloutConfig()

_COLUMNS = ", ".join(f"r.{name}" for name in schema.ROLLOUTS.names)
SELECT = f"SELECT {_COLUMNS}, i.body FROM rollouts r JOIN inputs i ON i.number = r.number"


class Kept(Entry, gc=False, eq=False, kw_only=True):
    """A rollout that has a row."""

    input_body: bytes
    position: int | None = None
    finish: int | None = None
    version: int = 0
    last_sequence_id: int = 0
    highest_sequence_id: int = -1
    next_ordinal: int = 0
    saved: Row | None = None  # what its row holds, but for the version
    saved_input: bytes | None = None
    saved_tries: dict[int, bytes]
    size: int = 0  # what it takes, roughly

    def snapshot(self) -> Rollout:
        """Return the record to hand out: it is shared with nobody, as if it had just been read."""
        return replace(super().snapshot(), input=bodies.anything(self.input_body))

    @property
    def is_leased(self) -> bool:
        config = self.record.config
        return (config.timeout_seconds is not None or config.unresponsive_seconds is not None) and self.is_under_way()

    def row(self) -> Row:
        """Return its columns: up to the version, and the body."""
        record, latest = self.record, self.latest
        body = bodies.RolloutBody(
            None if record.config is _DEFAULT_CONFIG else record.config,
            record.metadata,  # type: ignore[arg-type]
            None if latest is None else latest.record,
            None if latest is None else latest.claim_id,
            self.last_sequence_id,
            self.highest_sequence_id,
            self.next_ordinal,
        )
        return (
            self.number,
            record.rollout_id,
            record.status,
            record.mode,
            record.resources_id,
            record.start_time,
            record.end_time,
            self.position,
            self.finish,
            self.holder,
            1 if self.is_leased else None,
            bodies.packed("metadata", body, given=record.metadata),
        )


def _size(*parts: bytes) -> int:
    # A value takes a few times the bytes that it is written in.
    return _ENTRY_BYTES + 4 * sum(map(bodies.length, parts))


class Lease(msgspec.Struct, gc=False):
    """When an open attempt began and was last heard of, on this process's clock, and the row that says so."""

    version: int
    attempt_id: str
    started: float
    heard: float


class Series:
    """A row of numbers, of which some are in stock."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._stock: deque[int] = deque()
        self.wanted = 1

    def next(self) -> int:
        if not self._stock:
            self._stock.extend(self._database.numbers(self._name, self.wanted))
        return self._stock.popleft()

    def forget(self) -> None:
        self._stock.clear()


class SqlRollouts:
    """The rollouts: a working set of them, and the leases of those that are under way."""

    def __init__(self, tables: SqlTables) -> None:
        self._tables = tables
        self._database = tables.database
        self._by_id: dict[str, Kept] = {}
        self._by_number: OrderedDict[int, Kept] = OrderedDict()  # the last used last
        self._seen: dict[int, Kept] = {}  # in this transaction
        self._peeked: list[Kept] = []  # in this transaction, for their leases
        self._absent: set[str] = set()  # ids that were looked for in this transaction
        self._size = 0
        self.numbers = Series(tables.database, "rollout")
        self.leases: dict[int, Lease] = {}

    def __len__(self) -> int:
        return self._tables.counters["rollouts"]

    @property
    def ids(self) -> dict[str, Kept]:
        # The few that are at hand, and the table's own uniqueness, will do.
        return self._by_id

    def find(self, rollout_id: str, /) -> Kept | None:
        entry = self._by_id.get(rollout_id)
        if entry is None:
            if rollout_id in self._absent:
                return None
            checks.text("rollout_id", rollout_id)
            found = self.fetch("r.rollout_id = ?", rollout_id)
            return found[0] if found else None
        self._seen[entry.number] = entry
        return entry

    def at(self, number: int) -> Kept | None:
        entry = self._by_number.get(number)
        if entry is None:
            found = self.fetch("r.number = ?", number)
            return found[0] if found else None
        self._seen[number] = entry
        return entry

    def prefetch(self, rollout_ids: Iterable[str]) -> None:
        """Fetch those that will be asked for and are not at hand, in one go."""
        missing = [rollout_id for rollout_id in dict.fromkeys(rollout_ids) if rollout_id not in self._by_id]
        if len(missing) > 1:
            condition = self._database.among("r.rollout_id")
            self.fetch(f"{condition} ORDER BY r.number", self._database.listed(missing))
            self._absent.update(rollout_id for rollout_id in missing if rollout_id not in self._by_id)

    def workers(self) -> list[str]:
        """Return who is on those that were looked at in this transaction."""
        attempts = [entry.latest.record for entry in self._seen.values() if entry.latest is not None]
        return [attempt.worker_id for attempt in attempts if attempt.worker_id is not None]

    def fetch(self, condition: str, *parameters: Any, holding: str | None = None) -> list[Kept]:
        """Return the rollouts for which a condition holds, which nobody else can change meanwhile."""
        ending = (self._tables.holding if holding is None else holding).format("r")
        rows = self._database.rows(f"{SELECT} WHERE {condition}{ending}", *parameters)
        return [self._take_in(row) for row in rows]

    def peek(self, condition: str, *parameters: Any) -> list[Kept]:
        """Return the rollouts for which a condition holds, only to be looked at."""
        return self.listed(f"{SELECT} WHERE {condition}", *parameters)

    def listed(self, sql: str, *parameters: Any) -> list[Kept]:
        """Return the rollouts that a whole query lists, only to be looked at."""
        rows = self._database.rows(sql, *parameters)
        return [self._by_number.get(row[0]) or self._entry(row) for row in rows]

    def prepared(self, rollout: Rollout) -> bytes:
        """Return the body of the input."""
        bodies.check("metadata", rollout.metadata)
        return bodies.packed("input", rollout.input)

    def as_kept(self, rollout: Rollout) -> Rollout:
        return replace(
            rollout,
            input=bodies.anything(bodies.packed("input", rollout.input)),
            metadata=bodies.anything(bodies.packed("metadata", rollout.metadata)),
        )

    def add(self, rollout: Rollout, prepared: bytes) -> Kept:
        # As it will be read: who asks now and who asks tomorrow get the same.
        record = replace(rollout, input=bodies.anything(prepared))
        entry = Kept(
            number=self.numbers.next(), record=record, input_body=prepared, saved_tries={}, size=_size(prepared)
        )
        self._tables.count("rollouts", 1)
        return self._keep(entry)

    def discard(self, numbers: Iterable[int]) -> None:
        """Forget rollouts that have been deleted."""
        for number in numbers:
            entry = self._by_number.pop(number, None)
            self._seen.pop(number, None)
            self.leases.pop(number, None)
            if entry is not None:
                del self._by_id[entry.record.rollout_id]
                self._size -= entry.size

    def put(self, entry: Kept, record: Rollout) -> None:
        if record.metadata is not entry.record.metadata:
            bodies.check("metadata", record.metadata)
        if record.input is not entry.record.input:
            entry.input_body = bodies.packed("input", record.input)
            record = replace(record, input=bodies.anything(entry.input_body))
            self._size -= entry.size
            entry.size = _size(entry.input_body)
            self._size += entry.size
        entry.record = record

    def tries(self, entry: Kept) -> Iterator[Try]:
        known = list(entry.tries())
        if known and known[-1].record.sequence_id > 1:
            self._fetch_tries(entry, known[-1])
        return entry.tries()

    def _fetch_tries(self, entry: Kept, oldest: Try) -> None:
        rows = self._database.rows(
            "SELECT sequence_id, body FROM attempts WHERE number = ? AND sequence_id < ? ORDER BY sequence_id DESC",
            entry.number,
            oldest.record.sequence_id,
        )
        for sequence_id, body in rows:
            saved = bodies.attempt_body(body)
            entry.saved_tries[sequence_id] = bytes(body)
            oldest.before = oldest = Try(saved.attempt, -math.inf, -math.inf, None, saved.claim_id)

    def select(
        self, statuses: Sequence[str] | None, ids: Sequence[str] | None, contains: str | None, logic: str, page: Page
    ) -> list[Kept]:
        # Moments never go back, so the order of start times is the order of numbers.
        ordered = queries.in_order(page, "start_time")
        sql, parameters = rollouts_query(self._database, statuses, ids, contains, logic, ordered)
        return self.listed(sql, *parameters)

    # Rows in and out

    def _take_in(self, row: Row) -> Kept:
        known = self._by_number.get(row[0])
        if known is not None:  # it may have changed in this transaction
            self._seen[known.number] = known
            return known
        return self._keep(self._entry(row))

    def _entry(self, row: Row) -> Kept:
        number, rollout_id, status, mode, resources_id, start, end, position, finish, holder, _, version = row[:12]
        body, input_body = bytes(row[12]), bytes(row[13])
        rest = bodies.rollout_body(body)
        entry = Kept(
            number=number,
            record=Rollout(
                rollout_id=rollout_id,
                input=bodies.anything(input_body),
                start_time=start,
                end_time=end,
                mode=mode,
                resources_id=resources_id,
                status=status,
                config=rest.config or _DEFAULT_CONFIG,
                metadata=rest.metadata,
            ),
            holder=holder,
            input_body=input_body,
            position=position,
            finish=finish,
            version=version,
            last_sequence_id=rest.last_sequence_id,
            highest_sequence_id=rest.highest_sequence_id,
            next_ordinal=rest.next_ordinal,
            saved_input=input_body,
            saved_tries={},
            size=_size(input_body, body),
        )
        if rest.attempt is not None:
            started, heard = self._times(entry, rest.attempt.attempt_id)
            entry.latest = Try(rest.attempt, started, heard, None, rest.claim_id)
        # Made anew, and not what was read: an int in place of a float is no change.
        entry.saved = entry.row()
        return entry

    def _times(self, entry: Kept, attempt_id: str) -> tuple[float, float]:
        """Return when the latest attempt started and was last heard of, as far as this process can know."""
        lease, now = self.leases.get(entry.number), self._tables.clock()
        if lease is None or lease.attempt_id != attempt_id:
            return now, now
        # Whoever moved the version on has heard of it since.
        return lease.started, lease.heard if lease.version == entry.version else now

    def _keep(self, entry: Kept) -> Kept:
        self._by_id[entry.record.rollout_id] = self._by_number[entry.number] = self._seen[entry.number] = entry
        self._absent.discard(entry.record.rollout_id)
        self._size += entry.size
        return entry

    def flush(self) -> None:
        """Write what has changed."""
        new: list[Row] = []
        changed: list[Row] = []
        new_inputs: list[Row] = []
        inputs: list[Row] = []
        attempts: list[Row] = []
        for entry in self._seen.values():
            row = entry.row()
            if row != entry.saved:
                entry.version += 1
                (new if entry.saved is None else changed).append((*row[:11], entry.version, row[11]))
                entry.saved = row
            if entry.input_body is not entry.saved_input:
                (new_inputs if entry.saved_input is None else inputs).append((entry.number, entry.input_body))
                entry.saved_input = entry.input_body
            if entry.latest is not None and entry.latest.before is not None:
                attempts += self._changed_tries(entry)
        self._database.insert(schema.ROLLOUTS, new)
        self._database.write(schema.ROLLOUTS, changed)
        self._database.insert(schema.INPUTS, new_inputs)
        self._database.write(schema.INPUTS, inputs)
        self._database.write(schema.ATTEMPTS, attempts)

    def _changed_tries(self, entry: Kept) -> Iterator[Row]:
        for attempt in list(entry.tries())[1:]:
            sequence_id = attempt.record.sequence_id
            body = bodies.packed(
                "metadata", bodies.AttemptBody(attempt.record, attempt.claim_id), given=attempt.record.metadata
            )
            if entry.saved_tries.get(sequence_id) != body:
                entry.saved_tries[sequence_id] = body
                yield entry.number, sequence_id, body

    def committed(self) -> None:
        """Note the leases of what was looked at, and keep no more than there is room for."""
        for entry in (*self._peeked, *self._seen.values()):
            self._note_lease(entry)
        for number in self._seen:
            self._by_number.move_to_end(number)
        self._peeked.clear()
        self._seen.clear()
        self._absent.clear()
        while self._size > _KEPT_BYTES and self._by_number:
            _, entry = self._by_number.popitem(last=False)
            del self._by_id[entry.record.rollout_id]
            self._size -= entry.size

    def forget(self) -> None:
        self._by_id.clear()
        self._by_number.clear()
        self._seen.clear()
        self._peeked.clear()
        self._absent.clear()
        self._size = 0
        self.numbers.forget()

    def _note_lease(self, entry: Kept) -> None:
        if entry.is_leased:
            assert entry.latest is not None
            attempt = entry.latest
            self.leases[entry.number] = Lease(entry.version, attempt.record.attempt_id, attempt.started, attempt.heard)
        else:
            self.leases.pop(entry.number, None)

    def leased_elsewhere(self) -> list[Kept]:
        """Return those with an open attempt and a deadline that this process does not know; once committed it does."""
        rows = self._database.rows("SELECT number FROM rollouts WHERE leased IS NOT NULL")
        numbers = [number for (number,) in rows if number not in self.leases]
        entries = self.peek(self._database.among("r.number"), self._database.listed(numbers)) if numbers else []
        self._peeked += entries
        return entries

    def open_among(self, rollout_ids: Iterable[str]) -> set[str]:
        """Return the ids of those that are in the database and not finished."""
        listed = list(rollout_ids)
        if not listed:
            return set()
        condition = self._database.among("rollout_id")
        rows = self._database.rows(
            f"SELECT rollout_id FROM rollouts WHERE {condition} AND finish IS NULL", self._database.listed(listed)
        )
        return {rollout_id for (rollout_id,) in rows}


class SqlQueue:
    """The queue: a row's position says where in it a rollout is.

    `_heads` are the first of it, by position and number, or all if `_is_whole`; who has left is still among them.
    """

    def __init__(self, tables: SqlTables) -> None:
        self._tables = tables
        self._heads: deque[tuple[int, int]] = deque()
        self._is_whole = False
        self._fetched = 0
        self.positions = Series(tables.database, "position")
        self.wanted = 1  # claims that are expected in this transaction

    def __len__(self) -> int:
        return self._tables.counters["queued"]

    def head(self) -> Kept | None:
        while True:
            while self._heads:
                position, number = self._heads[0]
                entry = self._tables.rollouts.at(number)
                if entry is not None and entry.position == position:
                    return entry
                self._heads.popleft()
            if self._is_whole:
                return None
            self._fetch()

    def _fetch(self) -> None:
        self._tables.write()
        limit = _HEADS if self._tables.database.keeps else max(self.wanted, 1)
        entries = self._tables.rollouts.fetch(
            "r.position > ? ORDER BY r.position LIMIT ?",
            self._fetched,
            limit,
            holding=self._tables.holding_free,
        )
        self._is_whole = len(entries) < limit
        for entry in entries:
            assert entry.position is not None
            self._heads.append((entry.position, entry.number))
            self._fetched = entry.position

    def put(self, entry: Kept) -> bool:
        if entry.position is not None:
            return False
        entry.position = self.positions.next()
        self._tables.count("queued", 1)
        if self._is_whole:
            if len(self._heads) < 16 * _HEADS:
                self._heads.append((entry.position, entry.number))
                self._fetched = entry.position
            else:
                self._is_whole = False
        return True

    def drop(self, entry: Kept) -> None:
        if entry.position is not None:
            entry.position = None
            self._tables.count("queued", -1)

    def forget(self) -> None:
        self._heads.clear()
        self._is_whole = False
        self._fetched = 0
        self.positions.forget()


class SqlFinished:
    """The finished rollouts: their numbers in the order of ends are given out when they are written."""

    def __init__(self, tables: SqlTables) -> None:
        self._tables = tables
        self._new: list[Kept] = []

    def add(self, entry: Kept) -> None:
        self._new.append(entry)

    @property
    def fresh(self) -> int:
        """How many have no number yet."""
        return len(self._new)

    def number(self, last: int) -> None:
        """Give out numbers, up to `last`, to those that have none."""
        for number, entry in enumerate(self._new, last - len(self._new) + 1):
            entry.finish = number
        self._new.clear()

    def ids_after(self, cursor: int) -> list[str]:
        """Return the ids of those behind the cursor."""
        rows = self._tables.database.rows("SELECT rollout_id FROM rollouts WHERE finish > ?", cursor)
        return [rollout_id for (rollout_id,) in rows]

    def is_beyond(self, cursor: int) -> bool:
        self._tables.flush()
        return bool(self._tables.database.rows("SELECT 1 FROM rollouts WHERE finish > ? LIMIT 1", cursor))

    def after(self, cursor: int, limit: int | None) -> tuple[list[Kept], int]:
        self._tables.flush()
        most = 2**62 if limit is None else limit
        entries = self._tables.rollouts.peek("r.finish > ? ORDER BY r.finish LIMIT ?", cursor, most)
        return entries, (entries[-1].finish or cursor) if entries else cursor

    def forget(self) -> None:
        self._new.clear()


class SqlHeld:
    """Who is on what; a worker's are fetched when it is first asked for."""

    def __init__(self, tables: SqlTables) -> None:
        self._tables = tables
        self._known: dict[str, set[int]] = {}

    def put(self, entry: Kept, worker_id: str | None) -> None:
        if entry.holder in self._known:
            self._known[entry.holder].discard(entry.number)
        if worker_id in self._known:
            self._known[worker_id].add(entry.number)

    def of(self, worker_id: str) -> list[Kept]:
        if worker_id not in self._known:
            self.prefetch([worker_id])
        found = [self._tables.rollouts.at(number) for number in sorted(self._known[worker_id])]
        return [entry for entry in found if entry is not None and entry.holder == worker_id]

    def prefetch(self, worker_ids: Iterable[str]) -> None:
        missing = [worker_id for worker_id in dict.fromkeys(worker_ids) if worker_id not in self._known]
        if not missing:
            return
        self._tables.write()
        for worker_id in missing:
            self._known[worker_id] = set()
        database = self._tables.database
        for entry in self._tables.rollouts.fetch(database.among("r.holder"), database.listed(missing)):
            if entry.holder is not None:
                self._known[entry.holder].add(entry.number)

    def forget(self) -> None:
        self._known.clear()


class SqlWorkers:
    """The workers."""

    def __init__(self, tables: SqlTables) -> None:
        self._tables = tables
        self._database = tables.database
        self._rows: dict[str, tuple[int, Worker | None]] = {}
        self._changed: dict[str, Worker] = {}
        self._numbers = Series(tables.database, "worker")

    def __len__(self) -> int:
        return int(self._database.rows("SELECT count(*) FROM workers")[0][0])

    def get(self, worker_id: str) -> Worker | None:
        if worker_id not in self._rows:
            self.prefetch([worker_id])
        return self._rows[worker_id][1]

    def prefetch(self, worker_ids: Iterable[str]) -> None:
        missing = [worker_id for worker_id in dict.fromkeys(worker_ids) if worker_id not in self._rows]
        if not missing:
            return
        condition = self._database.among("worker_id")
        rows = self._database.rows(
            f"SELECT number, worker_id, body FROM workers WHERE {condition} ORDER BY number"
            f"{self._tables.holding.format('workers')}",
            self._database.listed(missing),
        )
        self._rows.update(dict.fromkeys(missing, (0, None)))
        self._rows.update({worker_id: (number, bodies.worker(body)) for number, worker_id, body in rows})

    def put(self, worker: Worker) -> None:
        worker_id = worker.worker_id
        before = self.get(worker_id)
        if before is None or worker.heartbeat_stats is not before.heartbeat_stats:
            bodies.check("heartbeat_stats", worker.heartbeat_stats)
        number = self._rows[worker_id][0] if worker_id in self._rows else 0
        self._rows[worker_id] = number or self._numbers.next(), worker
        self._changed[worker_id] = worker

    def flush(self) -> None:
        rows = [
            (
                self._rows[worker_id][0],
                worker_id,
                worker.status,
                bodies.packed("heartbeat_stats", worker, given=worker.heartbeat_stats),
            )
            for worker_id, worker in self._changed.items()
        ]
        self._changed.clear()
        self._database.write(schema.WORKERS, rows)

    def select(self, statuses: Sequence[str] | None, contains: str | None, logic: str, page: Page) -> list[Worker]:
        rows = self._database.rows("SELECT body FROM workers ORDER BY number")
        conditions: list[Predicate[Any]] = queries.texts(worker_id_contains=contains)
        if statuses is not None:
            conditions.append(lambda worker: worker.status in statuses)
        workers: list[Worker] = [bodies.worker(body) for (body,) in rows]
        return page.cut(page.sorted(queries.matching(workers, conditions, logic)))

    def forget(self) -> None:
        self._rows.clear()
        self._changed.clear()
        self._numbers.forget()


class SqlResources:
    """The resources; only their ids are kept."""

    def __init__(self, tables: SqlTables) -> None:
        self._tables = tables
        self._database = tables.database
        self._known: set[str] = set()
        self._latest_id: str | None = None
        self._is_latest_known = False
        self._numbers = Series(tables.database, "resources")

    def __len__(self) -> int:
        return int(self._database.rows("SELECT count(*) FROM resources")[0][0])

    def __contains__(self, resources_id: object) -> bool:
        if resources_id not in self._known and self._head(resources_id) is not None:
            self._known.add(str(resources_id))
        return resources_id in self._known

    def _head(self, resources_id: object) -> Row | None:
        rows = self._database.rows("SELECT number FROM resources WHERE resources_id = ?", resources_id)
        return rows[0] if rows else None

    @property
    def latest_id(self) -> str | None:
        if not self._is_latest_known:
            rows = self._database.rows("SELECT value FROM meta WHERE name = 'latest_resources_id'")
            self._latest_id = rows[0][0] if rows else None
            self._is_latest_known = True
        return self._latest_id

    def get(self, resources_id: str) -> ResourcesUpdate | None:
        found = self._updates("WHERE resources_id = ?", resources_id)
        return found[0] if found else None

    def _updates(self, condition: str, *parameters: Any) -> list[ResourcesUpdate]:
        rows = self._database.rows(
            f"SELECT resources_id, version, create_time, update_time, body FROM resources {condition} ORDER BY number",
            *parameters,
        )
        return [
            ResourcesUpdate(
                resources_id=resources_id,
                create_time=create_time,
                update_time=update_time,
                version=version,
                resources=bodies.unpacked_resources(body),
            )
            for resources_id, version, create_time, update_time, body in rows
        ]

    def put(self, update: ResourcesUpdate) -> None:
        body = bodies.packed_resources(update.resources)
        head = self._head(update.resources_id)
        number = self._numbers.next() if head is None else head[0]
        times = (update.create_time, update.update_time)
        self._database.write(schema.RESOURCES, [(number, update.resources_id, update.version, *times, body)])
        self._database.write(schema.META, [("latest_resources_id", update.resources_id)])
        self._known.add(update.resources_id)
        self._latest_id, self._is_latest_known = update.resources_id, True

    def select(self, conditions: Sequence[Predicate[Any]], page: Page) -> list[ResourcesUpdate]:
        # Bodies may be as large as models: only those of the page are read.
        heads = [
            ResourcesUpdate(resources_id=i, version=v, create_time=c, update_time=u, resources={})
            for i, v, c, u in self._database.rows(
                "SELECT resources_id, version, create_time, update_time FROM resources ORDER BY number"
            )
        ]
        found = page.cut(page.sorted(queries.matching(heads, conditions, "and")))
        updates = [self.get(head.resources_id) for head in found]
        return [update for update in updates if update is not None]

    def forget(self) -> None:
        self._known.clear()
        self._is_latest_known = False
        self._numbers.forget()


class SqlSpans:
    """The spans: nothing of them is kept in memory."""

    def __init__(self, tables: SqlTables) -> None:
        self._tables = tables
        self._database = tables.database
        self._new: dict[tuple[int, int, int, str], Row] = {}

    def holds(self, entry: Kept, attempt: Try, span: Span) -> bool:
        if span.sequence_id > entry.highest_sequence_id:
            return False
        key = (entry.number, attempt.record.sequence_id, span.sequence_id, span.span_id)
        return key in self._new or bool(
            self._database.rows(
                "SELECT 1 FROM spans WHERE number = ? AND attempt = ? AND sequence_id = ? AND span_id = ?", *key
            )
        )

    def last_sequence_id(self, entry: Kept) -> int:
        return entry.last_sequence_id

    def next_sequence_id(self, entry: Kept) -> int:
        entry.last_sequence_id += 1
        return entry.last_sequence_id

    def prepared(self, span: Span) -> bytes:
        """Return the span's body."""
        return bodies.packed_span(span)

    def add(self, entry: Kept, attempt: Try, span: Span, prepared: bytes) -> None:
        entry.last_sequence_id = max(entry.last_sequence_id, span.sequence_id)
        entry.highest_sequence_id = max(entry.highest_sequence_id, span.sequence_id)
        key = (entry.number, attempt.record.sequence_id, span.sequence_id, span.span_id)
        size = len(prepared)
        self._new[key] = (entry.number, entry.next_ordinal, *key[1:], size, prepared)
        entry.next_ordinal += 1
        self._tables.count("spans", 1)
        self._tables.count("span_bytes", size)

    def of(self, entry: Kept, attempt: Try | None, page: Page = EVERYTHING) -> list[Span]:
        self._tables.write()
        condition, given = "number = ?", [entry.number]
        if attempt is not None:
            condition, given = "number = ? AND attempt = ?", [entry.number, attempt.record.sequence_id]
        if page.sort_by not in (None, "sequence_id"):
            # The table has no column for it.
            return page.cut(page.sorted(self._read(condition, "ORDER BY ordinal", *given)))
        return self._read(condition, f"{spans_order(page)} LIMIT ? OFFSET ?", *given, limit_of(page), page.offset)

    def _read(self, condition: str, ending: str, *parameters: Any) -> list[Span]:
        rows = self._database.rows(f"SELECT body FROM spans WHERE {condition} {ending}", *parameters)
        return [bodies.span(body) for (body,) in rows]

    def evict(self) -> None:
        """Give up nothing: they are on the disk."""

    def statistics(self) -> SpanStatistics:
        counters = self._tables.counters
        return SpanStatistics(counters["spans"], counters["span_bytes"], 0, 0, 0, 0)

    def flush(self) -> None:
        self._database.insert(schema.SPANS, list(self._new.values()))
        self._new.clear()

    def forget(self) -> None:
        self._new.clear()


class SqlTables:
    """All tables of a database, for one connection; `is_reader`: none of them is going to change."""

    def __init__(self, database: Database, *, is_reader: bool) -> None:
        self.database = database
        self.holding = "" if is_reader else database.holding
        self.holding_free = "" if is_reader else database.holding_free
        self._is_reader = is_reader
        self.clock: Callable[[], float] = time.monotonic
        self.totals = Totals()
        self._counted: dict[str, int] = {}
        self._counters: dict[str, int] | None = None
        self.rollouts = SqlRollouts(self)
        self.queue = SqlQueue(self)
        self.finished = SqlFinished(self)
        self.held = SqlHeld(self)
        self.workers = SqlWorkers(self)
        self.resources = SqlResources(self)
        self.spans = SqlSpans(self)
        self._parts = (
            self.rollouts,
            self.queue,
            self.finished,
            self.held,
            self.workers,
            self.resources,
            self.spans,
        )
        self._moment = -math.inf

    # Counters

    @property
    def counters(self) -> dict[str, int]:
        """The counters, as they are in the database."""
        if self._counters is None:
            self._counters = dict.fromkeys(schema.COUNTED, 0)
            self._counters.update((str(name), int(value)) for name, value in self._rows_of_counters())
        return self._counters

    def _rows_of_counters(self) -> Sequence[Row]:
        return self.database.rows("SELECT name, value FROM counters")

    def counted(self) -> Totals:
        counters = self.counters
        return Totals(counters["attempts"], counters["fenced"], counters["pruned"])

    def count(self, name: str, more: int) -> None:
        """Add to a counter when the rest is written."""
        self._counted[name] = self._counted.get(name, 0) + more

    def latest_moment(self) -> float:
        return self.counters["moment"] / 1e6

    # A transaction

    def foresee(self, calls: Iterable[tuple[str, tuple[Any, ...], Mapping[str, Any]]], waiting: int) -> None:
        """Fetch together what calls will look at, as far as their arguments tell; `waiting`: who waits for work."""
        seen = foresight.of(calls)
        self.rollouts.numbers.wanted = self.queue.positions.wanted = max(1, seen.enqueued)
        self.queue.wanted = seen.claimed + min(waiting, seen.enqueued)
        self.rollouts.prefetch(seen.rollout_ids)
        self.held.prefetch(seen.holders)
        self.workers.prefetch([*seen.worker_ids, *self.rollouts.workers()])

    def write(self) -> None:
        """Write what has changed so that queries see it, but for what is counted."""
        if self._is_reader:
            return
        self.rollouts.flush()
        self.spans.flush()
        self.workers.flush()

    def flush(self, moment: float | None = None) -> None:
        """Write what has changed, to be committed; `moment` is the latest in records."""
        if self._is_reader:
            return
        self.count("attempts", self.totals.attempts)
        self.count("fenced", self.totals.fenced)
        self.totals.attempts = self.totals.fenced = 0
        self.count("finished", self.finished.fresh)
        changes = {name: more for name, more in self._counted.items() if more}
        if moment is not None and moment > self._moment:
            self._moment = moment
            changes["moment"] = math.ceil(moment * 1e6)
        self._counted.clear()
        self.spans.flush()
        self.workers.flush()
        if changes:
            # Late: other nodes wait from here on, until this transaction ends.
            counted = self.database.count(changes)
            self.finished.number(counted.get("finished", 0))
        self.rollouts.flush()

    def committed(self) -> None:
        """Go on with what was committed."""
        self.rollouts.committed()
        if not self.database.keeps:
            self.forget()

    def forget(self) -> None:
        """Know nothing any more that others may have changed, or that was rolled back."""
        self._counters = None
        self._counted.clear()
        self.totals.attempts = self.totals.fenced = 0
        for part in self._parts:
            part.forget()
