"""Arrays among a store's resources: one copy for all runners, whatever the engine and wherever it lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import anyio
import numpy as np
import pytest

import lightactors as la

MIB = 2**20


@la.actor
class Reader:
    """A runner, as far as its resources go."""

    def __init__(self, store: la.Store) -> None:
        self.store = store
        self.resources: Any = None

    @la.handler
    async def read(self) -> tuple[float, bool, str]:
        update = await self.store.get_latest_resources()
        assert update is not None
        self.resources = update.resources
        weights = self.resources["weights"]
        layer = self.resources["state"]["layer"]
        return float(weights[0] + layer["bias"].sum()), weights.flags.writeable, self.resources["llm"].model


def resources(size: int) -> Any:
    return {
        "weights": np.full(size // 8, 2.0),
        "state": {"layer": {"bias": np.ones(5)}},
        "llm": la.LLM("http://localhost", "small"),
        "raw": b"raw",
    }


async def test_eight_processes_read_one_copy() -> None:
    async with la.open_system():
        store = await la.spawn(la.MemoryStore)
        readers = await la.options(place="process").spawn_many(8, Reader, store)
        update = await store.add_resources(resources(64 * MIB))
        assert set(update.resources) == {"weights", "state", "llm", "raw"}
        with anyio.fail_after(60):
            for _ in range(2):
                for reader in readers:
                    assert await reader.read() == (7.0, False, "small")
        figures = await la.objects.statistics()
        large = [found for found in figures.objects if found.size >= MIB]
        assert len(large) == 1
        assert len(large[0].viewers) == 9  # the store, and each reader
        assert figures.counters.put_bytes < 65 * MIB


@pytest.mark.parametrize("engine", ["memory", "sqlite", "process"])
async def test_arrays_are_resources_in_every_engine(engine: str, tmp_path: Path) -> None:
    async with la.open_system():
        store: Any
        if engine == "process":
            store = await la.options(place="process").spawn(la.MemoryStore)
        else:
            store = await la.adopt(la.open_store("memory" if engine == "memory" else tmp_path / "run.db"))
        reader = await la.options(place="process").spawn(Reader, store)
        await store.add_resources(resources(MIB))
        assert await reader.read() == (7.0, False, "small")
        update = await store.get_latest_resources()
        assert update.resources["weights"].sum() == 2 * MIB / 8
        assert update.resources["raw"] == b"raw"
        assert isinstance(update.resources["llm"], la.LLM)
        rollout = await store.enqueue_rollout({"image": np.ones(MIB // 8)})
        assert rollout.input["image"].sum() == MIB / 8


@la.agent
async def weigh(task: int, weights: np.ndarray) -> float:
    assert not weights.flags.writeable
    await anyio.sleep(0.05)  # so that every runner has something to do
    return float(weights[task])


@la.algorithm
async def train(store: la.Store, train: la.Dataset[int]) -> None:
    results = await la.run_tasks(store, train, mode="train")
    assert {result.reward for result in results} == {3.0}
    workers = await store.query_workers()
    assert len(workers) == 8
    figures = await la.objects.statistics()
    large = [found for found in figures.objects if found.size >= MIB]
    assert len(large) == 1
    assert len(large[0].viewers) == 9
    assert figures.counters.put_bytes < 65 * MIB


@pytest.mark.timeout(120)
def test_eight_runners_of_a_trainer_read_one_copy(backend: Literal["asyncio", "trio"]) -> None:
    la.Trainer(
        algorithm=train,
        agent=weigh,
        n_runners=8,
        initial_resources={"weights": np.full(64 * MIB // 8, 3.0)},
        strategy="cs",
        port=0,
        backend=backend,
    ).fit(list(range(64)))
