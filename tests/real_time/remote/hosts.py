"""Programs for both ends of a network: a host with a store that always has work, and one with runners.

They say in lines of JSON what happens, with the time of the machine's monotonic clock. The store sums up when it gets
a line; both end when their standard input does.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from typing import Any

import anyio
import anyio.abc

import lightactors as la

WORK = 32
"""Rollouts that are unfinished at any time."""

SLOW = 0.02
"""Seconds that the agent takes for one."""

FINISH = 60.0
"""Seconds in which all that is unfinished must be finished, once there comes nothing new."""

CONFIG = la.RolloutConfig(
    unresponsive_seconds=2.0, max_attempts=1000, retry_condition=["unresponsive", "timeout", "failed"]
)


def say(**what: object) -> None:
    sys.stdout.write(json.dumps({"at": time.monotonic(), **what}) + "\n")
    sys.stdout.flush()


async def told() -> None:
    """Wait for a line of the standard input, or its end."""
    await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)


class Feed:
    """Keeps so much work in the store, and says what becomes of it."""

    def __init__(self, store: la.Store) -> None:
        self._store = store
        self._ids: list[str] = []
        self._done = 0
        self._is_over = False

    async def run(self) -> None:
        """Feed until told to sum up: wait for what is unfinished and say how everything went."""
        async with anyio.create_task_group() as tg:
            tg.start_soon(self._watch, tg.cancel_scope)
            await self._enqueue()
            await told()
            self._is_over = True
            await self._enqueue()
            with anyio.fail_after(FINISH):
                await self._store.wait_for_rollouts(rollout_ids=self._ids)
            tg.cancel_scope.cancel()
        await self._sum_up()

    async def _enqueue(self) -> None:
        while not self._is_over and len(self._ids) - self._done < WORK:
            rollout = await self._store.enqueue_rollout(len(self._ids), config=CONFIG)
            self._ids.append(rollout.rollout_id)

    async def _watch(self, scope: anyio.CancelScope) -> None:
        cursor = 0
        while True:
            completions = await self._store.query_completions(cursor, timeout=None)
            cursor = completions.cursor
            for rollout in completions.rollouts:
                self._done += 1
                say(done=rollout.rollout_id, status=rollout.status)
            await self._enqueue()

    async def _sum_up(self) -> None:
        statuses = Counter[str]()
        acknowledged = Counter[int]()
        for rollout_id in self._ids:
            rollout = await self._store.get_rollout_by_id(rollout_id)
            assert rollout is not None
            statuses[rollout.status] += 1
            attempts = await self._store.query_attempts(rollout_id)
            acknowledged[sum(attempt.status == "succeeded" for attempt in attempts)] += 1
        say(rollouts=len(self._ids), statuses=statuses, acknowledged=acknowledged)


async def host_store(address: str) -> None:
    async with la.open_system("store", listen=address, insecure=True) as system:
        store = await la.options(name="store").spawn(la.MemoryStore)
        say(address=system.addresses[0])
        await Feed(store).run()
        await told()


async def host_runners(address: str, count: str) -> None:
    end = la.ExecutionEvent()

    async def agent(task: int) -> float:
        say(began=task)
        await anyio.sleep(SLOW)
        return 1.0

    async with la.open_system("runners"), anyio.create_task_group() as tg:
        store = await la.connect(la.Store, address)
        for number in range(int(count)):
            runner = la.Runner(agent, store, worker_id=f"runner-{number}", heartbeat_interval=0.5)
            tg.start_soon(runner.run, end)
        say(running=count)
        await told()
        end.set()


def main(what: str, backend: str, *args: str) -> None:
    logging.basicConfig(format="%(relativeCreated)d %(message)s", level=logging.WARNING)
    program: Any = {"store": host_store, "runners": host_runners}[what]
    anyio.run(program, *args, backend=backend)
    say(ended=what)


if __name__ == "__main__":
    main(*sys.argv[1:])
