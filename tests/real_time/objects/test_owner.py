"""The owner's process goes on whatever a client does; when it is killed, views stay and there is a new store."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import lightactors as la
from lightactors.errors import ObjectLost, ObjectStoreFull
from lightactors.objects.client import Client
from lightactors.objects.line import Slow
from lightactors.objects.records import PACKET, PROTOCOL, SOME, Op, Status, pack
from lightactors.objects.sharing import Sharing
from lightactors.remote.node import node_of
from tests.real_time.objects.stores import (
    MIB,
    PATIENCE,
    Store,
    accounted,
    figures,
    look,
    open_files,
    open_store,
    owner_of,
    put,
    settled,
    until,
    wait_until,
)

GREETING = {"client": 4711, "protocol": PROTOCOL, "pid": 1, "label": "hostile", "fork_of": 0}


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store() as store:
        yield store


@pytest.fixture
def bystander(store: Store) -> Iterator[Client]:
    """Give a client that has an object, and see afterwards that it has got no harm."""
    client = store.client("bystander")
    held = put(client, b"mine" * 1000)
    view = look(held)
    yield client
    assert bytes(view) == b"mine" * 1000
    assert client.ask(Op.CONTAINS, *held.id, patience=PATIENCE).status is Status.DONE
    found = until(client, lambda found: len(found.processes) == 1)
    assert found.used == accounted(found)


def line_to(store: Store, greeting: object = GREETING) -> socket.socket:
    """Return a line over which a test says what no client would."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(PATIENCE)
    line.connect(f"\0{store.name}")
    line.send(greeting if isinstance(greeting, bytes) else json.dumps(greeting).encode())
    return line


def taken_in(store: Store) -> socket.socket:
    line = line_to(store)
    assert "capacity" in json.loads(heard(line))
    return line


def heard(line: socket.socket) -> bytes:
    packet, descriptors, _, _ = socket.recv_fds(line, PACKET, 4)
    for descriptor in descriptors:
        os.close(descriptor)
    return packet


def asked(line: socket.socket, op: Op, *numbers: int) -> tuple[int, ...]:
    line.send(pack(op, *numbers, serial=1))
    return struct.unpack("<II4Q", heard(line))[2:]


# Clients that mean ill


@pytest.mark.parametrize(
    "greeting",
    [
        b"\xff\xfe",
        b"{}",
        b"[1]",
        b"[" * 50_000,
        b"null",
        b"x" * (PACKET + 1000),
        GREETING | {"client": "4711"},
        GREETING | {"client": 0},
        GREETING | {"client": -1},
        GREETING | {"client": SOME + 1},
        GREETING | {"client": 1e999},
        GREETING | {"client": [1]},
        GREETING | {"fork_of": [1]},
        GREETING | {"label": 3},
        GREETING | {"used": 5},
        {name: fact for name, fact in GREETING.items() if name != "pid"},
    ],
    ids=lambda greeting: repr(greeting)[:60],
)
def test_who_greets_with_nonsense_is_let_go(store: Store, bystander: Client, greeting: object) -> None:
    with line_to(store, greeting) as line:
        assert heard(line) == b""


@pytest.mark.parametrize(
    ("change", "why"),
    [({"protocol": PROTOCOL + 1}, "another version"), ({"fork_of": 12345}, "copy of what is not here")],
)
def test_who_can_not_be_a_client_is_told_why(store: Store, bystander: Client, change: dict[str, int], why: str) -> None:
    with line_to(store, GREETING | change) as line:
        assert why in json.loads(heard(line))["error"]
        assert heard(line) == b""


def test_number_of_another_client_can_not_be_had(store: Store, bystander: Client) -> None:
    with line_to(store, GREETING | {"client": bystander.number}) as line:
        assert "taken" in json.loads(heard(line))["error"]


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        b"x" * 39,
        b"x" * 41,
        b"\xff" * 40,
        b"\xff" * PACKET,
        b"\0" * (PACKET + 1000),
        pack(Op.LEASE, 64, 64, serial=1)[:-1],
        struct.pack("<II4Q", 99, 1, 0, 0, 0, 0),
        pack(Op.SEAL, 4711, 1, 0, 64),
        pack(Op.SEAL, 4711, 1, 1 << 63, 1 << 63),
        pack(Op.FORK, 4711),
    ],
    ids=lambda packet: f"{len(packet)} bytes, {packet[:16].hex()}",
)
def test_who_sends_nonsense_is_let_go(store: Store, bystander: Client, packet: bytes) -> None:
    with taken_in(store) as line:
        line.send(packet)
        assert heard(line) == b""


@pytest.mark.parametrize("size", [0, 65, 1 << 63])
def test_who_seals_more_than_it_has_is_let_go_and_its_space_is_free(store: Store, bystander: Client, size: int) -> None:
    used = figures(bystander).used
    with taken_in(store) as line:
        status, offset, _, _ = asked(line, Op.LEASE, 64, 64)
        assert status == Status.DONE
        line.send(pack(Op.SEAL, 4711, 1, offset, size))
        assert heard(line) == b""
    assert until(bystander, lambda found: len(found.processes) == 1).used == used


def test_space_is_sealed_once_and_only_by_who_has_it(store: Store, bystander: Client) -> None:
    other = bystander.lease(64)
    with taken_in(store) as line:
        _, offset, _, _ = asked(line, Op.LEASE, 64, 64)
        line.send(pack(Op.SEAL, 4711, 1, offset, 64))
        assert asked(line, Op.CONTAINS, 4711, 1)[0] == Status.DONE
        line.send(pack(Op.SEAL, 4711, 2, offset, 64))
        assert heard(line) == b""
    with taken_in(store) as line:
        line.send(pack(Op.SEAL, 4711, 1, other.offset, 64))
        assert heard(line) == b""
    bystander.give_back(other)


@pytest.mark.parametrize("op", [Op.DROP, Op.UNPIN, Op.UNLEASE, Op.CLOSE, Op.ABANDON, Op.JOIN, Op.GIVE_UP, Op.TAKE])
def test_what_one_says_of_what_is_not_ones_own_changes_nothing(store: Store, bystander: Client, op: Op) -> None:
    held = put(bystander, b"x" * 1000)
    lease = bystander.lease(MIB)
    bystander.tell(Op.OPEN, 1, 2)
    before = figures(bystander)
    with taken_in(store) as line:
        for numbers in [(*held.id, 5), (1, 2), (lease.offset,), ((1 << 64) - 1,) * 4]:
            line.send(pack(op, *numbers))
        assert asked(line, Op.CONTAINS, *held.id)[0] == Status.DONE
        assert figures(bystander).used == before.used
    bystander.give_back(lease)
    bystander.tell(Op.CLOSE, 1, 2)
    bystander.tell(Op.ABANDON, 1, 2)


@pytest.mark.parametrize("most", [0, 1, (1 << 64) - 1])
@pytest.mark.parametrize("least", [0, 1, 64 * MIB + 1, (1 << 64) - 1])
def test_space_of_any_size_may_be_asked_for(store: Store, bystander: Client, most: int, least: int) -> None:
    with taken_in(store) as line:
        status, _, size, _ = asked(line, Op.LEASE, most, least)
        if not 0 < least <= most:
            assert status == Status.NOT_SO
        elif least > 64 * MIB:
            assert status == Status.TOO_LARGE
        else:
            assert (status, size >= least) == (Status.DONE, True)


def test_unsealed_object_is_lost_to_who_asks_for_it(store: Store, bystander: Client) -> None:
    lease = bystander.lease(MIB)
    id = bystander.new_id()
    with taken_in(store) as line:
        assert asked(line, Op.PIN, *id)[0] == Status.LOST
    with pytest.raises(ObjectLost, match="is gone"):
        look(bystander.hold(id))
    bystander.give_back(lease)


def test_client_that_never_reads_holds_up_nobody_and_is_let_go(store: Store, bystander: Client) -> None:
    with taken_in(store) as line:
        line.settimeout(0)
        while not _is_let_go(line, pack(Op.STATISTICS, serial=1) + pack(Op.CONTAINS, serial=2) * 100):
            began = time.monotonic()
            bystander.ask(Op.CONTAINS, patience=PATIENCE)
            assert time.monotonic() - began < 1.0
    until(bystander, lambda found: len(found.processes) == 1)


def _is_let_go(line: socket.socket, packet: bytes) -> bool:
    try:
        line.send(packet)
    except BlockingIOError:
        return False
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def test_answers_that_were_not_read_for_long_are_those_that_were_asked_for(store: Store, bystander: Client) -> None:
    with taken_in(store) as line:
        for serial in range(1, 501):
            line.send(pack(Op.STATISTICS, serial=serial))
            bystander.ask(Op.CONTAINS, patience=PATIENCE)  # which it has heard then
        for serial in range(1, 501):
            packet, descriptors, _, _ = socket.recv_fds(line, PACKET, 4)
            assert struct.unpack("<II4Q", packet)[:2] == (Op.STATISTICS, serial)
            with open(descriptors[0], "rb") as file:
                file.seek(0)
                assert json.load(file)["capacity"] == 64 * MIB
        owners = [path for path in open_files(store.pid) if "statistics" in path]
        assert not owners


def test_answer_that_comes_too_late_leaves_no_descriptor(store: Store, bystander: Client) -> None:
    os.kill(store.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Slow):
            bystander.ask(Op.STATISTICS, patience=0.01)
    finally:
        os.kill(store.pid, signal.SIGCONT)
    bystander.ask(Op.CONTAINS, patience=PATIENCE)
    assert not [path for path in open_files(os.getpid()) if "statistics" in path]


def test_all_is_answered_when_the_numbers_of_questions_begin_again(store: Store, bystander: Client) -> None:
    held = put(bystander, b"asked for")
    bystander._serials = itertools.count(2**32 - 5)  # noqa: SLF001
    for _ in range(10):
        assert bystander.claim(held.id, patience=PATIENCE) is held


def test_more_processes_than_the_owner_has_descriptors_for_are_turned_away() -> None:
    if os.getuid():
        pytest.skip("NOT TESTED WITHOUT ROOT: a limit that was lowered can't be raised again")
    with open_store() as store:
        client = store.client()
        resource.prlimit(store.pid, resource.RLIMIT_NOFILE, (64, 64))
        with ExitStack() as stack:
            lines = [stack.enter_context(line_to(store, GREETING | {"client": number})) for number in range(1, 101)]
            answers = [_answer_of(line) for line in lines]
            assert 30 <= answers.count(b"") < 80
        until(client, lambda found: len(found.processes) == 1)
        store.client("who comes later")


def _answer_of(line: socket.socket) -> bytes:
    try:
        return heard(line)
    except ConnectionResetError:
        return b""


def test_process_of_another_user_is_refused(store: Store, bystander: Client) -> None:
    if os.getuid() != 0:
        pytest.skip("NOT TESTED WITHOUT ROOT: nobody can become another user")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setuid(65534)
            with line_to(store) as line:
                os.write(writing, _answer_of(line) or b"refused")
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() in (b"refused", repr(BrokenPipeError(32, "Broken pipe")).encode())
    os.waitpid(child, 0)


# Order


def test_object_is_found_by_who_hears_of_it_before_the_owner_does(store: Store) -> None:
    maker, reader = store.client("maker"), store.client("reader")
    for number in range(2000):
        held = put(maker, number.to_bytes(4, "little") * 10)
        assert bytes(look(reader.hold(held.id))) == number.to_bytes(4, "little") * 10


def test_all_that_was_told_arrives_though_nothing_is_told_or_asked_any_more(store: Store, bystander: Client) -> None:
    client = store.client("other")
    held = [put(client, b"x" * 100)]
    os.kill(store.pid, signal.SIGSTOP)
    try:
        for number in range(20_000):
            client.tell(Op.HOLD, *held[0].id)
            client.tell(Op.OPEN, 5, number)
        assert client._backlog  # noqa: SLF001
    finally:
        os.kill(store.pid, signal.SIGCONT)
    wait_until(lambda: not client._backlog)  # noqa: SLF001
    client.tell(Op.DROP, *held[0].id, 20_000)
    assert client.ask(Op.CONTAINS, *held[0].id, patience=PATIENCE).status is Status.DONE
    held.clear()
    until(bystander, lambda found: found.total_objects == 1)
    client.close()


# An owner that is stopped


async def test_loop_turns_while_the_owner_is_stopped_and_all_goes_on_afterwards() -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=64 * MIB)) as system:
        kept = await la.put(memoryview(b"kept" * 1000))
        view = await la.get(kept)
        owner = owner_of(system)
        os.kill(owner, signal.SIGSTOP)
        refs: list[la.ObjectRef[memoryview]] = []
        longest = 0.0

        async def put_one() -> None:
            refs.append(await la.put(memoryview(b"late" * MIB)))

        try:
            async with anyio.create_task_group() as tg:
                for _ in range(3):
                    tg.start_soon(put_one)
                began = time.monotonic()
                while time.monotonic() - began < 0.5:
                    turn = time.monotonic()
                    await anyio.sleep(0.001)
                    longest = max(longest, time.monotonic() - turn)
                assert not refs
                assert bytes(view) == b"kept" * 1000
                os.kill(owner, signal.SIGCONT)
        finally:
            os.kill(owner, signal.SIGCONT)
        assert longest < 0.25  # three patient asks one after the other, and a busy machine
        assert [bytes((await la.get(ref))[:4]) for ref in refs] == [b"late"] * 3


async def test_loop_turns_while_a_large_draft_is_made() -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=1024 * MIB)):
        await la.put(b"")
        turns, drafts = 0, list[la.objects.Draft]()

        async def make() -> None:
            drafts.append(await la.objects.create(512 * MIB))

        async with anyio.create_task_group() as tg:
            tg.start_soon(make)
            while not drafts:
                turns += 1
                await anyio.sleep(0.001)
        assert turns > 20
        drafts.pop().discard()


async def test_put_that_is_cancelled_while_the_owner_is_stopped_leaves_nothing() -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=64 * MIB)) as system:
        before = (await la.objects.statistics()).leased
        owner = owner_of(system)
        os.kill(owner, signal.SIGSTOP)
        try:
            with anyio.move_on_after(0.1):
                await la.put(memoryview(b"late" * MIB))
        finally:
            os.kill(owner, signal.SIGCONT)
        await settled(lambda found: found.leased == before)


# An owner that is killed


async def test_views_outlive_the_owner_all_else_is_lost_at_once_and_there_is_a_new_store() -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=64 * MIB)) as system:
        viewed, other = await la.put(memoryview(b"view" * MIB)), await la.put(memoryview(b"else" * MIB))
        view = await la.get(viewed)
        os.kill(owner_of(system), signal.SIGKILL)
        began = time.monotonic()
        with pytest.raises(ObjectLost, match="can't be reached"):
            await la.get(other)
        assert time.monotonic() - began < 0.05
        assert bytes(view) == b"view" * MIB
        assert bytes(await la.get(viewed)) == b"view" * MIB  # while there is a view
        new = await la.put(memoryview(b"new!" * MIB))
        assert bytes(await la.get(new)) == b"new!" * MIB
        with pytest.raises(ObjectLost):
            await la.get(other)
        assert bytes(view) == b"view" * MIB


def test_owner_is_killed_again_and_again() -> None:
    with open_store() as store:
        for number in range(10):
            client = store.client()
            data = bytes([number]) * MIB
            held = put(client, data)
            view = look(held)
            pid = store.pid
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(ObjectLost):
                client.ask(Op.CONTAINS, patience=PATIENCE)
            assert bytes(view) == data
            wait_until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))  # type: ignore[misc]


# No room


async def test_memory_of_a_store_is_free_when_its_system_has_ended() -> None:
    gc.collect()
    before = len(list(open_memory()))
    async with la.open_system(objects=la.ObjectLimits(capacity=MIB)):
        await la.put(b"a")
    gc.collect()
    assert len(list(open_memory())) <= before


async def test_view_of_another_program_s_object_outlives_the_system(store: Store) -> None:
    theirs = store.client("their program")
    held = put(theirs, b"theirs" * MIB)
    async with la.open_system() as system:
        sharing = node_of(system).sharing
        assert isinstance(sharing, Sharing)
        ours = sharing.store.client(store.name).claim(held.id, patience=PATIENCE)
        assert ours is not None
        view = look(ours)
    del held, ours
    others = [put(theirs, b"others" * MIB) for _ in range(8)]
    assert view == b"theirs" * MIB
    del view, others
    gc.collect()
    until(theirs, lambda found: not found.total_objects and len(found.processes) == 1)


def open_memory() -> Iterator[str]:
    return (path for path in open_files(os.getpid()) if "lightactors objects" in path)


def test_owner_is_started_as_soon_as_the_system_lets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    start, refusals = subprocess.Popen, [OSError(errno.EAGAIN, "no more processes")]

    def popen(*args: Any, **kwargs: Any) -> Any:
        if refusals:
            raise refusals.pop()
        return start(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with open_store() as store:
        client = store.client()
        assert not refusals
        assert bytes(look(put(client, b"at last"))) == b"at last"


def test_program_with_thousands_of_open_files_has_a_store() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 4096:
        pytest.skip("NOT TESTED HERE: this process may not have so many files open")
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, limits[1]))
        for _ in range(1500):
            stack.enter_context(open(os.devnull, "rb"))
        with open_store() as store:
            assert bytes(look(put(store.client(), b"far up"))) == b"far up"


async def test_object_larger_than_the_store_is_refused_at_once() -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=MIB, spill=None)):
        with pytest.raises(ObjectStoreFull, match=r"it has 1\.0 MB in all|it has .* in all; .*capacity=") as caught:
            await la.put(memoryview(bytes(2 * MIB)))
        assert caught.value.statistics.capacity == MIB  # type: ignore[attr-defined]


async def test_quota_is_one_process_s_own() -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=64 * MIB, quota=8 * MIB)):
        ref = await la.put(memoryview(bytes(6 * MIB)))
        with pytest.raises(ObjectStoreFull, match="has its quota already"):
            await la.put(memoryview(bytes(6 * MIB)))
        la.release(ref)
        await la.put(memoryview(bytes(6 * MIB)))


async def test_quota_is_not_exceeded_by_puts_that_waited() -> None:
    async with la.open_system(
        "system", objects=la.ObjectLimits(capacity=16 * MIB, quota=8 * MIB, spill=None)
    ) as system:
        sharing = node_of(system).sharing
        assert isinstance(sharing, Sharing)
        with ExitStack() as stack:
            others = [Client(sharing.store.name, f"other {number}") for number in range(2)]
            for other in others:
                stack.callback(other.close)
            held = [put(other, bytes(7 * MIB)) for other in others]
            refs, refused = list[la.ObjectRef[memoryview]](), list[str]()

            async def put_one() -> None:
                try:
                    refs.append(await la.put(memoryview(bytes(3 * MIB))))
                except ObjectStoreFull as error:
                    refused.append(str(error))

            async with anyio.create_task_group() as tg:
                for _ in range(4):
                    tg.start_soon(put_one)
                await settled(lambda found: found.waiting == 4)
                held.clear()
            assert (len(refs), len(refused)) == (2, 2)
            assert "has its quota already" in refused[0]


async def test_full_store_says_who_holds_what() -> None:
    async with la.open_system("trainer", objects=la.ObjectLimits(capacity=16 * MIB, spill=None)):
        ref = await la.put(memoryview(bytes(12 * MIB)))
        with pytest.raises(
            ObjectStoreFull,
            match=r"none became free within 0\.1 s: .* trainer has put .* of it; nothing is written to the disk",
        ) as caught:
            await la.put(memoryview(bytes(12 * MIB)), within=0.1)
        assert caught.value.statistics.objects[0].size >= 12 * MIB  # type: ignore[attr-defined]
        la.release(ref)


async def test_waiting_puts_are_served_in_turn_when_others_release() -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=16 * MIB, spill=None)):
        held = [await la.put(memoryview(bytes(7 * MIB))) for _ in range(2)]
        tell, hear = anyio.create_memory_object_stream[int](4)

        async def put_one(number: int) -> None:
            held.append(await la.put(memoryview(bytes(7 * MIB))))
            await tell.send(number)

        async with tell, hear, anyio.create_task_group() as tg:
            for number in range(4):
                tg.start_soon(put_one, number)
                await settled(lambda found, waiting=number + 1: found.waiting == waiting)  # type: ignore[misc]
            for number in range(4):
                la.release(held.pop(0))
                assert await hear.receive() == number


async def test_waiting_put_that_is_cancelled_leaves_nothing_and_lets_the_next_one_have_its_turn() -> None:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=16 * MIB, spill=None)):
        ref = await la.put(memoryview(bytes(8 * MIB)))

        async def put_next() -> None:
            la.release(await la.put(memoryview(bytes(10 * MIB))))

        scope = anyio.CancelScope()

        async def put_large() -> None:
            with scope:
                await la.put(memoryview(bytes(12 * MIB)))

        async with anyio.create_task_group() as tg:
            tg.start_soon(put_large)
            await settled(lambda found: found.waiting == 1)
            tg.start_soon(put_next)
            await settled(lambda found: found.waiting == 2)
            scope.cancel()
            la.release(ref)
        found = await settled(lambda found: len(found.processes) == 1 and not found.total_objects)
        assert found.waiting == 0
        assert found.used == found.leased <= 4 * MIB


@pytest.mark.parametrize("within", [10**8, float("inf")])
async def test_put_may_wait_for_ever(within: float) -> None:
    async with la.open_system(objects=la.ObjectLimits(capacity=16 * MIB, spill=None)):
        kept = [await la.put(bytes(12 * MIB))]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(la.put, bytes(12 * MIB), within=within))
            await settled(lambda found: found.waiting == 1)
            kept.clear()


async def test_many_puts_that_wait_take_nobody_s_threads_and_descriptors() -> None:
    async with la.open_system(objects=la.ObjectLimits(capacity=16 * MIB, spill=None)):
        kept = [await la.put(bytes(12 * MIB))]
        before = len(list(open_files(os.getpid())))
        async with anyio.create_task_group() as tasks:
            value = bytes(12 * MIB)
            for _ in range(500):
                tasks.start_soon(la.put, value)
            await settled(lambda found: found.waiting > 1)
            with anyio.fail_after(PATIENCE):
                await anyio.to_thread.run_sync(kept.clear)
            assert len(list(open_files(os.getpid()))) < before + 200
            tasks.cancel_scope.cancel()


def test_who_waits_for_memory_is_served_when_a_view_is_closed_and_its_object_can_be_spilled(tmp_path: Path) -> None:
    with open_store(16 * MIB, spill=tmp_path) as store:
        client, waiter = store.client(), store.client("waiter")
        held = put(client, bytes(12 * MIB))
        view = look(held)
        leases: list[object] = []
        thread = threading.Thread(
            target=lambda: leases.append(waiter.lease(12 * MIB, waits=True, patience=PATIENCE)), daemon=True
        )
        thread.start()
        until(client, lambda found: found.waiting == 1)
        del view
        thread.join(PATIENCE)
        assert leases
        assert bytes(look(held)) == bytes(12 * MIB)


async def test_put_that_fits_passes_one_that_waits_for_what_nobody_gives_up() -> None:
    async with la.open_system(objects=la.ObjectLimits(capacity=32 * MIB, spill=None)), anyio.create_task_group() as tg:
        kept = await la.put(memoryview(bytes(20 * MIB)))
        tg.start_soon(la.put, memoryview(bytes(20 * MIB)))
        await settled(lambda found: found.waiting == 1)
        with anyio.fail_after(5):
            await la.put(memoryview(bytes(4 * MIB)))
        la.release(kept)
