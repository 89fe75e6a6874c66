"""A crew of runner processes, one of which is killed or frozen every few milliseconds; each is replaced at once.

`python -m tests.real_time.durability.crew ORDERS` forks them and troubles them until it is told `calm` or `end`. It
says in the end what it did; it ends when its standard input does.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import secrets
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import msgspec

import lightactors as la
import lightactors.remote.grpc.channel  # what a child would import only when it connects
import lightactors.remote.grpc.io
from lightactors.errors import ActorNotRunning, FencedAttempt
from lightactors.training.patience import insist
from lightactors.training.records import Attempt, Span
from tests.real_time.durability.forks import Orders, fork
from tests.real_time.durability.histories import Pen
from tests.real_time.remote.hosts import say


class Plan(msgspec.Struct, frozen=True):
    """Who is troubled how often."""

    addresses: list[str]  # of stores over one database; the runners spread over them
    history: str
    backend: str
    runners: int = 16
    period: float = 0.05
    frozen: float = 0.1  # the share of those that are frozen instead of killed
    frost: float = 1.5  # seconds
    work: float = 0.04  # seconds for a rollout
    seed: int = 0


async def joined(address: str) -> la.Store:
    """Return the store, as soon as there is one at the address."""
    while True:
        with suppress(ActorNotRunning):  # it listens already
            return await insist(la.connect, la.Store, address)
        await anyio.sleep(0.05)


class Hand:
    """A runner: it claims, works, sends a span and acknowledges, and writes down what it is told."""

    def __init__(self, plan: Plan, number: int, end: int) -> None:
        self._plan = plan
        self._worker = worker = f"worker-{number}"
        self._address = plan.addresses[number % len(plan.addresses)]
        self._end = end  # a pipe that is closed when it is to end
        self._pen = Pen(Path(plan.history), worker)
        self._is_over = False
        self._claiming: anyio.CancelScope | None = None

    async def run(self) -> None:
        async with la.open_system(self._worker), anyio.create_task_group() as tg:
            store = await joined(self._address)
            tg.start_soon(self._hear)
            while not self._is_over:
                with anyio.CancelScope() as self._claiming:
                    await self._do(store, await self._claim(store))
            tg.cancel_scope.cancel()

    async def _hear(self) -> None:
        """Let it end when it is told, once what it has claimed is done."""
        await anyio.wait_readable(self._end)
        self._is_over = True
        if self._claiming is not None:
            self._claiming.cancel()

    async def _claim(self, store: la.Store) -> Attempt:
        claim_id = secrets.token_hex(8)
        claimed = await insist(store.dequeue_rollout, self._worker, timeout=None, claim_id=claim_id)
        assert claimed is not None
        self._claiming = None
        return claimed.attempt

    async def _do(self, store: la.Store, attempt: Attempt) -> None:
        self._pen.note("claimed", attempt, attempt.sequence_id)
        with suppress(FencedAttempt):
            await anyio.sleep(self._plan.work / 2)
            await self._send_span(store, attempt)
            await anyio.sleep(self._plan.work / 2)
        self._pen.note("asked", attempt)
        try:
            await insist(store.update_attempt, attempt.rollout_id, attempt.attempt_id, "succeeded")
        except FencedAttempt:
            self._pen.note("refused", attempt)
        else:
            self._pen.note("acknowledged", attempt)

    async def _send_span(self, store: la.Store, attempt: Attempt) -> None:
        number = await insist(store.get_next_span_sequence_id, attempt.rollout_id, attempt.attempt_id)
        self._pen.note("numbered", attempt, number)
        span = Span(
            rollout_id=attempt.rollout_id,
            attempt_id=attempt.attempt_id,
            sequence_id=number,
            trace_id="0" * 32,
            span_id=secrets.token_hex(8),
            name="work",
        )
        self._pen.note("span asked", attempt, number)
        try:
            await insist(store.add_span, span)
        except FencedAttempt:
            self._pen.note("span refused", attempt, number)
            raise
        self._pen.note("span kept", attempt, number)


class Crew:
    """The processes, and what befalls them."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = random.Random(plan.seed)
        self._numbers = itertools.count()
        self._at_work: list[int] = []
        self._frozen: list[tuple[float, int]] = []
        self._kills = self._freezes = 0
        self._end_of_hands, self._end_here = os.pipe()

    def run(self, orders: Orders) -> None:
        trouble = time.monotonic() + self._plan.period
        self._fill()
        order = None
        while order is None:
            now = time.monotonic()
            self._thaw(now)
            self._see_that_all_live()
            if now >= trouble:
                self._trouble(now)
                self._fill()
                trouble = max(now, trouble + self._plan.period)
            order = orders.next(trouble - time.monotonic())
        self._thaw(float("inf"))
        self._end()
        say(kills=self._kills, freezes=self._freezes)

    def _fill(self) -> None:
        while len(self._at_work) < self._plan.runners:
            self._at_work.append(fork(partial(self._work, next(self._numbers))))

    def _work(self, number: int) -> None:
        os.close(self._end_here)
        anyio.run(Hand(self._plan, number, self._end_of_hands).run, backend=self._plan.backend)

    def _trouble(self, now: float) -> None:
        pid = self._at_work.pop(self._random.randrange(len(self._at_work)))
        if self._random.random() < self._plan.frozen:
            os.kill(pid, signal.SIGSTOP)
            heapq.heappush(self._frozen, (now + self._plan.frost, pid))
            self._freezes += 1
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._kills += 1

    def _see_that_all_live(self) -> None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        assert not pid, f"a runner ended by {os.waitstatus_to_exitcode(status)}"

    def _thaw(self, now: float) -> None:
        while self._frozen and self._frozen[0][0] <= now:
            _, pid = heapq.heappop(self._frozen)
            os.kill(pid, signal.SIGCONT)
            self._at_work.append(pid)

    def _end(self) -> None:
        os.close(self._end_here)
        for pid in self._at_work:
            _, status = os.waitpid(pid, 0)
            assert status == 0, f"a runner ended by {os.waitstatus_to_exitcode(status)}"


def main(plan: str) -> None:
    orders = msgspec.json.decode(plan, type=Plan)
    __import__(f"anyio._backends._{orders.backend}")
    Crew(orders).run(Orders())


if __name__ == "__main__":
    main(*sys.argv[1:])
