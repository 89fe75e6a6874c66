"""Arrays among a store's resources: one copy for all runners, whatever the engine and wherever it lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
