"""The queries that list a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightactors.training.stores.queries import Page
from lightactors.training.stores.sql import schema
from lightactors.training.stores.sql.database import Database

COLUMNS = ", ".join(f"r.{name}" for name in schema.ROLLOUTS.names)
_EVERYTHING = 2**62


def rollouts_query(
    database: Database,
    statuses: Sequence[str] | None,
    ids: Sequence[str] | None,
    contains: str | None,
    logic: str,
    page: Page,
) -> tuple[str, list[Any]]:
    """Return the query and its parameters."""
    conditions, parameters = _conditions(database, ids, contains)
    limit = limit_of(page)
    if statuses is not None and ids is None and logic == "and" and page.sort_by is None:
        numbers, parameters = _by_status(statuses, conditions, parameters, page, limit)
    else:
        if statuses is not None:
            conditions.append(database.among("status"))
            parameters.append(database.listed(list(dict.fromkeys(statuses))))
        where = f"WHERE {f' {logic} '.join(conditions)}" if conditions else ""
        numbers = f"SELECT number FROM rollouts {where} {_order(page)}"
    sql = (
        f"SELECT {COLUMNS}, i.body FROM ({numbers} LIMIT ? OFFSET ?) page"
        f" JOIN rollouts r ON r.number = page.number JOIN inputs i ON i.number = r.number {_order(page, 'r.')}"
    )
    return sql, [*parameters, limit, page.offset]


def _conditions(database: Database, ids: Sequence[str] | None, contains: str | None) -> tuple[list[str], list[Any]]:
    conditions, parameters = [], []
    if ids is not None:
        conditions.append(database.among("rollout_id"))
        parameters.append(database.listed(list(ids)))
    if contains is not None:
        conditions.append(database.contains("rollout_id"))
        parameters.append(contains)
    return conditions, parameters


def _by_status(
    statuses: Sequence[str], conditions: list[str], parameters: list[Any], page: Page, limit: int
) -> tuple[str, list[Any]]:
    """Merge what the index has of each status, so that a page costs what it holds."""
    most = min(page.offset + limit, _EVERYTHING)
    parts, given = [], []
    for status in dict.fromkeys(statuses):
        where = " AND ".join(["status = ?", *conditions])
        parts.append(f"SELECT * FROM (SELECT number FROM rollouts WHERE {where} {_order(page)} LIMIT ?) part")
        given += [status, *parameters, most]
    merged = " UNION ALL ".join(parts) or "SELECT number FROM rollouts WHERE 1 = 0"
    return f"SELECT number FROM ({merged}) merged {_order(page)}", given


def limit_of(page: Page) -> int:
    return _EVERYTHING if page.limit is None else page.limit


def spans_order(page: Page) -> str:
    """Order spans by their sequence ids, or as they came; descending is the exact reverse."""
    way = "DESC" if page.descending else "ASC"
    return f"ORDER BY {'' if page.sort_by is None else f'{page.sort_by} {way}, '}ordinal {way}"


def _order(page: Page, prefix: str = "") -> str:
    """Order by a field, None before every value, and by number; descending is the exact reverse."""
    way = "DESC" if page.descending else "ASC"
    number = f"{prefix}number {way}"
    if page.sort_by is None:
        return f"ORDER BY {number}"
    field = f"{prefix}{page.sort_by}"
    return f"ORDER BY {field} IS NOT NULL {way}, {field} {way}, {number}"
