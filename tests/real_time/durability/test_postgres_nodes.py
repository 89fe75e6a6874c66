"""Several stores over one database in PostgreSQL: they share its work, and each hears of what the others do."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from lightactors.errors import FencedAttempt
from lightactors.testing.store.moves import Waiting, claim, ids, report, span, status_of, until_waiting
from lightactors.training.records import EnqueueRolloutRequest, RolloutConfig
from lightactors.training.stores.contract import Store
from tests.postgres import PostgresServer
from tests.real_time.doors import in_use
from tests.real_time.programs import ROOT

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])

NODE = """
import sys, anyio
from lightactors.training.stores.opening import open_store

async def main():
    store = open_store(sys.argv[1])
    claimed = await store.dequeue_many_rollouts(int(sys.argv[2]), "there")
    print(*(rollout.rollout_id for rollout in claimed), flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""

FROZEN = """
import os, signal, sys
from lightactors.training.stores.sql.postgres import PostgresDatabase, Server

database = PostgresDatabase(Server(sys.argv[1]))
database.open()
database.begin()
database.count({"spans": 1})
print("frozen", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def running(program: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run a program; yield its process and the words of the first line that it says."""
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


async def test_nothing_is_claimed_twice(postgres_url: str) -> None:
    claims: Counter[str] = Counter()

    async def work(store: Store, worker_id: str) -> None:
        while rollout := await store.dequeue_rollout(worker_id, timeout=0.5):
            claims[rollout.rollout_id] += 1
            await store.add_span(span(rollout))
            await report(store, rollout, "succeeded")

    async with in_use(postgres_url) as here, in_use(postgres_url) as there:
        nodes = (here, there)
        async with anyio.create_task_group() as tasks:
            for number in range(16):
                tasks.start_soon(work, nodes[number % 2], f"w{number}")
            added: list[str] = []
            for number in range(20):
                requests = [EnqueueRolloutRequest((number, i)) for i in range(20)]
                added += ids(await nodes[number % 2].enqueue_many_rollouts(requests))
        assert claims == Counter(added)
        for store in nodes:
            counted = await store.statistics()
            assert (counted.total_rollouts, counted.total_attempts, counted.total_spans) == (400, 400, 400)
            assert (counted.queue_length, counted.fenced) == (0, 0)
        completed = await there.query_completions(limit=-1)
        assert (sorted(ids(completed.rollouts)), completed.cursor) == (sorted(added), 400)


async def test_who_comes_first_is_served_first_wherever_it_came(postgres_url: str) -> None:
    async with in_use(postgres_url) as here, in_use(postgres_url) as there:
        nodes = (here, there)
        added = [await nodes[number % 2].enqueue_rollout(number) for number in range(20)]
        claimed = [await claim(nodes[number // 2 % 2]) for number in range(20)]
        assert ids(claimed) == ids(added)


async def test_waiter_hears_at_once_of_what_another_node_enqueues(postgres_url: str) -> None:
    async with in_use(postgres_url) as here, in_use(postgres_url) as there:
        seconds = []
        for number in range(5):
            async with anyio.create_task_group() as tasks:
                waiting = Waiting(here, f"w{number}")
                tasks.start_soon(waiting.run)
                await until_waiting(here, 1)
                start = time.monotonic()
                await there.enqueue_rollout(number)
                await waiting.ended.wait()
                seconds.append(time.monotonic() - start)
                assert waiting.input == number
        assert sorted(seconds)[1] < 0.1, seconds  # the sweep would have taken a second


async def test_one_of_many_waiters_gets_it(postgres_url: str) -> None:
    async with in_use(postgres_url) as here, in_use(postgres_url) as there:
        async with anyio.create_task_group() as tasks:
            line = [Waiting(store, f"w{number}") for number, store in enumerate((here, there) * 3)]
            for waiting in line:
                tasks.start_soon(waiting.run)
            await until_waiting(here, 3)
            await until_waiting(there, 3)
            for number in range(6):
                await here.enqueue_rollout(number)
        assert sorted(str(waiting.input) for waiting in line) == list("012345")


async def test_ends_are_heard_of_everywhere(postgres_url: str) -> None:
    async with in_use(postgres_url) as here, in_use(postgres_url) as there:
        rollouts = [await here.start_rollout(number) for number in range(3)]
        answers: dict[str, list[str]] = {}

        async def wait_for_all() -> None:
            answers["all"] = ids(await here.wait_for_rollouts(rollout_ids=ids(rollouts)))

        async def wait_for_any() -> None:
            answers["any"] = ids((await here.query_completions(timeout=None)).rollouts)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_for_all)
                tasks.start_soon(wait_for_any)
                for number in (1, 0, 2):
                    await anyio.sleep(0.05)
                    await report(there, rollouts[number], "succeeded")
        assert answers == {"all": ids(rollouts), "any": [rollouts[1].rollout_id]}
        completed = await here.query_completions(limit=-1)
        assert ids(completed.rollouts) == [rollouts[number].rollout_id for number in (1, 0, 2)]


async def test_attempt_goes_on_at_another_node(postgres_url: str) -> None:
    async with in_use(postgres_url) as here, in_use(postgres_url) as there:
        await here.enqueue_rollout(1, config=RolloutConfig(max_attempts=2, retry_condition=["failed"]))
        first = await claim(here, worker_id="w")
        assert await there.add_span(span(first)) is not None
        assert await here.add_span(span(first)) is None  # it has come there already
        await report(there, first, "failed")
        second = await claim(there, worker_id="w")
        with pytest.raises(FencedAttempt):
            await report(here, first, "succeeded")
        assert (await there.statistics()).fenced == 1
        await report(here, second, "succeeded")
        worker = await there.get_worker_by_id("w")
        assert worker is not None
        assert worker.status == "idle"


async def test_claim_is_the_same_at_every_node(postgres_url: str) -> None:
    async with in_use(postgres_url) as here, in_use(postgres_url) as there:
        await here.enqueue_many_rollouts([EnqueueRolloutRequest(1), EnqueueRolloutRequest(2)])
        # The answer was lost, and who claimed has come to another node with the same claim.
        first = await claim(here, worker_id="w", claim_id="c")
        assert await there.dequeue_rollout("w", claim_id="c") == first


async def test_same_id_is_enqueued_once_wherever_it_comes(postgres_url: str) -> None:
    async with in_use(postgres_url) as here, in_use(postgres_url) as there:

        async def enqueue(store: Store) -> None:
            for number in range(50):
                await store.enqueue_rollout(number, rollout_id=f"task-{number}")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(enqueue, here)
            tasks.start_soon(enqueue, there)
        counted = await here.statistics()
        assert (counted.total_rollouts, counted.queue_length) == (50, 50)


async def test_leases_of_a_live_node_are_not_ended_by_another(postgres_url: str) -> None:
    config = RolloutConfig(unresponsive_seconds=0.6, timeout_seconds=60)
    async with in_use(postgres_url) as here, in_use(postgres_url) as there:
        await here.enqueue_rollout(1, config=config)
        claimed = await claim(here, worker_id="w")
        for _ in range(12):
            await anyio.sleep(0.2)
            await here.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, last_heartbeat_time=time.time())
        assert await status_of(there, claimed) == "preparing"
        await report(there, claimed, "succeeded")


async def test_claims_of_a_dead_node_end(postgres_url: str) -> None:
    config = RolloutConfig(unresponsive_seconds=1, max_attempts=2, retry_condition=["unresponsive"])
    async with in_use(postgres_url) as here:
        added = await here.enqueue_many_rollouts([EnqueueRolloutRequest(n, config=config) for n in range(5)])
        with running(NODE, postgres_url, "3") as (process, claimed):
            assert claimed == ids(added[:3])
            process.kill()
        left = await here.dequeue_many_rollouts(10, "here")
        assert ids(left) == ids(added[3:])
        for rollout in left:
            await report(here, rollout, "succeeded")
        with anyio.fail_after(15):
            again = [await here.dequeue_rollout("here", timeout=None) for _ in range(3)]
        assert sorted(rollout.rollout_id for rollout in again if rollout) == sorted(claimed)


async def test_frozen_node_holds_nobody_up_for_long(postgres_url: str) -> None:
    async with in_use(postgres_url) as here:
        await here.enqueue_rollout(1)
        with running(NODE, postgres_url, "0") as (process, _):
            process.send_signal(signal.SIGSTOP)
            with anyio.fail_after(5):
                assert await here.dequeue_rollout("w") is not None


@pytest.mark.stress
@pytest.mark.timeout(120)
async def test_node_that_is_frozen_in_a_transaction_is_ended(postgres_url: str) -> None:
    async with in_use(postgres_url) as here:
        with running(FROZEN, postgres_url), anyio.fail_after(40):
            await here.enqueue_rollout(1)


async def test_node_has_few_connections(postgres_url: str, postgres_server: PostgresServer) -> None:
    async with in_use(postgres_url) as here:

        async def call(number: int) -> None:
            for _ in range(5):
                rollout = await here.enqueue_rollout(number)
                assert await status_of(here, rollout) == "queuing"
                await here.query_rollouts(limit=2)

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(call, number)
        assert len(postgres_server.backends(PostgresServer.database_of(postgres_url))) <= 4


async def test_nodes_that_cross_each_other_get_through(postgres_url: str) -> None:
    async with in_use(postgres_url) as here, in_use(postgres_url) as there:
        rollouts = [await here.start_rollout(number, worker_id=f"w{number}") for number in range(8)]

        async def beat(store: Store, order: int) -> None:
            for _ in range(15):
                await store.add_many_spans([span(rollout, 1) for rollout in rollouts[::order]])
                for rollout in rollouts[::order]:
                    await store.update_attempt(
                        rollout.rollout_id, rollout.attempt.attempt_id, last_heartbeat_time=time.time()
                    )

        with anyio.fail_after(40):
            async with anyio.create_task_group() as tasks:
                for store in (here, there):
                    for order in (1, -1):
                        tasks.start_soon(beat, store, order)
        assert (await here.statistics()).total_spans == 8
