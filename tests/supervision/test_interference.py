"""What may come between: stops, restarts by order and starts that hang, while children are started again."""

from __future__ import annotations

import logging

import anyio
import pytest

import lightactors as la
from lightactors.actors import loops
from lightactors.errors import (
    ActorStopped,
)
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, settle
from tests.supervision.troupe import (
    Mother,
    Player,
    Troupe,
    incarnation,
)


async def test_supervisor_stopped_during_the_back_off_ends_at_once() -> None:
    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor, backoff=20)
        player = await supervisor.start_child(la.child(Player, "p", Troupe()))
        await player.fail.tell()
        await settle()
        before = anyio.current_time()
        assert await la.stop(supervisor) is la.Rung.DRAIN
        assert anyio.current_time() == before
        assert (await la.watch(player)).reason is la.Reason.FAILED


async def test_supervisor_stopped_while_a_child_starts_again_stops_that_child() -> None:
    gate = Gate()
    starts = 0

    @la.actor
    class Slow:
        async def on_start(self) -> None:
            nonlocal starts
            starts += 1
            if starts > 1:
                await gate.wait()

        @la.handler
        def fail(self) -> None:
            raise Oops("slow")

    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor)
        slow = await supervisor.start_child(la.child(Slow))
        await slow.fail.tell()
        await gate.reached()
        assert await la.stop(supervisor) is la.Rung.DRAIN
        assert (await la.watch(slow)).reason is not la.Reason.ABANDONED
        assert starts == 2


async def test_child_stopped_while_it_starts_again_lets_its_siblings_start() -> None:
    gate = Gate()
    troupe = Troupe()

    @la.actor
    class Slow:
        def __init__(self) -> None:
            self.gate = Gate() if "slow" in troupe.log else None
            troupe.log.append("slow")

        async def on_start(self) -> None:
            if troupe.log.count("slow") > 1:
                await gate.wait()

        @la.handler
        def fail(self) -> None:
            raise Oops("slow")

    async with la.open_system():
        specs = [la.options(name="slow").child(Slow), la.options(name="next").child(Player, "next", troupe)]
        supervisor = await la.spawn(la.Supervisor, "one_for_all", specs)
        children = await supervisor.children()
        await children["slow"].fail.tell()
        await gate.reached()
        await la.stop(children["slow"])
        assert await children["next"].note(1) == [1]
        assert list(await supervisor.children()) == ["next"]


async def test_child_stopped_during_the_back_off_is_not_started_again() -> None:
    troupe = Troupe()
    async with la.open_system(), la.supervise(backoff=8) as supervisor:
        player = await supervisor.spawn(Player, "p", troupe)
        await player.fail.tell()
        await settle()
        assert await la.stop(player) is la.Rung.DRAIN
        await anyio.sleep(20)
        assert troupe.log == ["start p", "stop p"]


async def test_sibling_that_fails_while_all_are_stopped_is_started_once() -> None:
    gate = Gate()
    troupe = Troupe()
    async with la.open_system():
        specs = [la.options(name=name).child(Player, name, troupe) for name in "ab"]
        supervisor = await la.spawn(la.Supervisor, "one_for_all", specs)
        children = await supervisor.children()
        await children["a"].fail_at.tell(gate)
        await gate.reached()
        await children["b"].fail.tell()
        await settle()
        gate.open()
        await settle()
        assert [incarnation(child) for child in children.values()] == [2, 2]
        assert troupe.log == ["start a", "start b", "stop b", "stop a", "start a", "start b"]


async def test_restart_by_order_during_a_back_off_lets_the_siblings_start() -> None:
    async with la.open_system():
        specs = [la.options(name=name).child(Player, name, Troupe()) for name in "abc"]
        supervisor = await la.spawn(la.Supervisor, "one_for_all", specs, backoff=8)
        children = await supervisor.children()
        await children["b"].fail.tell()
        await settle()
        await supervisor.restart_child("a")
        assert await children["a"].note(1) == [1]
        await anyio.sleep(20)
        assert {name: la.statistics(child).state for name, child in children.items()} == dict.fromkeys("abc", "running")


async def test_start_that_never_ends_counts_as_a_failed_one() -> None:
    starts: list[float] = []

    @la.actor
    class Hanging:
        async def on_start(self) -> None:
            starts.append(anyio.current_time())
            if len(starts) in (2, 3):
                await anyio.sleep_forever()

        @la.handler
        def fail(self) -> None:
            raise Oops("hanging")

        @la.handler
        def count(self) -> int:
            return len(starts)

    async with la.open_system(), la.supervise(max_restarts=3, period=1000) as supervisor:
        hanging = await supervisor.options(start_timeout=10).spawn(Hanging)
        await hanging.fail.tell()
        with anyio.fail_after(100):
            assert await hanging.count() == 4
        assert starts == pytest.approx([0, 0, 10, 20])


async def test_stuck_sibling_is_left_behind_and_stays_dead(caplog: pytest.LogCaptureFixture) -> None:
    troupe = Troupe()

    @la.actor
    class Stuck:
        def on_start(self) -> None:
            troupe.starts("stuck")

        @la.handler
        async def hold(self) -> None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(100)

    async with la.open_system():
        specs = [la.options(name="a").child(Player, "a", troupe), la.options(name="stuck").child(Stuck)]
        supervisor = await la.spawn(la.Supervisor, "one_for_all", specs)
        children = await supervisor.children()
        await children["stuck"].hold.tell()
        await settle()
        with caplog.at_level(logging.ERROR, "lightactors"):
            await children["a"].fail.tell()
            assert await children["a"].note(1) == [1]
        assert "is left behind" in caplog.text
        assert (await la.watch(children["stuck"])).reason is la.Reason.ABANDONED
        await anyio.sleep(200)
        assert list(await supervisor.children()) == ["a"]
        assert la.statistics(children["stuck"]).state == "stopped"
        assert troupe.log.count("start stuck") == 1


async def test_stop_of_the_own_task_on_asyncio_counts_as_a_failure() -> None:
    if loops.current().backend != "asyncio":
        pytest.skip("trio has no way to cancel a task from outside its scopes")
    async with la.open_system(), la.supervise() as supervisor, anyio.create_task_group() as tg:
        mother = await supervisor.options(restart="transient").spawn(Mother, Troupe())
        cancelled = Later(tg, mother.cancel_my_task)
        assert isinstance(await cancelled.done(), ActorStopped)
        await settle()
        assert incarnation(mother) == 2


async def test_exit_in_a_restart_is_a_failed_start() -> None:
    made = 0

    @la.actor
    class Leaver:
        def __init__(self) -> None:
            nonlocal made
            made += 1
            if made == 2:
                raise SystemExit(3)

        @la.handler
        def fail(self) -> None:
            raise Oops("leaver")

        @la.handler
        def count(self) -> int:
            return made

    async with la.open_system(), la.supervise(max_restarts=2) as supervisor:
        leaver = await supervisor.spawn(Leaver)
        await leaver.fail.tell()
        assert await leaver.count() == 3


@la.actor
class Sore:
    def on_stop(self) -> None:
        raise Oops("sore")


async def test_supervised_child_that_fails_while_it_is_stopped_fails_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with la.open_system(), la.supervise() as supervisor:
        await supervisor.spawn(Sore)
    assert "failed while it was being stopped" in caplog.text


@la.actor
class Touchy:
    @la.handler
    def fail(self) -> None:
        raise Oops("touchy")

    @la.handler
    def ping(self) -> None: ...


async def test_sibling_that_was_started_again_was_stopped_by_nobody() -> None:
    async with la.open_system(), la.supervise("one_for_all") as supervisor:
        sore, other = [await supervisor.spawn(Touchy) for _ in range(2)]
        await sore.fail.tell()
        await sore.ping()
        assert la.statistics(other).restarts == 1
        assert "somebody stopped it" not in str(la.why(other))
