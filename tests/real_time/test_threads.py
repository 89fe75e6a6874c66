"""An actor in a thread of its own: the same promises, across two loops."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import lightactors as la
from lightactors.actors import Flag
from lightactors.actors.streams import AHEAD
from lightactors.errors import ActorNotRunning, ActorStopped, AskCycle, MailboxFull, SpawnError
from tests.actors.cast import Later, Oops


@la.actor
class Worker:
    """Says where it runs; holds until a flag is raised, which any thread may do."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.log: list[Any] = [] if log is None else log

    async def on_stop(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.log.append(threading.get_ident())

    @la.handler
    def where(self) -> int:
        return threading.get_ident()

    @la.handler
    def note(self, entry: object) -> None:
        self.log.append(entry)

    @la.handler
    def read(self) -> list[Any]:
        return list(self.log)

    @la.handler
    def fail(self) -> None:
        raise Oops

    @la.handler
    async def hold(self, held: Flag, release: Flag) -> str:
        held.set()
        try:
            await release.wait()
        except anyio.get_cancelled_exc_class():
            self.log.append("cancelled")
            raise
        return "held"

    @la.handler(interleaved=True)
    async def stay(self, held: Flag, release: Flag) -> str:
        held.set()
        await release.wait()
        return "stayed"

    @la.handler
    def block(self, held: Flag, release: threading.Event) -> None:
        held.set()
        release.wait(60)

    @la.handler
    async def count(self, end: int) -> AsyncIterator[int]:
        try:
            for item in range(end):
                self.log.append(item)
                yield item
        finally:
            self.log.append("closed")

    @la.handler
    async def bear(self) -> Worker:
        return await la.options(name="child").spawn(Worker, self.log)

    @la.handler
    async def bear_in_thread(self) -> Worker:
        return await la.options(name="child", place="thread").spawn(Worker, self.log)

    @la.handler
    async def ask(self, other: Any) -> int:
        return int(await other.where())

    @la.handler
    async def ask_to_ask(self, other: Any, me: Any) -> int:
        return int(await other.ask(me))

    @la.handler
    def loop_library(self) -> str:
        return "trio" if "trio" in type(anyio.lowlevel.current_token().native_token).__module__ else "asyncio"


def threads_of_actors() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("actor ")]


async def until(condition: Any) -> None:
    """Wait for what another thread does, of which nothing tells us."""
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 (that is the case)
            await anyio.sleep(0.005)


async def test_actor_runs_in_a_thread_of_its_own() -> None:
    async with la.open_system() as system:
        worker = await system.options(name="w", place="thread").spawn(Worker)
        assert await worker.where() not in (threading.get_ident(), threading.main_thread().ident)
        assert threads_of_actors() == ["actor local/w"]
        assert la.statistics(worker).place == "thread"
        assert "w (Worker)  running, thread, 1 handled" in str(system.tree())


async def test_its_loop_is_of_the_same_kind_as_the_spawners() -> None:
    async with la.open_system() as system:
        here = await system.spawn(Worker)
        there = await system.options(place="thread").spawn(Worker)
        assert await there.loop_library() == await here.loop_library()


async def test_ask_tell_and_error_cross_between_the_threads() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="thread").spawn(Worker)
        await worker.note.tell(1)
        worker.note.tell_nowait(2)
        assert await worker.read() == [1, 2]
        with pytest.raises(Oops) as caught:
            await worker.fail()
        assert caught.traceback[-1].name == "fail"
        assert await worker.read() == [1, 2]


async def test_messages_of_one_sender_stay_in_order() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="thread", mailbox=10).spawn(Worker)
        for number in range(0, 3000, 3):
            await worker.note.tell(number)
            await worker.note.tell(number + 1)
            if number % 10 == 0:
                await worker.note(number + 2)
            else:
                await worker.note.tell(number + 2)
        assert await worker.read() == list(range(3000))


@pytest.mark.parametrize("place", ["task", "thread"])
@pytest.mark.parametrize("capacity", [1, 2, 50])
async def test_many_threads_lose_nothing_and_keep_their_order(place: Any, capacity: int, anyio_backend: str) -> None:
    async with la.open_system() as system:
        worker = await system.options(place=place, mailbox=capacity).spawn(Worker)

        async def send(sender: int) -> None:
            for number in range(200):
                await worker.note.tell((sender, number))

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)  # threads change places at every turn, where their races are
        try:
            threads = [
                threading.Thread(target=anyio.run, args=(send, sender), kwargs={"backend": anyio_backend})
                for sender in range(4)
            ]
            for thread in threads:
                thread.start()
            await send(4)
            for thread in threads:
                await anyio.to_thread.run_sync(thread.join)
        finally:
            sys.setswitchinterval(interval)

        log = await worker.read()
        assert len(log) == 1000
        for sender in range(5):
            assert [number for who, number in log if who == sender] == list(range(200))


async def test_thread_without_a_loop_may_tell_without_waiting() -> None:
    async with la.open_system() as system:
        for place in ("task", "thread"):
            worker = await system.options(place=place, mailbox=5).spawn(Worker)
            await anyio.to_thread.run_sync(worker.note.tell_nowait, 1)
            await until(lambda worker=worker: la.statistics(worker).handled == 1)
            held, release = Flag(), Flag()
            await worker.hold.tell(held, release)
            await held.wait()
            for _ in range(5):
                await anyio.to_thread.run_sync(worker.note.tell_nowait, 1)
            with pytest.raises(MailboxFull):
                await anyio.to_thread.run_sync(worker.note.tell_nowait, 1)
            release.set()


async def test_tell_waits_for_room_across_threads() -> None:
    held, release = Flag(), Flag()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        worker = await system.options(place="thread", mailbox=1).spawn(Worker)
        await worker.hold.tell(held, release)
        await held.wait()
        await worker.note.tell(1)
        told = Later(tg, worker.note.tell, 2)
        await until(lambda: la.statistics(worker).senders_waiting == 1)
        assert told.outcome == "pending"
        release.set()
        assert await told.done() is None
        assert await worker.read() == [1, 2]


async def test_cancelled_ask_cancels_its_handler_in_the_other_thread() -> None:
    held, release = Flag(), Flag()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        worker = await system.options(place="thread").spawn(Worker)
        asked = Later(tg, worker.hold, held, release)
        await held.wait()
        await asked.cancel()
        assert await worker.read() == ["cancelled"]


async def test_cancelled_ask_that_is_queued_in_the_other_thread_is_skipped() -> None:
    held, release = Flag(), Flag()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        worker = await system.options(place="thread").spawn(Worker)
        await worker.hold.tell(held, release)
        await held.wait()
        asked = Later(tg, worker.note, "never")
        await until(lambda: la.statistics(worker).mailbox == 1)
        await asked.cancel()
        await worker.note.tell("next")
        release.set()
        assert await worker.read() == ["next"]


async def test_interleaved_handler_waits_beside_others_in_its_thread() -> None:
    held, release = Flag(), Flag()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        worker = await system.options(place="thread").spawn(Worker)
        staying = Later(tg, worker.stay, held, release)
        await held.wait()
        await worker.note("beside")
        release.set()
        assert await staying.done() == "stayed"


async def test_stream_crosses_threads_with_back_pressure() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="thread").spawn(Worker)
        stream = worker.count(500)
        assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
        await anyio.sleep(0.05)
        assert len(await worker.read()) <= 3 + AHEAD
        assert [item async for item in stream] == list(range(3, 500))
        assert (await worker.read())[-1] == "closed"


async def test_leaving_a_stream_closes_the_handler_in_the_other_thread() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="thread").spawn(Worker)
        async for item in worker.count(500):
            if item == 3:
                break
        with anyio.fail_after(10):
            while (await worker.read())[-1] != "closed":  # noqa: ASYNC110 (nothing tells of it)
                await anyio.sleep(0.005)


async def test_stopping_ends_the_thread_after_on_stop_ran_in_it() -> None:
    log: list[Any] = []
    async with la.open_system() as system:
        worker = await system.options(place="thread").spawn(Worker, log)
        where = await worker.where()
        assert await la.stop(worker) is la.Rung.DRAIN

        assert log == [where]
        assert threads_of_actors() == []
        with pytest.raises(ActorNotRunning):
            await worker.where()


async def test_leaving_the_system_ends_the_threads() -> None:
    log: list[Any] = []
    async with la.open_system() as system:
        workers = [await system.options(place="thread").spawn(Worker, log) for _ in range(5)]
        where = [await worker.where() for worker in workers]

    assert log == where[::-1]
    assert threads_of_actors() == []


async def test_child_of_an_actor_in_a_thread_lives_in_that_thread() -> None:
    log: list[Any] = []
    async with la.open_system() as system:
        worker = await system.options(name="w", place="thread").spawn(Worker, log)
        child = await worker.bear()
        assert repr(child) == "<ref Worker local/w/child#1 running>"
        where = await child.where()
        assert where == await worker.where()

    assert log == [where, where]


async def test_child_may_have_a_thread_of_its_own() -> None:
    log: list[Any] = []
    async with la.open_system() as system:
        worker = await system.options(place="thread").spawn(Worker, log)
        child = await worker.bear_in_thread()
        where = [await child.where(), await worker.where()]
        assert where[0] != where[1]

    assert log == where
    assert threads_of_actors() == []


async def test_failed_tell_in_a_thread_is_raised_from_the_system() -> None:
    async def scenario() -> None:
        async with la.open_system() as system:
            worker = await system.options(place="thread").spawn(Worker)
            await worker.fail.tell()
            await anyio.sleep(20)

    with pytest.raises(Oops):
        await scenario()
    assert threads_of_actors() == []


@pytest.mark.parametrize("broken", ["__init__", "on_start"])
async def test_actor_that_fails_to_start_leaves_no_thread(broken: str) -> None:
    @la.actor
    class Broken:
        def __init__(self) -> None:
            if broken == "__init__":
                raise Oops

        async def on_start(self) -> None:
            raise Oops

    async with la.open_system() as system:
        with pytest.raises(SpawnError) as caught:
            await system.options(place="thread").spawn(Broken)
        assert isinstance(caught.value.__cause__, Oops)
        await until(lambda: not threads_of_actors())
        assert system.children == {}


@pytest.mark.parametrize("delay", [0, 0.0005, 0.002, 0.01])
async def test_cancelled_spawn_leaves_no_thread_outside_the_tree(delay: float) -> None:
    async with la.open_system() as system:
        with anyio.move_on_after(delay):
            await system.options(place="thread").spawn(Worker)
        await anyio.sleep(0.05)
        assert len(threads_of_actors()) == len(system.children)
    assert threads_of_actors() == []


async def test_thread_that_blocks_is_reported_with_its_stack_and_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    held, release = Flag(), threading.Event()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        worker = await system.options(name="w", place="thread").spawn(Worker)
        child = await worker.bear()
        blocking = Later(tg, worker.block, held, release)
        await held.wait()
        queued = Later(tg, worker.where)
        start = time.monotonic()
        assert await la.stop(worker, grace=0.3) is la.Rung.ABANDON

        assert time.monotonic() - start < 3
        assert "actor local/w does not react to being cancelled and is left behind; its thread is at" in caplog.text
        assert "in block" in caplog.text
        assert isinstance(await blocking.done(), ActorStopped)
        assert isinstance(await queued.done(), ActorNotRunning)
        assert not la.is_running(child)
        start = time.monotonic()
        await la.stop(worker)
        assert time.monotonic() - start < 1
    release.set()
    await until(lambda: not threads_of_actors())


async def test_actors_in_two_threads_that_ask_each_other_are_told_of_the_cycle() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        one = await system.options(place="thread").spawn(Worker)
        two = await system.options(place="thread").spawn(Worker)
        assert await one.ask(two) == await two.where()
        with anyio.fail_after(20):
            for _ in range(20):
                asks = [Later(tg, one.ask_to_ask, two, one), Later(tg, two.ask_to_ask, one, two)]
                outcomes = [await ask.done() for ask in asks]
                assert any(isinstance(outcome, AskCycle) for outcome in outcomes)


async def test_behaviour_may_live_in_a_thread() -> None:
    class Where(la.Message[int]):
        pass

    @la.actor
    async def teller(mailbox: la.Mailbox[Any]) -> None:
        async for message in mailbox:
            mailbox.reply(message, threading.get_ident())

    async with la.open_system() as system:
        ref: Any = await system.options(place="thread").spawn(teller)
        assert await ref.ask(Where()) != threading.get_ident()
    assert threads_of_actors() == []


async def test_end_of_a_thread_actor_is_told_across_threads() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="thread").spawn(Worker)
        watched = la.watch(worker)
        await la.stop(worker)
        assert (await watched).reason is la.Reason.STOPPED


async def test_message_whose_wake_up_is_on_the_way_is_handled_before_a_stop() -> None:
    # The loop is kept from turning while another thread puts its message in: the stop then comes first.
    replies: list[object] = []
    asked = threading.Event()

    async def ask(counter: Any) -> None:
        asked.set()
        with anyio.fail_after(5):
            replies.append(await counter.add(1))

    async with la.open_system(blocked_after=60):
        counter = await la.spawn(Adder)
        far = threading.Thread(target=anyio.run, args=(ask, counter))
        far.start()
        asked.wait()
        while not la.statistics(counter).mailbox:
            threading.Event().wait(0.001)
        assert await la.stop(counter) is la.Rung.DRAIN
        await anyio.to_thread.run_sync(far.join)
    assert replies == [1]


@la.actor
class Adder:
    def __init__(self) -> None:
        self.value = 0

    @la.handler
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value
