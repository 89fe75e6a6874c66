"""What a program that is gone has left under way: it goes back to the queue, and costs no attempt.

A program that crashes says nothing to the store, and a store on a disk remembers what its runners were on. Whoever
opens the store next looks after them: at once after those whose process was on this machine and is gone; after those
elsewhere, which nobody here can see, when they have been silent for so long that they would have been heard. A runner
that lives, wherever it is, is heard of by its heartbeats and keeps what it has. Who claims by hand and never beats
keeps it too: `unresponsive_seconds` are for those.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from lightactors.errors import SendError, StoreError, raise_together
from lightactors.training.patience import insist
from lightactors.training.records import AttemptedRollout, Worker
from lightactors.training.runners.workers import give_back, is_alive, process_id
from lightactors.training.stores.contract import Store

logger = logging.getLogger("lightactors")

_LOOKS, _PAUSE = 12, 5.0
"""How often a worker has to be found silent, and the seconds in between: six heartbeats in all."""


@asynccontextmanager
async def leftovers_given_back(store: Store) -> AsyncGenerator[None]:
    """Give back what dead programs have left: what is certain before the block, the rest during it."""
    silent = await give_back_what_is_certain(store)
    if not silent:
        yield
        return
    errors: list[Exception] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_listen, store, silent)
        try:
            yield
        except Exception as error:
            errors.append(error)
        finally:
            tasks.cancel_scope.cancel()
    raise_together("the execution failed more than once", errors)


async def give_back_what_is_certain(store: Store) -> dict[str, Worker]:
    """Give back what is held by processes that are gone; return the workers of whom nobody knows here."""
    in_doubt: dict[str, Worker] = {}
    under_way = await insist(store.query_rollouts, status_in=["preparing", "running"])
    holders = {rollout.attempt.worker_id for rollout in under_way if isinstance(rollout, AttemptedRollout)}
    for worker in await insist(store.query_workers):
        if worker.status == "unknown" and worker.worker_id not in holders:
            continue  # nothing is expected of it
        if worker.last_heartbeat_time is None:
            continue  # it claims by hand and never beats, so its silence says nothing
        lives = is_alive(worker)
        if lives is None:
            in_doubt[worker.worker_id] = worker
        elif not lives:
            await give_back(store, worker, "is gone")
    return in_doubt


async def _listen(store: Store, silent: dict[str, Worker]) -> None:
    """Give back what those are on who stay silent."""
    if busy := [worker.worker_id for worker in silent.values() if worker.status == "busy"]:
        logger.info("listening for %.0f s whether %s live", _LOOKS * _PAUSE, ", ".join(busy))
    try:
        # Looks are counted, and not seconds: while the store can't be reached, nobody can be heard.
        for _ in range(_LOOKS):
            await anyio.sleep(_PAUSE)
            for worker_id, worker in list(silent.items()):
                if await insist(store.get_worker_by_id, worker_id) != worker:
                    del silent[worker_id]
        for worker in silent.values():
            await give_back(store, worker, f"has not been heard of for {_LOOKS * _PAUSE:.0f} s")
    except (StoreError, SendError):
        # The execution has the same store, and says what is wrong with it.
        logger.warning("what other programs have left under way can't be looked after", exc_info=True)


async def own_name(store: Store, name: str) -> str:
    """Return a worker's name, made another one if a program that may be alive has a worker of that name."""
    worker = await insist(store.get_worker_by_id, name)
    if worker is None or worker.status == "unknown" or (worker.heartbeat_stats or {}).get("process") == process_id():
        return name
    return f"{name}.{secrets.token_hex(2)}"
