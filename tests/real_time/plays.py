"""Bundles for executions in several processes: functions of a module, which every process can import."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import anyio
import anyio.lowlevel

from lightactors.training.algorithms.tasks import run_tasks
from lightactors.training.events import ExecutionEvent
from lightactors.training.records import AttemptedRollout, RolloutConfig
from lightactors.training.runners.runner import Runner
from lightactors.training.stores.contract import Store

TASKS = 20


# Algorithms


async def run_all(store: Store, event: ExecutionEvent) -> None:
    """Run some tasks, and say in the resources where the algorithm was."""
    await store.add_resources({"pid": str(os.getpid()).encode()})
    results = await run_tasks(store, range(TASKS))
    assert [result.rollout.status for result in results] == ["succeeded"] * TASKS, results


async def enqueue_one(store: Store, event: ExecutionEvent) -> None:
    rollout = await store.enqueue_rollout("task")
    await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id])


async def enqueue_one_with_a_retry(store: Store, event: ExecutionEvent) -> None:
    config = RolloutConfig(max_attempts=2, retry_condition=["unresponsive"])
    rollout = await store.enqueue_rollout("task", config=config)
    (ended,) = await store.wait_for_rollouts(rollout_ids=[rollout.rollout_id])
    assert ended.status == "succeeded", ended


async def wait_for_the_event(store: Store, event: ExecutionEvent) -> None:
    await store.enqueue_rollout("task")
    await event


async def wait_forever(store: Store, event: ExecutionEvent) -> None:
    for number in range(4):
        await store.enqueue_rollout(number)
    await anyio.sleep_forever()


async def end_when_it_runs(store: Store, event: ExecutionEvent) -> None:
    """End as soon as a rollout is being run."""
    await store.enqueue_rollout("task")
    while not await store.query_rollouts(status_in=["running"]):
        await anyio.lowlevel.checkpoint()


async def end_when_somebody_came(store: Store, event: ExecutionEvent) -> None:
    while not await store.query_workers():
        await anyio.lowlevel.checkpoint()


async def break_down(store: Store, event: ExecutionEvent) -> None:
    raise ValueError("no idea")


async def leave_with_3(store: Store, event: ExecutionEvent) -> None:
    sys.stderr.write("out of ideas\n")
    sys.stderr.flush()
    os._exit(3)


async def leave_with_0(store: Store, event: ExecutionEvent) -> None:
    os._exit(0)


async def terminate_itself(store: Store, event: ExecutionEvent) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await anyio.sleep_forever()


# Runners


async def run(store: Store, number: int, event: ExecutionEvent) -> None:
    await Runner(answer, store, worker_id=f"runner-{number}").run(event)


async def run_elsewhere(store: Store, number: int, event: ExecutionEvent) -> None:
    """Run under a name that nobody else has."""
    await Runner(answer, store, worker_id=f"runner-{os.getpid()}-{number}").run(event)


async def answer(task: object, rollout: AttemptedRollout) -> float:
    return 1.0


async def run_slowly(store: Store, number: int, event: ExecutionEvent) -> None:
    """Run agents that never end."""
    await Runner(never_answer, store, worker_id=f"runner-{number}", heartbeat_interval=0.1).run(event)


async def never_answer(task: object) -> float:
    await anyio.sleep_forever()
    return 1.0


async def die_at_work(store: Store, number: int, event: ExecutionEvent) -> None:
    await Runner(die, store, worker_id=f"runner-{number}").run(event)


async def die(task: object) -> float:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0.0


async def die_at_the_first_attempt(store: Store, number: int, event: ExecutionEvent) -> None:
    await Runner(die_once, store, worker_id=f"runner-{number}").run(event)


async def die_once(task: object, rollout: AttemptedRollout) -> float:
    if rollout.attempt.sequence_id == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0


async def exit_at_work(store: Store, number: int, event: ExecutionEvent) -> None:
    await Runner(leave, store, worker_id=f"runner-{number}").run(event)


async def leave(task: object) -> float:
    os._exit(0)


async def be_terminated(store: Store, number: int, event: ExecutionEvent) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await event


async def fail(store: Store, number: int, event: ExecutionEvent) -> None:
    raise RuntimeError(f"runner {number} is broken")


async def wait_for_stop(store: Store, number: int, event: ExecutionEvent) -> None:
    await event


async def be_deaf(store: Store, number: int, event: ExecutionEvent) -> None:
    """Take no notice of the event, of SIGINT and of SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _never_return(Path(os.environ["DEAF"]))


def _never_return(told: Path) -> None:
    told.write_text(f"{os.getpid()}")
    while True:
        time.sleep(1)


async def say_where(store: Store, number: int, event: ExecutionEvent) -> None:
    """Say in the resources where the runner is."""
    await store.add_resources({"pid": str(os.getpid()).encode(), "number": str(number).encode()})
    await run(store, number, event)
