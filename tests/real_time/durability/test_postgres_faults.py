"""The server restarts, is gone for a while, or kills a connection: callers wait, and nothing is lost or done twice."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import anyio
import anyio.to_thread
import psycopg
import pytest

import lightactors as la
from lightactors.errors import SpawnError, StoreUnavailable
from lightactors.testing.store.moves import Waiting, claim, ids, report, span, until_waiting
from lightactors.training.stores.contract import Store
from lightactors.training.stores.sql import DurableStore, postgres
from tests.postgres import PostgresServer
from tests.real_time.doors import in_use

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])

CALLERS = 16


class Load:
    """Callers that enqueue, claim, report and add spans, and remember what they were answered."""

    def __init__(self, store: Store, rollouts: int) -> None:
        self._store = store
        self._numbers = iter(range(rollouts))
        self.rollouts = rollouts
        self.claims: Counter[str] = Counter()
        self.enqueued: list[str] = []
        self.succeeded: list[str] = []

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(CALLERS):
                tasks.start_soon(self._call, f"w{number}")

    async def _call(self, worker_id: str) -> None:
        store = self._store
        for number in self._numbers:
            self.enqueued.append((await store.enqueue_rollout(number)).rollout_id)
            rollout = await claim(store, worker_id=worker_id)
            self.claims[rollout.rollout_id] += 1
            assert len(await store.add_many_spans([span(rollout, i) for i in range(3)])) == 3
            await report(store, rollout, "succeeded")
            self.succeeded.append(rollout.rollout_id)

    async def check(self) -> None:
        """See that what was answered is there, once, and nothing else."""
        assert len(self.enqueued) == self.rollouts
        assert self.claims == Counter(self.enqueued)
        completed = (await self._store.query_completions(limit=-1)).rollouts
        assert [rollout.status for rollout in completed] == ["succeeded"] * self.rollouts
        assert sorted(ids(completed)) == sorted(self.succeeded) == sorted(self.enqueued)
        counted = await self._store.statistics()
        totals = (counted.total_rollouts, counted.total_attempts, counted.total_spans)
        assert totals == (self.rollouts, self.rollouts, 3 * self.rollouts)
        assert (counted.queue_length, counted.fenced) == (0, 0)


@contextmanager
def disturbed(load: Load, act: Callable[[], object]) -> Iterator[list[int]]:
    """Do something again and again, in a thread, after some progress each time; yield how far it had come."""
    done = threading.Event()
    times: list[int] = []

    def run() -> None:
        while not done.wait(0.1):
            if len(load.succeeded) >= (times[-1] if times else 0) + load.rollouts // 10:
                times.append(len(load.succeeded))
                act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield times
    finally:
        done.set()
        thread.join()


async def endure(url: str, act: Callable[[], object]) -> None:
    """Work a load off while something is done to the server, and see that nothing was lost."""
    async with in_use(url) as store:
        load = Load(store, 800)
        with disturbed(load, act) as times:
            await load.run()
        assert times
        await load.check()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_restarts_of_the_server_are_waited_for(
    postgres_url: str, postgres_server: PostgresServer, mode: Literal["fast", "immediate"]
) -> None:
    await endure(postgres_url, lambda: postgres_server.restart(mode))


async def test_killed_backends_are_replaced(postgres_url: str, postgres_server: PostgresServer) -> None:
    def kill() -> None:
        # All others end with the first that is killed, the one that is asked now among them.
        with suppress(ProcessLookupError, psycopg.OperationalError):
            for pid in postgres_server.backends(PostgresServer.database_of(postgres_url)):
                os.kill(pid, signal.SIGKILL)

    await endure(postgres_url, kill)


async def test_ended_connections_are_made_again(postgres_url: str, postgres_server: PostgresServer) -> None:
    def end() -> None:
        name = PostgresServer.database_of(postgres_url)
        postgres_server.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    await endure(postgres_url, end)


async def while_it_is_gone(url: str, server: PostgresServer, seconds: float) -> None:
    async with in_use(url, patience_seconds=2 * seconds) as store, anyio.create_task_group() as tasks:
        waiting = Waiting(store, "waiter")
        tasks.start_soon(waiting.run)
        await until_waiting(store, 1)
        await anyio.to_thread.run_sync(server.stop)
        try:
            tasks.start_soon(store.enqueue_rollout, "work")
            answers: list[int] = []

            async def read() -> None:
                answers.append((await store.statistics()).total_rollouts)

            tasks.start_soon(read)
            await anyio.sleep(seconds)
            assert not waiting.ended.is_set()
            assert answers == []
        finally:
            await anyio.to_thread.run_sync(server.start)
        with anyio.fail_after(10):
            await waiting.ended.wait()
        assert waiting.input == "work"


async def test_server_that_is_gone_is_waited_for(postgres_url: str, postgres_server: PostgresServer) -> None:
    await while_it_is_gone(postgres_url, postgres_server, 3)


@pytest.mark.stress
@pytest.mark.timeout(300)
async def test_server_that_is_gone_for_a_minute_is_waited_for(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    await while_it_is_gone(postgres_url, postgres_server, 60)


async def test_server_that_is_gone_for_too_long_is_named(postgres_url: str, postgres_server: PostgresServer) -> None:
    async with in_use(postgres_url, patience_seconds=0.3) as store:
        await store.enqueue_rollout(1)
        await anyio.to_thread.run_sync(postgres_server.stop)
        try:
            for call in (store.enqueue_rollout(2), store.statistics()):
                with pytest.raises(StoreUnavailable, match=r"postgresql://tester@.*try again later"):
                    await call
        finally:
            await anyio.to_thread.run_sync(postgres_server.start)
        with anyio.fail_after(10):
            await store.enqueue_rollout(3)
        assert [rollout.input for rollout in await store.query_rollouts()] == [1, 3]


async def test_store_that_can_not_be_opened_fails_its_start(postgres_server: PostgresServer) -> None:
    async with la.open_system():
        with pytest.raises(SpawnError) as failure:
            await la.spawn(DurableStore, postgres_server.url("nowhere"))
        assert "create the database first" in str(failure.value.__cause__)


async def test_answer_of_a_commit_that_was_lost_is_found_out(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = itertools.count()

    def commit_and_lose_the_connection(self: postgres.PostgresDatabase, sql: str) -> None:
        is_lost = sql.endswith("COMMIT") and next(lost) % 3 == 0
        if is_lost and next(lost) % 2:
            self._cursor.connection.close()  # before it came there
        command(self, sql)
        if is_lost:
            self._cursor.connection.close()
            command(self, "SELECT 1")

    command = postgres.PostgresDatabase._command  # noqa: SLF001
    async with in_use(postgres_url) as store:
        monkeypatch.setattr(postgres.PostgresDatabase, "_command", commit_and_lose_the_connection)
        load = Load(store, 100)
        await load.run()
        await load.check()
    assert next(lost) > 20
