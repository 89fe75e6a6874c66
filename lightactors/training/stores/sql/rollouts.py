"""The rollouts in a database, and the leases of those that are under way."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from lightactors.training import checks
from lightactors.training.records import Rollout
from lightactors.training.stores import queries
from lightactors.training.stores.queries import Page
from lightactors.training.stores.sql import bodies, schema
from lightactors.training.stores.sql.database import Row
from lightactors.training.stores.sql.kept import DEFAULT_CONFIG, Kept, size_of
from lightactors.training.stores.sql.selecting import COLUMNS, rollouts_query
from lightactors.training.stores.sql.series import Series
from lightactors.training.stores.sql.shared import Shared
from lightactors.training.stores.tables import Try

_KEPT_BYTES = 64 * 2**20
"""How much of rollouts is kept between transactions."""

_SELECT = f"SELECT {COLUMNS}, i.body FROM rollouts r JOIN inputs i ON i.number = r.number"


class Lease(msgspec.Struct, gc=False):
    """When an open attempt began and was last heard of, on this process's clock, and the row that says so."""

    version: int
    attempt_id: str
    started: float
    heard: float


class SqlRollouts:
    """The rollouts: a working set of them, and the leases of those that are under way."""

    def __init__(self, tables: Shared) -> None:
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
        rows = self._database.rows(f"{_SELECT} WHERE {condition}{ending}", *parameters)
        return [self._take_in(row) for row in rows]

    def peek(self, condition: str, *parameters: Any) -> list[Kept]:
        """Return the rollouts for which a condition holds, only to be looked at."""
        return self.listed(f"{_SELECT} WHERE {condition}", *parameters)

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
            number=self.numbers.next(), record=record, input_body=prepared, saved_tries={}, size=size_of(prepared)
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
            entry.size = size_of(entry.input_body)
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
                config=rest.config or DEFAULT_CONFIG,
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
            size=size_of(input_body, body),
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
