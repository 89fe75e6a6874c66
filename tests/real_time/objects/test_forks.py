"""Forks, spawned processes and threads use the store beside each other, and keep what they hold and view."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from lightactors.errors import ObjectLost
from lightactors.objects.client import Client, Held
from lightactors.objects.records import Op, Status
from tests.real_time.objects.stores import (
    MIB,
    PATIENCE,
    Store,
    accounted,
    figures,
    is_whole,
    look,
    open_store,
    put,
    put_patiently,
    sealed,
    until,
)


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store() as store:
        yield store


class Fork:
    """A copy of this process that does something when it is told to, and says how that went."""

    def __init__(self, act: Callable[[], object]) -> None:
        told, self._tell = os.pipe()
        self._heard, hearing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._be(act, told, hearing)
        os.close(told)
        os.close(hearing)

    def _be(self, act: Callable[[], object], told: int, hearing: int) -> None:
        os.close(self._tell)
        os.close(self._heard)
        try:
            os.read(told, 1)
            act()
            os.write(hearing, b"well")
        except BaseException:
            os.write(hearing, traceback.format_exc().encode())
        finally:
            os._exit(0)

    def go_on(self) -> None:
        """Let it do it, and raise what went wrong."""
        self.tell()
        assert os.read(self._heard, 1 << 16).decode() == "well"
        os.waitpid(self.pid, 0)
        self.close()

    def tell(self) -> None:
        os.write(self._tell, b".")

    def close(self) -> None:
        os.close(self._tell)
        os.close(self._heard)


# Forks


def test_fork_has_the_views_and_objects_that_its_parent_lets_go_of(store: Store) -> None:
    client = store.client()
    data = [sealed(random.Random(number), MIB) for number in range(2)]
    held = [put(client, one) for one in data]
    views = [look(held[0])]

    def act() -> None:
        assert bytes(views[0]) == data[0]
        assert bytes(look(held[1])) == data[1]

    fork = Fork(act)
    other = store.client("other")
    views.clear()
    held.clear()
    for _ in range(40):  # over what was there, if it is free
        put(other, bytes(MIB))
    assert figures(client).total_objects == 2
    fork.go_on()
    until(other, lambda found: found.total_objects == 0)


def test_fork_goes_on_when_its_parent_is_killed(store: Store) -> None:
    data = sealed(random.Random(1), MIB)
    watcher = store.client("watcher")
    forks, in_fork = multiprocessing.Pipe()

    def parent() -> None:
        client = store.client("parent")
        held = put(client, data)
        view = look(held)

        def act() -> None:
            while os.getppid() == pid:
                time.sleep(0.001)
            for _ in range(100):
                assert bytes(view) == data
                assert bytes(look(held)) == data
            in_fork.send(bytes(look(put(client, data))))

        pid = os.getpid()
        Fork(act).tell()
        os.kill(pid, signal.SIGKILL)

    with forks, in_fork:
        first = Fork(parent)
        first.tell()
        os.waitpid(first.pid, 0)
        assert forks.poll(PATIENCE)
        assert forks.recv() == data
    until(watcher, lambda found: found.used == 0 and len(found.processes) == 1)
    first.close()


def test_fork_puts_and_its_parent_goes_on_too(store: Store) -> None:
    client = store.client()
    held = put(client, b"parent's")

    def act() -> None:
        for number in range(300):
            data = sealed(random.Random(number), 1000)
            assert bytes(look(put(client, data))) == data
        assert bytes(look(held)) == b"parent's"

    forks = [Fork(act) for _ in range(3)]
    for number in range(300):
        data = sealed(random.Random(number), 1000)
        assert bytes(look(put(client, data))) == data
    for fork in forks:
        fork.go_on()
    assert bytes(look(held)) == b"parent's"
    found = until(client, lambda found: len(found.processes) == 1)
    assert found.total_objects == 1
    assert found.used == accounted(found)


def test_what_was_put_right_before_the_fork_is_the_fork_s_too(store: Store) -> None:
    client, other = store.client(), store.client("other")
    for number in range(30):
        held = [put(client, number.to_bytes(4, "little"))]
        id = held[0].id
        fork = Fork(partial(_is_in, held, number.to_bytes(4, "little")))
        held.clear()
        until(other, lambda found: not any(client.number in one.holders for one in found.objects))
        assert other.ask(Op.CONTAINS, *id, patience=PATIENCE).status is Status.DONE
        fork.go_on()
    until(other, lambda found: found.total_objects == 0)


def _is_in(held: list[Held], data: bytes) -> None:
    assert bytes(look(held[0])) == data


def test_fork_while_the_owner_is_stopped_waits_for_nothing_and_has_all_afterwards(store: Store) -> None:
    client = store.client()
    data = sealed(random.Random(1), MIB)
    held = [put(client, data)]
    views = [look(held[0])]

    def act() -> None:
        assert bytes(views[0]) == data
        _is_in(held, data)

    os.kill(store.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        fork = Fork(act)
        assert time.monotonic() - began < 1.0
        views.clear()
        held.clear()
    finally:
        os.kill(store.pid, signal.SIGCONT)
    fork.go_on()
    until(client, lambda found: found.total_objects == 0)


def test_fork_of_a_fork_of_a_fork_has_it_all(store: Store) -> None:
    client = store.client()
    data = sealed(random.Random(1), MIB)
    held = put(client, data)
    view = look(held)

    def act(depth: int) -> None:
        assert bytes(view) == data
        assert bytes(look(held)) == data
        if depth:
            Fork(lambda: act(depth - 1)).go_on()

    Fork(lambda: act(3)).go_on()
    assert len(until(client, lambda found: len(found.processes) == 1).objects) == 1


def test_fork_that_was_not_used_keeps_nothing_when_it_ends(store: Store) -> None:
    client = store.client()
    held = put(client, b"x" * MIB)
    view = look(held)
    fork = Fork(lambda: None)
    del view, held
    assert until(client, lambda found: len(found.processes) == 2).total_objects == 1
    fork.go_on()
    until(client, lambda found: len(found.processes) == 1 and found.total_objects == 0)


def test_fork_is_called_by_its_own_process_in_the_figures(store: Store) -> None:
    client = store.client()
    held = put(client, b"x" * MIB)
    fork = Fork(lambda: None)
    until(client, lambda found: {one.pid for one in found.processes} == {os.getpid(), fork.pid})
    fork.go_on()
    assert len(look(held)) == MIB


def test_fork_does_not_wait_for_what_other_threads_are_at(store: Store) -> None:
    """Fork all the time while others put, view and let go; each fork does the same, alone."""
    client = store.client()
    is_over = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(_churn, client, seed, is_over.is_set) for seed in range(3)]
        try:
            for number in range(20):
                fork = Fork(lambda number=number: _churn(client, number, iter([False] * 20 + [True]).__next__))  # type: ignore[misc]
                fork.go_on()
        finally:
            is_over.set()
        for one in busy:
            one.result()
    gc.collect()
    found = until(client, lambda found: len(found.processes) == 1 and not found.total_objects)
    assert found.used == accounted(found)


def test_fork_does_not_wait_for_a_thread_that_waits_for_memory(store: Store) -> None:
    client = store.client()
    waiter = client.line("waiting")
    data = bytes(40 * MIB)
    held = [put(client, data)]
    thread = threading.Thread(target=lambda: waiter.lease(40 * MIB, waits=True, patience=PATIENCE), daemon=True)
    thread.start()
    until(client, lambda found: found.waiting == 1)
    began = time.monotonic()
    fork = Fork(partial(_is_in, held, data))
    assert time.monotonic() - began < 1.0
    fork.go_on()
    held.clear()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    waiter.close()


# Other ways to start a process


def _use(name: str, seed: int) -> None:
    client = Client(name, f"process {seed}")
    _churn(client, seed, iter([False] * 50 + [True]).__next__)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_however_they_are_started_use_one_store(store: Store, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    client = store.client()
    held = put(client, b"mine" * MIB)
    view = look(held)
    processes = [context.Process(target=_use, args=(store.name, seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert bytes(view) == b"mine" * MIB
    found = until(client, lambda found: len(found.processes) == 1)
    assert (found.total_objects, found.used) == (1, accounted(found))


def _view(name: str, id: tuple[int, int], data: bytes) -> None:
    client = Client(name, "viewer")
    assert bytes(look(client.hold(id))) == data


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_process_however_it_is_started_views_what_another_has_put(store: Store, method: str) -> None:
    held = put(store.client(), b"mine" * 1000)
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=_view, args=(store.name, held.id, b"mine" * 1000))
    process.start()
    process.join()
    assert process.exitcode == 0


# Threads


def _churn(client: Client, seed: int, is_over: Callable[[], bool]) -> None:
    """Put, view and let go until it is over."""
    chance = random.Random(seed)
    held, views = [], []
    while not is_over():
        held.append(put_patiently(client, sealed(chance, chance.choice([100, 5_000, 300_000, 1_500_000]))))
        views.append(look(chance.choice(held)))
        assert all(is_whole(view) for view in views)
        del held[: chance.randrange(len(held))]
        del views[: chance.randrange(len(views))]


def test_eight_threads_put_view_and_let_go_over_one_line(store: Store) -> None:
    client = store.client()
    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(_churn, client, seed, iter([False] * 100 + [True]).__next__) for seed in range(8)]:
            one.result()
    gc.collect()
    found = until(client, lambda found: not found.total_objects)
    assert found.used == accounted(found)
    assert not any(one.viewed or one.held for one in found.processes)


def test_threads_that_hold_one_object_at_once_let_go_of_it_once_each(store: Store) -> None:
    maker, client = store.client("maker"), store.client()
    held = [put(maker, b"x" * 1000)]
    id = held[0].id

    def hold_and_let_go() -> None:
        for _ in range(300):
            look(client.hold(id))

    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(hold_and_let_go) for _ in range(8)]:
            one.result()
    until(maker, lambda found: found.objects[0].holders == [maker.number] and not found.objects[0].viewers)
    held.clear()
    until(maker, lambda found: not found.total_objects)
    with pytest.raises(ObjectLost):
        look(client.hold(id))
