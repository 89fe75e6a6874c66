"""A store smaller than what is put into it writes to the disk, reads that in place, and fails only with the disk."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

import lightactors as la
from lightactors.errors import ObjectError, ObjectStoreFull
from lightactors.objects.client import Client
from lightactors.objects.line import Slow
from tests.real_time.objects.stores import (
    MIB,
    accounted,
    figures,
    is_whole,
    look,
    open_files,
    open_store,
    owner_of,
    put,
    put_patiently,
    sealed,
    settled,
    until,
    wait_until,
)


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    """Give a directory on a disk of that size."""
    if os.getuid() != 0:
        pytest.skip("NOT TESTED WITHOUT ROOT: a full disk (nobody may mount one)")
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED HERE: a full disk (it can't be mounted: {mounted.stderr.strip()})")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


# All that does not fit


def test_ten_times_the_capacity_is_read_back_in_any_order(tmp_path: Path) -> None:
    chance = random.Random(1)
    with open_store(8 * MIB, spill=tmp_path) as store:
        client = store.client()
        held, sums, total = [], [], 0
        while total < 80 * MIB:
            data = sealed(chance, chance.choice([1_000, 50_000, 400_000, 1_500_000, 3_000_000]))
            held.append(put_patiently(client, data))
            sums.append(data[:12])
            total += len(data)
        order = list(range(len(held)))
        chance.shuffle(order)
        for number in order:
            assert bytes(look(held[number])[:12]) == sums[number]
            assert is_whole(look(held[number]))
        found = figures(client)
        assert found.counters.spilled_bytes >= 70 * MIB
        assert found.counters.restored > 0
        assert found.used == accounted(found)
        assert list(tmp_path.iterdir()) == []  # nothing there has a name
        pid = store.pid
        held.clear()
        found = until(client, lambda found: not found.total_objects)
        assert found.spilled_bytes == 0
        wait_until(lambda: not [path for path in open_files(pid) if str(tmp_path) in path])
    assert list(tmp_path.iterdir()) == []


def _fill_and_read(name: str, seed: int) -> None:
    """Put more than the store has, and read it back."""
    chance, client = random.Random(seed), Client(name, f"process {seed}")
    held = [
        put_patiently(client, sealed(chance, chance.choice([1_000, 300_000, 1_500_000])), within=30.0)
        for _ in range(30)
    ]
    views = []
    for _ in range(60):
        views.append(look(chance.choice(held)))
        del views[:-2]
        assert is_whole(views[-1])


def test_several_processes_share_a_store_that_is_too_small_for_each(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("forkserver")
    with open_store(16 * MIB, spill=tmp_path) as store:
        client = store.client()
        processes = [context.Process(target=_fill_and_read, args=(store.name, seed)) for seed in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
        found = until(client, lambda found: not found.total_objects)
        assert (found.used, found.spilled_bytes) == (0, 0)
        assert found.counters.spilled > 0


async def test_store_smaller_than_the_working_set_only_slows_down(tmp_path: Path) -> None:
    limits = la.ObjectLimits(capacity=8 * MIB, spill=str(tmp_path))
    async with la.open_system("system", objects=limits):
        refs = [await la.put(memoryview(bytes([number]) * 2 * MIB)) for number in range(40)]
        for number, ref in enumerate(refs):
            assert bytes(await la.get(ref)) == bytes([number]) * 2 * MIB


# All that is viewed


def test_what_is_viewed_stays_where_it_is_and_is_written_when_the_view_is_closed(tmp_path: Path) -> None:
    with open_store(16 * MIB, spill=tmp_path) as store:
        client = store.client()
        held = [put(client, bytes([number]) * 3 * MIB) for number in range(4)]
        views = [look(one) for one in held]
        late = [put_patiently(client, bytes([number]) * 2 * MIB) for number in range(10, 16)]
        assert [bytes(view[:1]) for view in views] == [bytes([number]) for number in range(4)]
        assert not any(one.is_spilled for one in figures(client).objects if one.viewers)
        views.clear()
        late += [put_patiently(client, bytes([number]) * 2 * MIB) for number in range(16, 22)]
        assert all(bytes(look(one)) == bytes([number]) * 3 * MIB for number, one in enumerate(held))
        assert all(bytes(look(one)) == bytes([10 + number]) * 2 * MIB for number, one in enumerate(late))
        assert any(one.is_spilled for one in figures(client).objects if one.size > 3 * MIB)


def test_view_of_what_was_spilled_outlives_its_file_and_the_store(tmp_path: Path) -> None:
    with open_store(8 * MIB, spill=tmp_path) as store:
        client = store.client()
        data = sealed(random.Random(1), 2 * MIB)
        held = put(client, data)
        others = [put_patiently(client, bytes(2 * MIB)) for _ in range(6)]
        wait_until(lambda: figures(client).counters.spilled > 0)
        view = look(held)
        del held, others
        assert bytes(view) == data
    assert bytes(view) == data


# A disk that has no room


async def test_full_disk_is_told_and_all_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 12 * MIB) as disk:
        async with la.open_system("system", objects=la.ObjectLimits(capacity=8 * MIB, spill=str(disk))) as system:
            hog = disk / "hog"
            hog.write_bytes(bytes(11 * MIB))
            refs: list[la.ObjectRef[memoryview]] = []
            with pytest.raises(ObjectStoreFull, match=r"nothing can be written to .*No space left on device"):
                await _fill(refs, 2 * MIB)
            began = _processor_seconds(owner_of(system))
            assert refs
            hog.unlink()
            refs.append(await la.put(memoryview(bytes([len(refs)]) * 2 * MIB)))
            refs.append(await la.put(memoryview(bytes([len(refs)]) * 2 * MIB)))
            for number, ref in enumerate(refs):
                assert bytes(await la.get(ref)) == bytes([number]) * 2 * MIB
            assert _processor_seconds(owner_of(system)) - began < 1.0
            found = await settled(lambda found: not found.disk_error)
            assert found.counters.spilled > 0


async def _fill(refs: list[la.ObjectRef[memoryview]], size: int) -> None:
    """Put objects until there is no room for another one."""
    while True:
        ref = await la.put(memoryview(bytes([len(refs)]) * size), within=0.5)
        refs.append(ref)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_owner_that_waits_for_a_full_disk_does_not_spin(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", MIB) as disk, open_store(8 * MIB, spill=disk) as store:
        client, waiter = store.client(), store.client("waiter")
        held = [put(client, bytes(2 * MIB)) for _ in range(3)]
        seconds = _processor_seconds(store.pid)
        with pytest.raises(Slow):
            waiter.lease(4 * MIB, waits=True, patience=2.0)
        assert _processor_seconds(store.pid) - seconds < 0.5
        assert len(held) == 3


def test_file_that_may_not_grow_is_like_a_full_disk(tmp_path: Path) -> None:
    with open_store(8 * MIB, spill=tmp_path) as store:
        client = store.client()
        resource.prlimit(store.pid, resource.RLIMIT_FSIZE, (MIB, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        held = [put(client, bytes([number]) * 2 * MIB) for number in range(3)]
        held.append(put(client, b"\3" * MIB))
        until(client, lambda found: "File too large" in found.disk_error)
        assert [bytes(look(one)[:1]) for one in held] == [b"\0", b"\1", b"\2", b"\3"]


def test_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with open_store(8 * MIB, spill=disk) as store:
        client = store.client()
        disk.rmdir()
        held = [put(client, bytes([number]) * 2 * MIB) for number in range(3)]
        held.append(put(client, b"\3" * MIB))
        until(client, lambda found: "No such file or directory" in found.disk_error)
        assert [bytes(look(one)[:1]) for one in held] == [b"\0", b"\1", b"\2", b"\3"]


async def test_no_more_is_spilled_than_the_limit(tmp_path: Path) -> None:
    limits = la.ObjectLimits(capacity=8 * MIB, spill=str(tmp_path), spill_limit=5 * MIB)
    async with la.open_system("system", objects=limits):
        refs: list[la.ObjectRef[memoryview]] = []
        with pytest.raises(ObjectStoreFull, match=r"none became free within 0\.5 s"):
            await _fill(refs, MIB)
        found = await la.objects.statistics()
        assert 3 * MIB < found.spilled_bytes <= 5 * MIB
        assert len(refs) >= 9
        la.release(refs.pop())
        la.release(refs.pop())
        refs.append(await la.put(memoryview(bytes([len(refs)]) * MIB)))
        for number, ref in enumerate(refs):
            assert bytes(await la.get(ref)) == bytes([number]) * MIB


def test_process_without_a_free_descriptor_is_told_so_and_reads_nothing_else(tmp_path: Path) -> None:
    with open_store(16 * MIB, spill=tmp_path) as store:
        client = store.client()
        first = put_patiently(client, bytes(MIB))
        others = [put_patiently(client, b"others" * (MIB // 6)) for _ in range(40)]
        until(client, lambda found: found.spilled_bytes > 25 * MIB)
        with no_free_descriptor(), pytest.raises(ObjectError, match="Too many open files"):
            look(first)
        assert bytes(look(first)) == bytes(MIB)
        assert others


@contextmanager
def no_free_descriptor() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open(os.devnull, os.O_RDONLY)  # the lowest free one
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        os.close(spare)


async def test_what_is_dropped_takes_no_room_of_the_disk_though_its_neighbour_stays(tmp_path: Path) -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=16 * MIB, spill=str(tmp_path))) as system:
        kept, dropped = list[la.ObjectRef[memoryview]](), list[la.ObjectRef[memoryview]]()
        for number in range(100):
            kept.append(await la.put(memoryview(bytes([number]) * 4096)))
            dropped.append(await la.put(memoryview(bytes(MIB - 8192))))
        assert _on_disk(owner_of(system)) > 50 * MIB
        dropped.clear()
        await settled(lambda found: found.total_objects == 100)
        # When also what was being written is gone:
        await anyio.to_thread.run_sync(wait_until, lambda: _on_disk(owner_of(system)) < 5 * MIB)
        for number, ref in enumerate(kept):
            assert await la.get(ref) == bytes([number]) * 4096


def _on_disk(pid: int) -> int:
    """Return the bytes that a process's files take which no name leads to."""
    taken = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = Path(f"/proc/{pid}/fd/{name}")
        with contextlib.suppress(FileNotFoundError):  # closed since
            if "(deleted)" in (target := os.readlink(path)) and "memfd" not in target:
                taken += 512 * path.stat().st_blocks
    return taken


async def test_store_that_may_not_spill_waits(tmp_path: Path) -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=8 * MIB, spill=None)):
        ref = await la.put(memoryview(bytes(5 * MIB)))
        began = time.monotonic()
        with pytest.raises(ObjectStoreFull, match="spill=None"):
            await la.put(memoryview(bytes(5 * MIB)), within=0.2)
        assert time.monotonic() - began >= 0.2
        la.release(ref)
        await la.put(memoryview(bytes(5 * MIB)), within=0.2)


# Sandboxes

_USE = """
import anyio, lightactors as la

async def main():
    async with la.open_system("system", objects=la.ObjectLimits(capacity={capacity})):
        refs = [await la.put(memoryview(bytes([number]) * 4_000_000)) for number in range(40)]
        for number, ref in enumerate(refs):
            assert bytes(await la.get(ref)) == bytes([number]) * 4_000_000
        print((await la.objects.statistics()).used)

anyio.run(main)
"""


def _used(prepare: str, capacity: int, command: list[str] | None = None) -> int:
    """Return what a program uses of its store, where something was prepared."""
    program = f"{prepare}\n{_USE.format(capacity=capacity)}"
    ran = subprocess.run(
        [*(command or []), sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


def test_container_with_64_mb_of_shared_memory_has_a_larger_store() -> None:
    if os.getuid() != 0:
        pytest.skip("NOT TESTED WITHOUT ROOT: a /dev/shm of 64 MB (nobody may mount one)")
    script = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh"]
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"NOT TESTED HERE: a /dev/shm of 64 MB (it can't be mounted: {tried.stderr.strip()})")
    assert _used("", 256 * MIB, command) > 100 * MIB


@pytest.mark.parametrize("capacity", [64 * MIB, 256 * MIB])
def test_sandbox_without_memfd_has_a_store_in_a_file_without_a_name(capacity: int) -> None:
    """The owner's program is given, ahead of all else, a line that takes the function away."""
    before = set(os.listdir("/dev/shm"))
    prepare = (
        "from lightactors.objects import founder\nfounder._OWNER = 'import os; del os.memfd_create; ' + founder._OWNER"
    )
    assert _used(prepare, capacity) > 30 * MIB
    assert not {name for name in set(os.listdir("/dev/shm")) - before if name.startswith(("tmp", "lightactors"))}
