"""The power goes at any moment: the file is never damaged, and what was acknowledged is there.

With `durability=normal` the last moments may be missing, but nothing that came before something that is there.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from lightactors.training.records import RolloutConfig, Span
from lightactors.training.stores.opening import open_store
from tests.real_time.durability.apsw_driver import store_over
from tests.real_time.durability.drive import Drive, Note, images, restore
from tests.real_time.marks import chiefly_on

pytestmark = chiefly_on("asyncio")

T = TypeVar("T")

CALLERS = 3


@dataclass(frozen=True, slots=True)
class Done:
    """What a caller was told, and when: as far as the drive's record went when it asked, and when it was told."""

    asked: int
    told: int
    what: tuple[str, ...]


class Caller:
    """Somebody who does one thing after the other."""

    def __init__(self, name: str, store: Any, drive: Drive) -> None:
        self._name = name
        self._store = store
        self._drive = drive
        self._random = random.Random(name)
        self.done: list[Done] = []

    async def _do(self, call: Awaitable[T], *what: str) -> T:
        asked = self._drive.now
        answer = await call
        ids = [] if what[0] != "claimed" else [answer.attempt.attempt_id]  # type: ignore[attr-defined]
        self.done.append(Done(asked, self._drive.now, (*what, *ids)))
        return answer

    async def work(self, rounds: int) -> None:
        store = self._store
        for number in range(rounds):
            rollout_id = f"{self._name}-{number}"
            task = {"text": self._random.randbytes(self._random.choice([10, 500, 6000])).hex()}
            config = RolloutConfig(unresponsive_seconds=600)
            await self._do(
                store.enqueue_rollout(task, config=config, rollout_id=rollout_id),
                "enqueued",
                rollout_id,
            )
            claimed = await store.dequeue_rollout(self._name)
            assert claimed is not None
            ids = claimed.rollout_id, claimed.attempt.attempt_id
            await self._do(store.add_many_spans([self._span(*ids, n) for n in range(1, 4)]), "spans", *ids)
            await self._do(store.update_attempt(*ids, "succeeded"), "succeeded", *ids)

    def _span(self, rollout_id: str, attempt_id: str, number: int) -> Span:
        return Span(
            rollout_id=rollout_id,
            attempt_id=attempt_id,
            sequence_id=number,
            trace_id="0" * 32,
            span_id=f"{number:016x}",
            name="work",
            attributes={"text": self._random.randbytes(self._random.choice([10, 300])).hex()},
        )


async def life(folder: Path, durability: str, rounds: int) -> tuple[Sequence[Note], list[Done]]:
    """Work with a store on a drive; return the drive's record and what the callers were told."""
    drive = Drive(f"drive-{durability}")
    store = store_over(drive.name, f"{folder}/run.db", durability, wal_autocheckpoint=40, cache_size=50)
    callers = [Caller(f"caller-{number}", store, drive) for number in range(CALLERS)]
    async with anyio.create_task_group() as tg:
        for caller in callers:
            tg.start_soon(caller.work, rounds)
    await anyio.to_thread.run_sync(store.close)
    return drive.record, [done for caller in callers for done in caller.done]


def check_whole(path: Path) -> None:
    """The file is sound, and its tables agree with each other."""
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchall():
            return  # the power went while it was made
        counters = dict(connection.execute("SELECT name, value FROM counters"))
        counted = {
            "rollouts": "SELECT count(*) FROM rollouts",
            "spans": "SELECT count(*) FROM spans",
            "queued": "SELECT count(*) FROM rollouts WHERE position IS NOT NULL",
            "finished": "SELECT count(*) FROM rollouts WHERE finish IS NOT NULL",
        }
        for name, sql in counted.items():
            assert counters[name] == connection.execute(sql).fetchone()[0], name
        ends = [finish for (finish,) in connection.execute("SELECT finish FROM rollouts WHERE finish > 0 ORDER BY 1")]
        assert ends == list(range(1, len(ends) + 1))
        assert not connection.execute("SELECT number FROM rollouts EXCEPT SELECT number FROM inputs").fetchall()


async def kept(store: Any) -> set[tuple[str, ...]]:
    """Return what a store has of what callers may have been told."""
    facts: set[tuple[str, ...]] = set()
    for rollout in await store.query_rollouts():
        facts.add(("enqueued", rollout.rollout_id))
        for attempt in await store.query_attempts(rollout.rollout_id):
            ids = rollout.rollout_id, attempt.attempt_id
            facts.add((attempt.status, *ids))
            if len(await store.query_spans(*ids)) == 3:
                facts.add(("spans", *ids))
    return facts


async def check_it_goes_on(store: Any) -> None:
    """What is there can be worked on, and more be added."""
    await store.enqueue_rollout("more")
    while (claimed := await store.dequeue_rollout("somebody")) is not None:
        await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, "succeeded")
    assert (await store.statistics()).queue_length == 0


async def after(folder: Path) -> set[tuple[str, ...]]:
    """Open what is left, without ado."""
    check_whole(folder / "run.db")
    store: Any = open_store(f"{folder}/run.db")
    try:
        facts = await kept(store)
        await check_it_goes_on(store)
    finally:
        await anyio.to_thread.run_sync(store.close)
    check_whole(folder / "run.db")
    return facts


def check_full(moment: int, facts: set[tuple[str, ...]], dones: Iterable[Done]) -> int:
    """All that had been told by then must be there; return how much is missing, which is nothing."""
    missing = [done for done in dones if done.told <= moment and done.what not in facts]
    assert not missing, (moment, missing)
    return 0


def check_normal(moment: int, facts: set[tuple[str, ...]], dones: Iterable[Done]) -> int:
    """What is there must have all before it; return how much of what had been told is missing."""
    dones = list(dones)
    latest = max((done.asked for done in dones if done.what in facts), default=-1)
    missing = [done for done in dones if done.what not in facts and done.told <= moment]
    before = [done for done in missing if done.told <= latest]
    assert not before, (moment, latest, before)
    return len(missing)


Check = Callable[[int, set[tuple[str, ...]], Iterable[Done]], int]
CHECKS: dict[str, Check] = {"full": check_full, "normal": check_normal}


async def lose_power(folder: Path, durability: str, cuts: int, rounds: int, seed: int) -> int:
    """Cut the power of a store's life at so many moments; return how often something told was missing."""
    record, dones = await life(folder, durability, rounds)
    chance = random.Random(seed)
    moments = sorted(chance.randrange(len(record) + 1) for _ in range(cuts))
    losses = 0
    for moment, _, image in images(record, moments, chance):
        facts = await after(restore(image, folder / "after"))
        losses += CHECKS[durability](moment, facts, dones) > 0
    return losses


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_loss_of_power_damages_nothing_and_loses_only_what_it_may(tmp_path: Path, durability: str) -> None:
    losses = await lose_power(tmp_path, durability, cuts=40, rounds=10, seed=1)
    assert (losses > 0) == (durability == "normal")  # else the test would show nothing


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_five_hundred_losses_of_power_damage_nothing(
    tmp_path: Path, durability: str, record_property: Callable[[str, Any], None]
) -> None:
    losses = await lose_power(tmp_path, durability, cuts=500, rounds=40, seed=2)
    record_property("losses", losses)
    assert (losses > 0) == (durability == "normal")
