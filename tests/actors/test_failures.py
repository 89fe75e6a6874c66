"""Exceptions always propagate: to the asker, or to the owner, up to the block that opened the system."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import ActorNotRunning, ActorStopped, AskCycle, ExecutionError, SpawnError
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, Porter, settle


async def in_a_system(block: Callable[[la.System], Awaitable[object]]) -> None:
    """Run a block in a system and wait there for what its actors do."""
    async with la.open_system() as system:
        await block(system)
        await anyio.sleep(100)


@pytest.mark.parametrize("handler", ["fail", "fail_slowly"])
async def test_failed_tell_ends_the_actor_and_is_raised_from_the_system(handler: str) -> None:
    refs: list[Porter] = []

    async def block(system: la.System) -> None:
        refs.append(await system.options(name="p").spawn(Porter))
        await getattr(refs[0], handler).tell(Oops("told"))

    with pytest.raises(Oops, match="told") as caught:
        await in_a_system(block)

    assert caught.value.__notes__ == [f"raised by actor local/p while it handled Porter.{handler}(), which it was told"]
    assert anyio.current_time() < 100  # the block was cancelled
    assert not la.is_running(refs[0])


async def test_several_failures_arrive_as_a_group() -> None:
    async def block(system: la.System) -> None:
        porters = [await system.spawn(Porter) for _ in range(2)]
        for porter, text in zip(porters, "ab", strict=True):
            await porter.fail.tell(Oops(text))

    with pytest.raises(ExceptionGroup) as caught:
        await in_a_system(block)

    assert sorted(str(error) for error in caught.value.exceptions) == ["a", "b"]


async def test_actors_failure_and_the_blocks_own_error_arrive_together() -> None:
    async def block(system: la.System) -> None:
        porter = await system.spawn(Porter)
        await porter.fail.tell(Oops())
        raise ValueError("mine")

    with pytest.raises(ExceptionGroup) as caught:
        await in_a_system(block)

    assert [type(error) for error in caught.value.exceptions] == [Oops, ValueError]


async def test_error_of_the_block_alone_arrives_as_itself() -> None:
    async def block(system: la.System) -> None:
        await system.spawn(Porter)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await in_a_system(block)


async def test_failure_that_the_block_was_told_of_is_raised_once() -> None:
    async def block(system: la.System) -> None:
        porter = await system.spawn(Porter)
        watched = la.watch(porter)
        await porter.fail.tell(Oops())
        with anyio.CancelScope(shield=True):
            terminated = await watched
        assert terminated.error is not None
        raise terminated.error

    with pytest.raises(Oops):
        await in_a_system(block)


async def test_failure_does_not_replace_a_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    with anyio.CancelScope() as scope:
        async with la.open_system() as system:
            porter = await system.spawn(Porter)
            await porter.fail.tell(Oops())
            scope.cancel()
            await anyio.sleep_forever()

    assert scope.cancelled_caught
    assert "an actor of system local failed" in caplog.text


async def test_exception_that_cannot_be_hashed_propagates_too() -> None:
    @dataclass
    class Unhashable(Exception):
        code: int

    async def block(system: la.System) -> None:
        porter = await system.spawn(Porter)
        await porter.fail.tell(Unhashable(3))

    with pytest.raises(Unhashable):
        await in_a_system(block)


@la.actor
class Parent:
    """Has a child, and may watch it."""

    def __init__(self, *, watches: bool) -> None:
        self.watches = watches
        self.heard: list[la.Terminated] = []

    async def on_start(self) -> None:
        self.child = await la.options(name="child").spawn(Porter)
        if self.watches:
            la.watch(self.child)

    @la.handler
    async def make_it_fail(self) -> None:
        await self.child.fail.tell(Oops())

    @la.handler
    def read(self) -> list[la.Terminated]:
        return self.heard

    def on_terminated(self, terminated: la.Terminated) -> None:
        self.heard.append(terminated)


async def test_parent_fails_with_its_child() -> None:
    ends: list[la.Terminated] = []

    async def block(system: la.System) -> None:
        parent = await system.options(name="parent").spawn(Parent, watches=False)
        watched = la.watch(parent)
        await parent.make_it_fail.tell()
        with anyio.CancelScope(shield=True):
            ends.append(await watched)

    with pytest.raises(Oops) as caught:
        await in_a_system(block)

    assert ends[0].reason is la.Reason.FAILED
    assert ends[0].error is caught.value
    assert "local/parent/child failed, and with it its owner local/parent" in caught.value.__notes__[1]


async def test_parent_that_watches_its_child_goes_on_without_it() -> None:
    async with la.open_system() as system:
        parent = await system.spawn(Parent, watches=True)
        await parent.make_it_fail()
        await settle()

        heard = await parent.read()
        assert [(end.reason, type(end.error)) for end in heard] == [(la.Reason.FAILED, Oops)]


async def test_failure_cuts_what_the_actor_has_under_way() -> None:
    gate = Gate()
    async with anyio.create_task_group() as tg:
        asks: list[Later[Any]] = []

        async def block(system: la.System) -> None:
            porter = await system.spawn(Porter)
            asks.append(Later(tg, porter.stay, gate))
            await gate.reached()
            await porter.fail_slowly.tell(Oops())
            asks.append(Later(tg, porter.note, 1))

        with pytest.raises(Oops):
            await in_a_system(block)

        staying, queued = [await ask.done() for ask in asks]
        assert isinstance(staying, ActorStopped)
        assert isinstance(queued, ActorNotRunning)
        assert queued.message == "Porter.note(1)"


async def test_owner_hears_of_a_failure_before_the_actor_has_cleaned_up() -> None:
    times: list[float] = []

    @la.actor
    class Slow:
        @la.handler
        def fail(self) -> None:
            raise Oops

        async def on_stop(self) -> None:
            await anyio.sleep(3)
            times.append(anyio.current_time())

    async def scenario() -> None:
        async with la.open_system() as system:
            slow = await system.spawn(Slow)
            await slow.fail.tell()
            try:
                await anyio.sleep_forever()
            finally:
                times.append(anyio.current_time())

    with pytest.raises(Oops):
        await scenario()
    assert times == [0, 3]


async def test_on_start_that_fails_raises_at_the_spawner_and_frees_the_name() -> None:
    @la.actor
    class Moody:
        def __init__(self, *, good: bool) -> None:
            self.good = good

        async def on_start(self) -> None:
            await anyio.sleep(1)
            if not self.good:
                raise Oops("moody")

    async with la.open_system() as system:
        options = system.options(name="moody")
        with pytest.raises(SpawnError, match=r"Moody local/moody failed in on_start: Oops\('moody'\)") as caught:
            await options.spawn(Moody, good=False)
        assert isinstance(caught.value.__cause__, Oops)
        assert system.children == {}
        assert la.is_running(await options.spawn(Moody, good=True))


async def test_init_that_fails_raises_at_the_spawner_and_frees_the_name() -> None:
    @la.actor
    class Broken:
        def __init__(self) -> None:
            raise Oops("broken")

    async with la.open_system() as system:
        with pytest.raises(SpawnError, match=r"Broken failed in __init__: Oops\('broken'\)") as caught:
            await system.spawn(Broken)
        assert isinstance(caught.value.__cause__, Oops)
        assert system.children == {}


async def test_child_that_fails_while_its_owner_starts_fails_the_start() -> None:
    @la.actor
    class Hasty:
        async def on_start(self) -> None:
            child = await la.spawn(Porter)
            await child.fail.tell(Oops())
            await anyio.sleep(10)

    async with la.open_system() as system:
        with pytest.raises(SpawnError) as caught:
            await system.spawn(Hasty)
        assert isinstance(caught.value.__cause__, Oops)
        assert system.children == {}


async def test_failing_signal_handler_ends_the_actor() -> None:
    @la.actor
    class Nervous:
        async def on_start(self) -> None:
            la.watch(await la.options(name="child").spawn(Porter))

        def on_terminated(self, terminated: la.Terminated) -> None:
            raise Oops("nervous")

    async def block(system: la.System) -> None:
        await system.options(name="n").spawn(Nervous)
        await la.stop(system.children["n"].children["child"].ref)

    with pytest.raises(Oops, match="nervous"):
        await in_a_system(block)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("interleaved", [False, True])
async def test_handler_that_awaits_something_cancelled_fails_and_the_actor_lives(interleaved: bool) -> None:
    @la.actor
    class Unlucky:
        @la.handler
        async def wait(self) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        @la.handler(interleaved=True)
        async def wait_aside(self) -> None:
            await Unlucky().wait()

        @la.handler
        def live(self) -> bool:
            return True

    async with la.open_system() as system:
        unlucky = await system.spawn(Unlucky)
        with pytest.raises(RuntimeError, match="awaited something that was cancelled") as caught:
            await (unlucky.wait_aside() if interleaved else unlucky.wait())
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert await unlucky.live()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_behaviour_that_awaits_something_cancelled_fails() -> None:
    @la.actor
    async def unlucky(mailbox: la.Mailbox[Any]) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def block(system: la.System) -> None:
        await system.spawn(unlucky)

    with pytest.raises(RuntimeError, match="awaited something that was cancelled"):
        await in_a_system(block)


# Asks that could never be answered


@la.actor
class Caller:
    """Asks whoever it is told to."""

    def __init__(self) -> None:
        self.others: list[Any] = []

    @la.handler
    def knows(self, *others: Any) -> None:
        self.others = list(others)

    @la.handler
    async def call(self) -> str:
        return await self.others.pop().call() if self.others else "end"

    @la.handler(interleaved=True)
    async def call_aside(self) -> str:
        return await self.others.pop().call() if self.others else "end"

    @la.handler
    def answer(self) -> str:
        return "answer"


@pytest.mark.parametrize("length", [1, 2, 3])
async def test_cycle_of_asks_is_refused(length: int) -> None:
    async with la.open_system() as system:
        callers = [await system.options(name=f"c{number}").spawn(Caller) for number in range(length)]
        for caller, other in zip(callers, [*callers[1:], callers[0]], strict=True):
            await caller.knows(other)
        cycle = " → ".join(f"c{(length - 1 + number) % length}" for number in range(length + 1))
        with pytest.raises(AskCycle, match=f"ask cycle {cycle}: .* make one of the handlers interleaved"):
            await callers[0].call()

        assert await callers[0].answer() == "answer"


async def test_plain_handler_of_a_waiting_actor_closes_a_cycle_too() -> None:
    @la.actor
    class Asker:
        @la.handler
        async def ask_myself(self) -> int:
            return await la.ref_of(self).plain()

        @la.handler
        def plain(self) -> int:
            return 1

    async with la.open_system() as system:
        asker = await system.spawn(Asker)
        with pytest.raises(AskCycle):
            await asker.ask_myself()


async def test_circle_through_an_interleaved_handler_is_no_cycle() -> None:
    async with la.open_system() as system:
        a, b = [await system.spawn(Caller) for _ in range(2)]
        await a.knows(b)
        await b.knows(a)
        assert await a.call_aside() == "end"


async def test_who_waits_for_an_interleaved_handler_may_be_waited_for() -> None:
    gate = Gate()

    @la.actor
    class Waits:
        @la.handler
        async def wait_for(self, porter: Porter) -> str:
            return await porter.stay(gate)

        @la.handler
        async def answer(self) -> str:
            return "answer"

    @la.actor
    class Both:
        def __init__(self, other: Waits) -> None:
            self.other = other

        @la.handler(interleaved=True)
        async def stay(self, gate: Gate) -> str:
            await gate.wait()
            return "stayed"

        @la.handler
        async def ask_back(self) -> str:
            gate.open()
            return await self.other.answer()

    async with la.open_system() as system, anyio.create_task_group() as tg:
        waits = await system.spawn(Waits)
        both: Any = await system.spawn(Both, waits)
        waiting = Later(tg, waits.wait_for, both)
        await gate.reached()
        assert await both.ask_back() == "answer"
        assert await waiting.done() == "stayed"


async def test_asks_in_a_system_inside_an_actor_work_and_close_cycles() -> None:
    @la.actor
    class Host:
        @la.handler
        async def host(self) -> int:
            async with la.open_system("inner"):
                porter = await la.spawn(Porter)
                return await porter.note_slowly(1)

        @la.handler
        async def ask_back(self) -> str:
            async with la.open_system("inner"):
                caller = await la.spawn(Caller)
                await caller.knows(la.ref_of(self))
                return await caller.call()

        @la.handler
        async def call(self) -> str:
            return "never"

    async with la.open_system() as system:
        host = await system.spawn(Host)
        assert await host.host() == 1
        with pytest.raises(AskCycle):
            await host.ask_back()


async def test_sys_exit_in_a_told_handler_is_the_actors_failure() -> None:
    @la.actor
    class Leaver:
        @la.handler
        def leave(self) -> None:
            raise SystemExit(3)

    async def program() -> None:
        async with la.open_system():
            leaver = await la.spawn(Leaver)
            await leaver.leave.tell()
            await anyio.sleep(10)

    with pytest.raises(ExecutionError, match=r"sys\.exit\(3\)"):
        await program()


@pytest.mark.parametrize("handler", ["leave", "leave_later"])
async def test_sys_exit_in_an_asked_handler_is_the_askers_error(handler: str) -> None:
    @la.actor
    class Leaver:
        @la.handler
        def leave(self) -> None:
            raise SystemExit(3)

        @la.handler
        async def leave_later(self) -> None:
            raise SystemExit(3)

    async with la.open_system():
        leaver = await la.spawn(Leaver)
        for _ in range(2):
            with pytest.raises(ExecutionError, match=r"sys\.exit\(3\)"):
                await getattr(leaver, handler)()


async def test_repr_that_raises_keeps_no_actor_from_ending() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError("no words")

    @la.actor
    class Taker:
        @la.handler
        async def take(self, thing: object) -> None:
            await anyio.sleep(100)

    async with la.open_system() as system:
        taker = await la.spawn(Taker)
        await taker.take.tell(Broken())
        await taker.take.tell(Broken())
        await settle()
        assert await la.stop(taker) is la.Rung.INTERRUPT
        assert system.statistics().dead_letters == 1
