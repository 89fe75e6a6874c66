"""The resources in a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightactors.training.records import ResourcesUpdate
from lightactors.training.stores import queries
from lightactors.training.stores.queries import Page, Predicate
from lightactors.training.stores.sql import bodies, schema
from lightactors.training.stores.sql.database import Database, Row
from lightactors.training.stores.sql.series import Series


class SqlResources:
    """The resources; only their ids are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()
        self._latest_id: str | None = None
        self._is_latest_known = False
        self._numbers = Series(database, "resources")

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
