"""A store in a process, a crew of runners that are killed and frozen, and all that they were told."""

from __future__ import annotations

import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import msgspec

import lightactors as la
from lightactors.training.patience import insist
from lightactors.training.records import EnqueueRolloutRequest, RolloutConfig
from tests.real_time.durability import histories
from tests.real_time.durability.crew import Plan, joined
from tests.real_time.durability.histories import Kept, Verdict
from tests.real_time.remote.cluster import Host

LEASE = 1.0

CONFIG = RolloutConfig(unresponsive_seconds=LEASE, max_attempts=1000, retry_condition=["unresponsive"])

_AHEAD = 100
"""Rollouts that are unfinished at any time: few, so that another runner soon has what one has lost."""

_AT_ONCE = 64


class Keeper(Host):
    """The store's process, and whoever starts it again."""

    def __init__(self, url: str, backend: str, address: str = "grpc://127.0.0.1:0") -> None:
        super().__init__((), url, address, backend, module="tests.real_time.durability.keeper")
        self.address = str(self.hear("serving")["serving"])


@dataclass
class Storm:
    """Rollouts that must all be run, whatever happens."""

    backend: str
    folder: Path
    keepers: Sequence[Keeper]

    @property
    def keeper(self) -> Keeper:
        """The first of the stores."""
        return self.keepers[0]

    @property
    def path(self) -> str:
        return f"{self.keeper.address}/store"

    @contextmanager
    def crew(self, command: Sequence[str] = (), **trouble: Any) -> Generator[Host]:
        addresses = [f"{keeper.address}/store" for keeper in self.keepers]
        plan = Plan(addresses, str(self.folder / "history"), self.backend, frost=1.5 * LEASE, **trouble)
        crew = Host(command, msgspec.json.encode(plan).decode(), module="tests.real_time.durability.crew")
        try:
            yield crew
        finally:
            crew.close()

    async def run_all(self, count: int) -> list[str]:
        """Enqueue so many rollouts, some ahead of the runners, and follow the ends until all have come, each once."""
        store = await joined(self.path)
        ids = [f"ro-{number}" for number in range(count)]
        left, ended, mine = deque(ids), list[str](), set(ids)
        cursor = 0
        while len(ended) < count:
            room = _AHEAD - (count - len(left) - len(ended))
            chunk = [left.popleft() for _ in range(min(room, len(left)))]
            # Under ids of our own, so that it may be asked again.
            requests = [EnqueueRolloutRequest(one, config=CONFIG, rollout_id=one) for one in chunk]
            await insist(store.enqueue_many_rollouts, requests)
            completions = await insist(store.query_completions, cursor, limit=1000, timeout=None)
            ended += [rollout.rollout_id for rollout in completions.rollouts if rollout.rollout_id in mine]
            cursor = completions.cursor
        assert set(ended) == mine
        assert len(ended) == count
        return ids

    async def trouble_store(self, times: int) -> None:
        """Kill the store's process so often, at any moment of its life, that of its start included."""
        chance = random.Random(times)
        for _ in range(times):
            await anyio.sleep(chance.choice([0.02, 0.2, 0.4, 0.8]))
            chance.choice(self.keepers).tell("kill")

    async def trouble_clock(self, offsets: Sequence[float]) -> None:
        """Put the store's wall clock off, again and again."""
        for offset in itertools.cycle(offsets):
            self.keeper.tell(f"clock {offset}")
            await anyio.sleep(0.2)

    async def verdict(self, ids: Sequence[str]) -> Verdict:
        """Compare what the store has with what the runners were told, when these have ended."""
        store = await joined(self.path)
        kept: list[Kept] = []

        async def look(rollout_ids: Sequence[str]) -> None:
            for rollout_id in rollout_ids:
                rollout = await store.get_rollout_by_id(rollout_id)
                assert rollout is not None, f"{rollout_id} is lost"
                kept.append(Kept(rollout, await store.query_attempts(rollout_id), await store.query_spans(rollout_id)))

        async with anyio.create_task_group() as tg:
            for first in range(_AT_ONCE):
                tg.start_soon(look, ids[first::_AT_ONCE])
        verdict = histories.judge(histories.read(self.folder / "history"), kept)
        verdict.check()
        return verdict


@contextmanager
def open_storm(url: str, backend: str, folder: Path, *, stores: int = 1) -> Generator[Storm]:
    """Start a store in a process of its own, or several over one database."""
    with ExitStack() as stack:
        keepers: list[Keeper] = []
        for _ in range(stores):
            keepers.append(Keeper(url, backend))
            stack.callback(keepers[-1].close)
        yield Storm(backend, folder, keepers)


async def calm() -> None:
    """Trouble nothing more."""


async def weather(
    storm: Storm,
    count: int,
    *,
    store_kills: int = 0,
    clock: Sequence[float] = (),
    more: Callable[[], Coroutine[Any, Any, None]] = calm,
    **trouble: Any,
) -> dict[str, float]:
    """Have a crew run so many rollouts while it and the store are troubled; check everything, and return figures."""
    async with la.open_system("algorithm"):
        began = time.monotonic()
        with storm.crew(**trouble) as crew:
            async with anyio.create_task_group() as tg:
                tg.start_soon(_fail_with, crew)
                for keeper in storm.keepers:
                    tg.start_soon(_fail_with, keeper)
                tg.start_soon(storm.trouble_clock, clock)
                async with anyio.create_task_group() as work:
                    work.start_soon(storm.trouble_store, store_kills)
                    work.start_soon(more)
                    ids = await storm.run_all(count)
                tg.cancel_scope.cancel()
            seconds = time.monotonic() - began
            crew.tell("end")
            did = crew.hear("kills", within=30)
            crew.end()
        verdict = await storm.verdict(ids)
        statistics = await (await joined(storm.path)).statistics()
        assert statistics.fenced >= verdict.refused
        if not store_kills and more is calm:  # else what was refused may have been asked again
            assert statistics.fenced <= verdict.refused + verdict.unanswered
    return {
        "seconds": round(seconds, 1),
        "kills": did["kills"],
        "freezes": did["freezes"],
        "attempts": verdict.attempts,
        "refused": verdict.refused,
        "fenced": statistics.fenced,
    }


async def _fail_with(host: Host) -> None:
    await anyio.to_thread.run_sync(host.process.wait, abandon_on_cancel=True)
    raise AssertionError("".join(host.errors))
