"""What a trainer gives a strategy to run: plain objects that can go to another process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightactors.actors import options
from lightactors.training.algorithms.algorithm import Algorithm, Setting
from lightactors.training.algorithms.datasets import Dataset
from lightactors.training.events import ExecutionEvent
from lightactors.training.progress import showing_progress
from lightactors.training.records import Resources
from lightactors.training.runners.hooks import Hook
from lightactors.training.runners.leftovers import own_name
from lightactors.training.runners.runner import Runner
from lightactors.training.stores.contract import Store


@dataclass(frozen=True)
class AlgorithmPlay:
    """The algorithm's bundle."""

    algorithm: Algorithm
    train: Dataset[Any]
    val: Dataset[Any]
    adapter: Any
    initial_resources: Resources
    progress: bool | None
    key: str | None = None

    async def __call__(self, store: Store, event: ExecutionEvent) -> None:
        if self.initial_resources:
            await store.add_resources(self.initial_resources)
        setting = Setting(store, self.train, self.val, self.adapter, self.initial_resources, event, self.key)
        async with showing_progress(store, self.progress):
            await self.algorithm.play(setting)


@dataclass(frozen=True)
class RunnerPlay:
    """A runner's bundle; `prefix` is how its name in the store begins."""

    kind: Any
    prefix: str
    agent: Any
    hooks: Sequence[Hook]
    tracer: Any
    max_rollouts: int | None

    async def __call__(self, store: Store, worker_id: int, event: ExecutionEvent) -> None:
        runner: Runner = await options(name="runner").spawn(
            self.kind,
            self.agent,
            store,
            worker_id=await own_name(store, f"{self.prefix}-{worker_id}"),
            hooks=self.hooks,
            tracer=self.tracer,
            max_rollouts=self.max_rollouts,
        )
        await runner.run(event)
