"""A store in PostgreSQL, on this machine and synced: 64 callers, each with one call under way.

Beside it what psycopg alone does with the same rows: one connection, what 64 callers ask for in a transaction.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import psycopg

from lightactors.training.stores.opening import open_store
from tests.benchmarks.durable import CALLERS, COUNT, figures
from tests.benchmarks.measure import ROUNDS, Row
from tests.postgres import NoPostgres, PostgresServer

BARE = "bare psycopg"
TABLES = """
CREATE TABLE bare (number bigint PRIMARY KEY, id text UNIQUE, status text, body bytea);
CREATE INDEX ON bare (status, number);
CREATE TABLE bare_spans (number bigint, ordinal bigint, id text, body bytea, PRIMARY KEY (number, ordinal));
CREATE UNIQUE INDEX ON bare_spans (number, id)
"""
CLAIM = """
UPDATE bare SET status = 'preparing', body = %s WHERE number IN (
    SELECT number FROM bare WHERE status = 'queuing' ORDER BY number LIMIT 64 FOR UPDATE SKIP LOCKED
) RETURNING number, body
"""


async def rows(_: str) -> list[Row]:
    """Measure on the running loop."""
    try:
        server = PostgresServer(in_memory=False)
    except NoPostgres as missing:
        print(f"a store in PostgreSQL is not measured: {missing}")
        return []
    try:
        server.start()
        store: Any = open_store(server.new_database())
        found = await figures(store)
        store.close()
        bare = _bare(server.new_database())
    finally:
        server.close()
    for row in found:
        if row.what in bare:
            row.beside[BARE] = bare[row.what]
    return found


def _bare(url: str) -> dict[str, float]:
    """Return how many rows per second psycopg keeps and claims, as large as ours, with as many indexes."""
    numbers = itertools.count()
    with psycopg.connect(url) as connection, connection.cursor(binary=True) as cursor:
        connection.execute(TABLES)
        connection.commit()

        def add() -> None:
            added = [(n, f"ro-{n:012x}", "queuing", b"x" * 600) for n in itertools.islice(numbers, CALLERS)]
            cursor.executemany("INSERT INTO bare VALUES (%s, %s, %s, %s)", added)

        def claim() -> None:
            assert len(cursor.execute(CLAIM, (b"x" * 200,)).fetchall()) == CALLERS

        def add_spans() -> None:
            with cursor.copy("COPY bare_spans FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["int8", "int8", "text", "bytea"])
                for number in itertools.islice(numbers, 100 * CALLERS):
                    copy.write_row((number // 1000, number, f"{number:016x}", b"x" * 500))

        return {
            "durable adds": _per_second(connection, add, COUNT // CALLERS, CALLERS),
            "durable claims": _per_second(connection, claim, COUNT // CALLERS, CALLERS),
            "durable spans, 100 a call": _per_second(connection, add_spans, 10, 100 * CALLERS),
        }


def _per_second(connection: psycopg.Connection, transact: Callable[[], None], times: int, size: int) -> float:
    best = 0.0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(times):
            transact()
            connection.commit()
        best = max(best, times * size / (time.perf_counter() - start))
    return best
