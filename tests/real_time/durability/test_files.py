"""A file that can't be had: a clear error or a wait, nothing half-written, and it goes on as soon as it can be."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import apsw
import pytest

import lightactors as la
from lightactors.errors import NotFound, SpawnError, StoreDamaged, StoreUnavailable
from lightactors.testing.store.moves import until_waiting
from lightactors.training.records import PromptTemplate, RolloutConfig, Span
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.sql import DurableStore
from tests.real_time.durability.apsw_driver import store_over
from tests.real_time.durability.disks import TroubledDisk, read_only, small_disk
from tests.real_time.marks import chiefly_on

pytestmark = chiefly_on("asyncio")

LEASE = 0.2

PROMPT = PromptTemplate("Answer {question}, please.")

# A type checker can't see the methods of `DurableStore`.
Durable = Any


@asynccontextmanager
async def opened(store: Durable) -> AsyncIterator[Durable]:
    try:
        yield store
    finally:
        await anyio.to_thread.run_sync(store.close)


def durable(path: Path, **options: Any) -> Durable:
    return open_store(str(path), **options)


def check_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def ids_in(store: Durable) -> list[str]:
    return [rollout.rollout_id for rollout in await store.query_rollouts()]


async def check_it_works(store: Durable) -> None:
    """A rollout goes all the way."""
    fresh = await store.enqueue_rollout("task")
    while True:
        claimed = await store.dequeue_rollout("w")
        await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, "succeeded")
        if claimed.rollout_id == fresh.rollout_id:
            return


# A full disk


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> TroubledDisk:
    return TroubledDisk(request.node.name)


TROUBLES = [
    (apsw.FullError, "xWrite", "the disk is full; make room"),
    (apsw.IOError, "xWrite", "the disk failed"),
    (apsw.IOError, "xSync", "the disk failed"),
]


@pytest.mark.parametrize(("trouble", "at", "complaint"), TROUBLES)
async def test_disk_that_takes_no_more_refuses_the_call_and_keeps_nothing_of_it(
    disk: TroubledDisk, tmp_path: Path, trouble: type[apsw.Error], at: str, complaint: str
) -> None:
    async with opened(store_over(disk.name, str(tmp_path / "run.db"))) as store:
        await store.enqueue_rollout(0, rollout_id="before")
        with disk.troubled(trouble, at):
            for number in range(3):
                with pytest.raises(StoreUnavailable, match=complaint):
                    await store.enqueue_rollout(number, rollout_id=f"meanwhile-{number}")
            assert await ids_in(store) == ["before"]
            assert (await store.statistics()).queue_length == 1
        await store.enqueue_rollout(0, rollout_id="after")
        assert await ids_in(store) == ["before", "after"]
        await check_it_works(store)
    check_file(tmp_path / "run.db")


async def test_all_calls_of_a_transaction_hear_of_a_full_disk(disk: TroubledDisk, tmp_path: Path) -> None:
    refused: list[str] = []

    async def enqueue(rollout_id: str) -> None:
        try:
            await store.enqueue_rollout(0, rollout_id=rollout_id)
        except StoreUnavailable:
            refused.append(rollout_id)

    async with opened(store_over(disk.name, str(tmp_path / "run.db"))) as store:
        await store.statistics()
        with disk.troubled(apsw.FullError, "xWrite"):
            async with anyio.create_task_group() as tg:
                for number in range(50):
                    tg.start_soon(enqueue, f"ro-{number}")
        assert len(refused) == 50
        assert await ids_in(store) == []
        async with anyio.create_task_group() as tg:
            for rollout_id in refused:
                tg.start_soon(enqueue, rollout_id)
        assert sorted(await ids_in(store)) == sorted(f"ro-{number}" for number in range(50))


async def test_claim_that_waits_outlives_a_full_disk(disk: TroubledDisk, tmp_path: Path) -> None:
    async with opened(store_over(disk.name, str(tmp_path / "run.db"))) as store:
        await store.statistics()
        claimed: list[Any] = []

        async def claim() -> None:
            claimed.append(await store.dequeue_rollout("w", timeout=None, claim_id="c"))

        async with anyio.create_task_group() as tg:
            tg.start_soon(claim)
            await until_waiting(store, 1)
            with disk.troubled(apsw.FullError, "xWrite"), pytest.raises(StoreUnavailable):
                await store.enqueue_rollout(0)
            await store.enqueue_rollout(1)
        assert [one.input for one in claimed] == [1]


async def test_lease_that_ends_on_a_full_disk_ends_when_there_is_room(disk: TroubledDisk, tmp_path: Path) -> None:
    async with opened(store_over(disk.name, str(tmp_path / "run.db"))) as store:
        config = RolloutConfig(unresponsive_seconds=LEASE)
        started = await store.start_rollout(0, config=config, worker_id="w")
        with disk.troubled(apsw.FullError, "xWrite"):
            await anyio.sleep(3 * LEASE)
            attempt = await store.get_latest_attempt(started.rollout_id)
            assert attempt.status == "preparing"
        with anyio.fail_after(10):
            (ended,) = await store.wait_for_rollouts(rollout_ids=[started.rollout_id])
        assert ended.attempt.status == "unresponsive"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Give the folder of a disk of 12 MB, if this user may make one."""
    try:
        with small_disk(tmp_path / "small", "12m") as folder:
            yield folder
    except PermissionError as error:
        pytest.skip(str(error))


async def fill(store: Durable) -> list[str]:
    """Enqueue until there is no room; return what was kept."""
    kept: list[str] = []
    while True:
        task = random.Random(len(kept)).randbytes(20_000)
        try:
            kept.append((await store.enqueue_rollout(task, rollout_id=f"ro-{len(kept)}")).rollout_id)
        except StoreUnavailable as error:
            assert "the disk is full; make room: nothing of this call was kept" in str(error)  # noqa: PT017
            return kept


async def test_real_disk_that_is_full_is_written_again_when_there_is_room(small: Path) -> None:
    ballast = anyio.Path(small / "ballast")
    await ballast.write_bytes(bytes(8_000_000))
    async with opened(durable(small / "run.db")) as store:
        kept = await fill(store)
        assert kept
        assert await ids_in(store) == kept
        await ballast.unlink()
        await check_it_works(store)
    check_file(small / "run.db")
    async with opened(durable(small / "run.db")) as store:
        assert (await ids_in(store))[: len(kept)] == kept


# A file that can't be written, or is locked


async def test_file_that_can_only_be_read_is_said_to_be_so(small: Path) -> None:
    async with opened(durable(small / "run.db")) as store:
        await store.enqueue_rollout(0, rollout_id="before")
    async with opened(durable(small / "run.db")) as store:
        with read_only(small), pytest.raises(StoreUnavailable, match=r"run\.db can't be .*; check .*its permissions"):
            await store.enqueue_rollout(1)
        await check_it_works(store)
        assert (await ids_in(store))[0] == "before"


HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2].split(";"):
    connection.execute(statement).fetchall()
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def held(path: Path, how: str) -> Iterator[Callable[[], None]]:
    """Have another process lock the file; give what makes it let go."""
    command = [sys.executable, "-c", HOLDER, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"

        def let_go() -> None:
            process.communicate("\n")

        try:
            yield let_go
        finally:
            process.kill()


ALONE = "PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE"
"""What lets nobody else even read."""


async def test_file_that_is_locked_for_long_is_said_to_be_so(tmp_path: Path) -> None:
    async with opened(durable(tmp_path / "run.db", patience_seconds=0.5)) as store:
        await store.enqueue_rollout(0, rollout_id="before")
        with held(tmp_path / "run.db", "BEGIN IMMEDIATE"):
            with pytest.raises(
                StoreUnavailable, match=r"run\.db is locked by another program, and has been for 0\.5 s"
            ):
                await store.enqueue_rollout(1)
            assert await ids_in(store) == ["before"]  # reading waits for no lock
        await check_it_works(store)


@pytest.mark.parametrize("how", ["BEGIN IMMEDIATE", ALONE])
async def test_file_that_is_locked_for_a_moment_is_waited_for(tmp_path: Path, how: str) -> None:
    path = tmp_path / "run.db"
    async with opened(durable(path)) as store:
        await store.enqueue_rollout(0, rollout_id="before")
    async with opened(durable(path)) as store:
        with held(path, how) as let_go:
            timer = threading.Timer(1, let_go)
            timer.start()
            assert (await store.enqueue_rollout(1, rollout_id="meanwhile")).rollout_id == "meanwhile"
            timer.join()
        assert await ids_in(store) == ["before", "meanwhile"]


# A file that is none of ours


def another_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def another_program(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE rollouts (number INTEGER)")


def noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(50_000))


def text(path: Path) -> None:
    path.write_text("I am no database, but a shopping list.\n" * 100)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_short(path: Path) -> None:
    os.truncate(path, 50)


STRANGERS = [
    (another_version, "was written by a newer lightactors \\(schema 99, this one knows 1\\); install that version"),
    (another_program, "is a database of another program; choose a file that does not exist yet"),
    (noise, "is damaged or no SQLite database .*; restore a copy"),
    (text, "is damaged or no SQLite database .*; restore a copy"),
    (truncated, "is damaged or no SQLite database .*; restore a copy"),
    (cut_short, "is damaged or no SQLite database .*; restore a copy"),
]


async def make_file(path: Path, rollouts: int = 50) -> None:
    """Make a store's file with something in it."""
    async with opened(durable(path)) as store:
        await store.add_resources({"weights": random.Random(1).randbytes(30_000), "prompt": PROMPT})
        for number in range(rollouts):
            task = {
                "lines": ["a line of text", number] * (10 if number % 5 else 400),
                "noise": random.Random(number).randbytes(99),
            }
            await store.enqueue_rollout(task, rollout_id=f"ro-{number}", metadata={"number": number})
        for _ in range(rollouts // 2):
            claimed = await store.dequeue_rollout("w")
            ids = {"rollout_id": claimed.rollout_id, "attempt_id": claimed.attempt.attempt_id}
            await store.add_many_spans(
                [Span(**ids, sequence_id=n, trace_id="0" * 32, span_id=f"{n:016x}", name="work") for n in range(5)]
            )


@pytest.mark.parametrize(("damage", "complaint"), STRANGERS)
async def test_file_that_is_no_store_is_refused_and_left_as_it_is(
    tmp_path: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    path = tmp_path / "run.db"
    await make_file(path)
    damage(path)
    before = path.read_bytes()
    descriptors = len(os.listdir("/proc/self/fd"))
    async with opened(durable(path)) as store:
        for _ in range(3):
            with pytest.raises(StoreDamaged, match=f"run.db {complaint}"):
                await store.enqueue_rollout(1)
            with pytest.raises(StoreDamaged, match=f"run.db {complaint}"):
                await store.query_rollouts()
        assert path.read_bytes() == before
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 3
    assert path.read_bytes() == before


async def test_folder_is_no_file(tmp_path: Path) -> None:
    async with opened(durable(tmp_path)) as store:
        with pytest.raises(StoreUnavailable, match="is a folder; name a file in it"):
            await store.enqueue_rollout(1)
    assert os.listdir(tmp_path) == []


async def test_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    async with opened(durable(tmp_path / "runs" / "run.db")) as store:
        with pytest.raises(StoreUnavailable, match=f"there is no folder {tmp_path}/runs; make it"):
            await store.enqueue_rollout(1)
        (tmp_path / "runs").mkdir()
        await check_it_works(store)


async def test_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "run.db").touch()
    async with opened(durable(tmp_path / "run.db")) as store:
        await check_it_works(store)


async def test_actor_does_not_start_over_a_file_that_is_none(tmp_path: Path) -> None:
    text(tmp_path / "run.db")
    async with la.open_system() as system:
        with pytest.raises(SpawnError) as raised:
            await system.spawn(DurableStore, str(tmp_path / "run.db"))
    assert isinstance(raised.value.__cause__, StoreDamaged)


def overwrite(path: Path, sound: bytes, chance: random.Random) -> None:
    """Make it the sound file again, but for some bytes somewhere."""
    at = chance.randrange(len(sound))
    size = chance.choice([1, 8, 64, 4096])
    path.write_bytes((sound[:at] + chance.randbytes(size) + sound[at + size :])[: len(sound)])
    for companion in ("-wal", "-shm"):
        Path(f"{path}{companion}").unlink(missing_ok=True)


async def check_damage(path: Path, times: int) -> None:
    """Whatever is overwritten, a call is answered as before or raises `StoreDamaged`; nothing hangs or goes wrong."""
    await make_file(path)
    async with opened(durable(path)) as store:
        whole = await answers(store)
    sound = await anyio.Path(path).read_bytes()
    chance = random.Random(3)
    seen = 0
    for _ in range(times):
        overwrite(path, sound, chance)
        async with opened(durable(path)) as store:
            with anyio.fail_after(20):
                seen += (await answers(store)) != whole
                await tried(store.enqueue_rollout("more"))
                claimed = await tried(store.dequeue_rollout("w"))
                if claimed is not None:
                    await tried(store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, "succeeded"))
    assert seen > times / 10


async def test_damage_is_said_to_be_damage_wherever_it_is(tmp_path: Path) -> None:
    await check_damage(tmp_path / "run.db", 40)


@pytest.mark.stress
@pytest.mark.timeout(300)
async def test_damage_is_said_to_be_damage_wherever_it_is_very_often(tmp_path: Path) -> None:
    await check_damage(tmp_path / "run.db", 1000)


async def tried(call: Any) -> Any:
    """Return what a call answers; None where it is refused. An id may have been hit too, which nobody can tell."""
    try:
        return await call
    except (StoreDamaged, NotFound):
        return None


async def answers(store: Durable) -> list[Any]:
    return [
        await tried(store.query_rollouts()),
        await tried(store.query_rollouts(status_in=["queuing"], limit=5)),
        await tried(store.get_rollout_by_id("ro-7")),
        await tried(store.get_latest_resources()),
        await tried(store.query_spans("ro-3")),
        await tried(store.query_attempts("ro-3")),
        await tried(store.query_workers()),
        (await tried(store.statistics())) and True,
    ]
