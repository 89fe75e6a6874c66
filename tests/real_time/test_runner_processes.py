"""Runners in processes of their own, with the store here: claims, spans and reports go over their links."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import anyio

import lightactors as la
from lightactors.training.records import RolloutConfig
from lightactors.training.runners.runner import Runner
from lightactors.training.stores.memory import MemoryStore


@la.agent
def guess(task: int, secret: bytes) -> float:
    la.emit_message(f"guessing in {os.getpid()}")
    return -abs(task - secret[0])


@la.agent
def die_once(task: str) -> float:
    try:
        os.open(task, os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return 1.0
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


async def test_runners_in_processes_train() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tasks:
        store = await system.spawn(MemoryStore)
        runners = [
            await system.options(name=f"runner-{number}", place="process").spawn(
                Runner, guess, store, worker_id=f"worker-{number}"
            )
            for number in range(2)
        ]
        for runner in runners:
            tasks.start_soon(runner.run)
        published = await store.add_resources({"secret": bytes([7])})
        results = await la.run_tasks(store, list(range(20)), mode="train", resources_id=published.resources_id)

        assert [result.reward for result in results] == [-abs(task - 7) for task in range(20)]
        spans = await store.query_spans(results[0].rollout.rollout_id)
        assert any("guessing in" in str(span.attributes) for span in spans)
        for runner in runners:
            assert await la.stop(runner) is la.Rung.DRAIN


async def test_rollout_of_a_killed_runner_is_run_again_by_its_next_incarnation(tmp_path: os.PathLike[str]) -> None:
    async with la.open_system() as system, la.supervise() as supervisor, anyio.create_task_group() as tasks:
        store = await system.spawn(MemoryStore)
        runner = await supervisor.options(place="process").spawn(Keen, store)
        config = RolloutConfig(max_attempts=2, unresponsive_seconds=0.3, retry_condition=["unresponsive"])
        rollout = await store.enqueue_rollout(f"{tmp_path}/been here", config=config)
        with anyio.fail_after(10):
            (ended,) = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id])

        assert ended.status == "succeeded"
        assert la.statistics(runner).restarts == 1
        tasks.cancel_scope.cancel()


@la.actor
class Keen:
    """Runs rollouts from its start on, so that a new incarnation does too."""

    def __init__(self, store: la.Store) -> None:
        self.store = store

    async def on_start(self) -> None:
        self.runner = await la.spawn(Runner, die_once, self.store, worker_id="keen", heartbeat_interval=0.1)
        await self.runner.run.tell()


def test_fork_has_an_id_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=20, check=True)
    assert len(set(done.stdout.split())) == 2


FORK = """
import os
from lightactors.training.runners.workers import process_id
process_id()
child = os.fork()
os.write(1, f"{process_id()} ".encode())
if child:
    os.waitpid(child, 0)
"""
