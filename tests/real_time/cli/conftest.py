"""A user's project, and a store to join."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.real_time.cli.client import Client, Clients
from tests.real_time.cli.command import Command, running

AGENTS = """
import os, signal, time
import anyio
import lightactors as la

@la.agent
def answer(task: int) -> float:
    return task * 2.0

@la.agent
async def doze(task: float) -> float:
    await anyio.sleep(task)
    return 1.0

@la.agent
def compute(task: float) -> float:
    time.sleep(task)
    return 1.0

@la.agent
def die_once(task: str) -> float:
    try:
        os.open(task, os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return 1.0
    os._exit(3)

@la.agent
def note(task: str) -> float:
    time.sleep(0.5)
    open(task, "w").close()
    return 1.0

@la.agent
async def stubborn(task: float) -> float:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(task)

@la.agent
def die(task: int) -> float:
    os._exit(3)
"""


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def client(portal: BlockingPortal) -> Clients:
    return partial(Client, portal)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "crew").mkdir()
    (tmp_path / "crew/agents.py").write_text(AGENTS)
    return tmp_path


@pytest.fixture
def store(project: Path) -> Iterator[Command]:
    with running("store", "--listen", "grpc://127.0.0.1:0", cwd=project) as command:
        yield command


@pytest.fixture
def address(store: Command) -> str:
    return store.says(r"^  (grpc://127\.0\.0\.1:\d+)$")[1]
