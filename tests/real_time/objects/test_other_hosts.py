"""A lender in a network of its own, where this program's store has no name, as on another host."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import lightactors as la
from lightactors.contract import contract_of
from lightactors.errors import ObjectLost
from lightactors.objects.shelf import Shelf
from lightactors.remote.link import SHELF
from lightactors.remote.node import node_of
from tests.actors.cast import Later
from tests.real_time.marks import chiefly_on
from tests.real_time.objects.hosts import Lender
from tests.real_time.objects.stores import open_files
from tests.real_time.remote.cluster import Host

pytestmark = chiefly_on("trio")

SIZE = 100_000_000


@pytest.fixture
def host(tmp_path: Path) -> Generator[tuple[Host, str]]:
    try:
        subprocess.run(["unshare", "-n", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network of its own can be had here: {error}")
    address = f"unix:{tmp_path}/lender"
    host = Host(["unshare", "-n"], address, module="tests.real_time.objects.hosts")
    try:
        host.hear("address")
        yield host, f"{address}#lender"
    finally:
        host.close()


async def test_object_of_another_host_is_pulled(host: tuple[Host, str]) -> None:
    async with la.open_system():
        lender = await la.connect(Lender, host[1])
        ref = await lender.put(SIZE)
        assert (await la.get(ref))[-1] == 7
        assert (await la.objects.statistics()).counters.puts == 1


async def test_lender_does_not_run_ahead_of_a_slow_puller(host: tuple[Host, str]) -> None:
    async with la.open_system() as system:
        lender = await la.connect(Lender, host[1])
        ref: Any = await lender.put(SIZE)
        before = await lender.memory()
        shelf: Any = node_of(system).refs_of(ref.held.link).standin("objects", SHELF, contract_of(Shelf)).ref
        pieces = shelf.pull(*ref.held.lent_as)
        assert len(await anext(pieces))
        await anyio.sleep(0.5)  # long enough for all of it to have left
        assert await lender.memory() < before + 16 * 2**20
        await pieces.aclose()


async def test_lender_that_is_killed_in_mid_pull(host: tuple[Host, str]) -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        lender = await la.connect(Lender, host[1])
        ref = await lender.put(SIZE)
        get = Later(tg, la.get, ref)
        while (await la.objects.statistics()).leased < SIZE:
            await anyio.lowlevel.checkpoint()
        host[0].process.kill()
        assert isinstance(await get.done(), ObjectLost)
        assert (await la.objects.statistics()).leased < SIZE
        assert system.addresses == []


async def test_many_objects_are_pulled_with_few_threads_and_descriptors(host: tuple[Host, str]) -> None:
    async with la.open_system():
        lender = await la.connect(Lender, host[1])
        refs = [await lender.put(1000) for _ in range(300)]
        await la.put(None)
        threads, files = threading.active_count(), len(list(open_files(os.getpid())))
        most_threads = most_files = 0

        async with anyio.create_task_group() as tg:
            gets = [Later(tg, la.get, ref) for ref in refs]
            while any(isinstance(get.outcome, str) for get in gets):
                most_threads = max(most_threads, threading.active_count())
                most_files = max(most_files, len(list(open_files(os.getpid()))))
                await anyio.sleep(0.001)
        assert all([(await la.get(ref))[-1] == 7 for ref in refs])
        assert most_threads < threads + 60
        assert most_files < files + 200
