"""Actors in threads of their own are started again in the same thread, and end with their supervisor."""

from __future__ import annotations

import threading

import anyio
import anyio.to_thread

import lightactors as la
from lightactors.errors import ActorStopped
from tests.actors.cast import Later, Oops
from tests.supervision.troupe import exhausted


@la.actor
class Worker:
    """Tells which thread and which life it is in, and blocks as it is told."""

    def __init__(self, lives: list[int], broken_from: int = 99) -> None:
        lives.append(threading.get_ident())
        if len(lives) >= broken_from:
            raise Oops("not again")
        self.life = len(lives)

    @la.handler
    def read(self) -> tuple[int, int]:
        return self.life, threading.get_ident()

    @la.handler
    def block(self, entered: threading.Event, leave: threading.Event) -> None:
        entered.set()
        leave.wait()

    @la.handler
    def fail(self) -> None:
        raise Oops("worker")

    @la.handler
    async def wait(self, entered: threading.Event) -> None:
        entered.set()
        await anyio.sleep_forever()

    @la.handler
    async def quit(self) -> None:
        await la.stop(la.ref_of(self))


async def test_failed_thread_actor_is_started_again_in_its_thread() -> None:
    lives: list[int] = []
    async with la.open_system(), la.supervise() as supervisor:
        worker = await supervisor.options(place="thread").spawn(Worker, lives)
        _, thread = await worker.read()
        assert thread != threading.get_ident()
        await worker.fail.tell()
        assert await worker.read() == (2, thread)
        assert la.statistics(worker).restarts == 1
    assert thread not in {each.ident for each in threading.enumerate()}


async def test_thread_actor_that_stopped_itself_is_started_again() -> None:
    lives: list[int] = []
    async with la.open_system(), la.supervise() as supervisor:
        worker = await supervisor.options(place="thread").spawn(Worker, lives)
        await worker.quit()
        with anyio.fail_after(5):
            while len(lives) < 2:  # noqa: ASYNC110 (it happens in another thread)
                await anyio.sleep(0.01)
        assert (await worker.read())[0] == 2


async def test_messages_queued_in_a_blocked_thread_wait_for_the_next_incarnation() -> None:
    entered, leave = threading.Event(), threading.Event()
    async with la.open_system(), la.supervise() as supervisor:
        worker = await supervisor.options(place="thread").spawn(Worker, [])
        await worker.block.tell(entered, leave)
        await anyio.to_thread.run_sync(entered.wait)
        await worker.fail.tell()
        lives = []

        async def read() -> None:
            lives.append((await worker.read())[0])

        async with anyio.create_task_group() as tg:
            tg.start_soon(read)
            await anyio.sleep(0.01)
            leave.set()
        assert lives == [2]


async def test_siblings_in_threads_are_started_again_together() -> None:
    entered = threading.Event()
    async with la.open_system(), anyio.create_task_group() as tg:
        specs = [la.options(name=name, place="thread", grace=0.1).child(Worker, []) for name in "abc"]
        supervisor = await la.spawn(la.Supervisor, "one_for_all", specs)
        workers = await supervisor.children()
        waiting = Later(tg, workers["a"].wait, entered)
        await anyio.to_thread.run_sync(entered.wait)
        await workers["b"].fail.tell()

        assert isinstance(await waiting.done(), ActorStopped)
        assert [(await worker.read())[0] for worker in workers.values()] == [2, 2, 2]


async def test_thread_actor_over_the_budget_ends_with_its_thread() -> None:
    lives: list[int] = []
    with exhausted() as raised:
        async with la.open_system(), la.supervise(max_restarts=2) as supervisor:
            worker = await supervisor.options(place="thread").spawn(Worker, lives, broken_from=2)
            await worker.fail.tell()
            await anyio.sleep(5)
    assert len(lives) == 3
    assert [type(error).__name__ for error in raised[0].failures] == ["Oops", "SpawnError", "SpawnError"]
    assert lives[0] not in {each.ident for each in threading.enumerate()}


async def test_stop_of_a_supervisor_ends_every_thread_also_while_they_restart() -> None:
    before = threading.active_count()
    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor, backoff=30, max_restarts=9, together=True)
        for number in range(4):
            worker = await supervisor.start_child(la.options(name=f"w{number}", place="thread").child(Worker, []))
            await worker.fail.tell()
        await anyio.sleep(0.05)
        assert await la.stop(supervisor) is la.Rung.DRAIN
    assert threading.active_count() == before


async def test_thread_is_started_again_under_the_default_root_too() -> None:
    lives: list[int] = []
    async with la.supervise() as supervisor:
        worker = await supervisor.options(place="thread").spawn(Worker, lives)
        await worker.fail.tell()
        with anyio.fail_after(5):
            assert (await worker.read())[0] == 2


@la.actor
class Stuck:
    """Starts at once the first time, and never again: it blocks its thread until it is let go."""

    starts = 0

    def __init__(self, gate: threading.Event) -> None:
        self.gate = gate

    def on_start(self) -> None:
        Stuck.starts += 1
        if Stuck.starts > 1:
            self.gate.wait(20)

    @la.handler
    def fail(self) -> None:
        raise Oops("stuck")


async def test_restart_that_blocks_its_thread_for_ever_ends_the_supervisor() -> None:
    Stuck.starts = 0
    gate = threading.Event()
    try:
        with anyio.fail_after(10), exhausted("stuck"):
            async with la.open_system(grace=0.2), la.supervise(max_restarts=5) as supervisor:
                stuck = await supervisor.options(place="thread", start_timeout=0.2).spawn(Stuck, gate)
                await stuck.fail.tell()
                await anyio.sleep(9)
    finally:
        gate.set()
