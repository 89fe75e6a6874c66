"""A rollout as it is kept in a database."""

from __future__ import annotations

from msgspec.structs import replace

from lightactors.training.records import Rollout, RolloutConfig
from lightactors.training.stores.sql import bodies
from lightactors.training.stores.sql.database import Row
from lightactors.training.stores.tables import Entry

_ENTRY_BYTES = 2048
"""What a rollout takes beside its input, roughly."""

DEFAULT_CONFIG = RolloutConfig()


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
            None if record.config is DEFAULT_CONFIG else record.config,
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


def size_of(*parts: bytes) -> int:
    """Return what a rollout of these bodies takes in memory, roughly."""
    # A value takes a few times the bytes that it is written in.
    return _ENTRY_BYTES + 4 * sum(map(bodies.length, parts))
