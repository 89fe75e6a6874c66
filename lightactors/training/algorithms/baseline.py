"""The algorithm that learns nothing: it runs each task once."""

from __future__ import annotations

import logging
import time
from typing import Any

import anyio

from lightactors.training.algorithms.algorithm import Algorithm
from lightactors.training.algorithms.datasets import Dataset
from lightactors.training.algorithms.tasks import TaskResult, run_tasks
from lightactors.training.records import Mode

logger = logging.getLogger("lightactors")


class Baseline(Algorithm):
    """Run each task once, the first `limit` of each dataset (None: all), and keep what came of it in `results`.

    `mode` marks the rollouts of the training set, "val" those of the other. What has finished in an earlier run of
    the program is not run again.
    """

    def __init__(self, limit: int | None = 10, mode: Mode | None = "train") -> None:
        self.limit = limit
        self.mode: Mode | None = mode
        self.results: list[TaskResult[Any]] = []

    async def run(self, train: Dataset[Any], val: Dataset[Any]) -> None:
        # It has nothing to save: who is to stop need not wait until the rollouts under way are finished.
        with anyio.CancelScope() as scope, self.setting.event.cancelling(scope):
            await self._run_all(train, self.mode)
            await self._run_all(val, "val")

    async def _run_all(self, dataset: Dataset[Any], mode: Mode | None) -> None:
        size = len(dataset) if self.limit is None else min(len(dataset), self.limit)
        tasks = [dataset[index] for index in range(size)]
        began = time.time()
        results = await run_tasks(self.store, tasks, mode=mode, key=self.setting.key)
        if results and all((result.rollout.end_time or began) < began for result in results):
            # Who has changed the agent would wonder.
            logger.warning("all %d results are of an earlier run; for new rollouts take another store", len(results))
        for result in results:
            logger.info("%s %s: reward %s", result.rollout.rollout_id, result.rollout.status, result.reward)
            self.results.append(result)
