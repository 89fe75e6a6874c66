"""Where workers are, and what becomes of those whose process is gone."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from lightactors.training.patience import insist
from lightactors.training.records import AttemptedRollout, Rollout, Worker
from lightactors.training.stores.contract import Store

logger = logging.getLogger("lightactors")

_STATE, _BORN = 0, 19
"""Fields of /proc/PID/stat, counted from the one behind the name."""


_SUSPICIOUS = 3
"""Attempts after which it is said that a rollout may be what its programs die of."""


def process_id() -> str:
    """Return what this process, and no other one anywhere, is known by: hosts share names, and their pods pids."""
    return _random_id(os.getpid())


@cache
def _random_id(pid: int) -> str:
    """Return an id for a process of ours; a fork has a pid, and so an id, of its own."""
    return secrets.token_hex(8)


def whereabouts() -> Mapping[str, object]:
    """Return what a worker's heartbeat says of where it is."""
    here = {"host": socket.gethostname(), "pid": os.getpid(), "process": process_id()}
    machine, born = machine_id(), birth_of(os.getpid())
    return here if machine is None or born is None else {**here, "machine": machine, "born": born}


@cache
def machine_id() -> str | None:
    """Return what all processes share that can see one another, until the machine starts again; None: who knows."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux, or nothing of it to be seen
        return None


def birth_of(pid: int) -> int | None:
    """Return when a process of this machine began, in ticks since the machine did; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # gone, or hidden from us
        return None
    return None if fields[_STATE] in "ZX" else int(fields[_BORN])


def is_alive(worker: Worker) -> bool | None:
    """Tell whether a worker's process is there; None: it is elsewhere, and nobody here can know."""
    said = worker.heartbeat_stats or {}
    pid, born = said.get("pid"), said.get("born")
    if said.get("process") == process_id():
        return True
    if said.get("machine") != machine_id() or not isinstance(pid, int) or not isinstance(born, int) or pid < 1:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return birth_of(pid) in (born, None)
    return birth_of(pid) == born


async def release_workers(store: Store, process: str, *, was_asked: bool = False) -> None:
    """Give up the workers of a process that is gone, which `process_id` told: what they were on is not to stay so.

    `was_asked`: it was to end, so its rollouts have not failed, and go back to the queue.
    """
    for worker in await insist(store.query_workers):
        said = worker.heartbeat_stats or {}
        if said.get("process") != process:
            continue
        if was_asked:
            await give_back(store, worker, "was stopped")
        for attempt in await insist(store.release_worker, worker.worker_id):
            logger.warning(
                "rollout %s, attempt %s, is unresponsive: process %s of worker %s is gone",
                attempt.rollout_id,
                attempt.attempt_id,
                said.get("pid"),
                worker.worker_id,
            )


async def give_back(store: Store, worker: Worker, why: str) -> None:
    """Put all that a worker is on into the queue again, and give the worker up."""
    said: Mapping[str, Any] = worker.heartbeat_stats or {}
    for rollout in await insist(store.give_back, worker.worker_id):
        logger.warning(
            "rollout %s is in the queue again%s: worker %s (process %s on %s) %s",
            rollout.rollout_id,
            _how_often(rollout),
            worker.worker_id,
            said.get("pid", "unknown"),
            said.get("host", "an unknown host"),
            why,
        )
    await insist(store.release_worker, worker.worker_id)


def _how_often(rollout: Rollout) -> str:
    # It costs no attempt, so nothing but who reads this ends a rollout that kills its program each time.
    number = rollout.attempt.sequence_id if isinstance(rollout, AttemptedRollout) else 1
    return "" if number < _SUSPICIOUS else f", after {number} attempts (cancel it if it is what ends the program)"
