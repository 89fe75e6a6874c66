"""Stopping is one call: drain, then cancel, then leave behind and say so; always in bounded time."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import ActorNotRunning, ActorStopped, ContractError, SpawnError
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, Porter, Stopper, settle


@la.actor
class Family:
    """Spawns members below itself and logs its own stop after theirs."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    @la.handler
    async def bear(self, name: str) -> Stopper:
        return await la.options(name=name).spawn(Stopper, name, self.log)

    @la.handler
    async def found(self, name: str) -> Family:
        return await la.options(name=name).spawn(Family, name, self.log)

    @la.handler
    async def stop_owner(self, owner: Any) -> la.Rung:
        return await la.stop(owner)

    @la.handler
    async def stop_myself(self) -> la.Rung:
        rung = await la.stop(la.ref_of(self))
        self.log.append("said goodbye")
        return rung

    @la.handler
    def note(self, text: str) -> None:
        self.log.append(text)

    async def on_stop(self) -> None:
        self.log.append(self.name)


async def test_stop_of_an_idle_actor_takes_no_time_and_one_rung() -> None:
    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        assert await la.stop(porter) is la.Rung.DRAIN
        assert anyio.current_time() == 0
        assert not la.is_running(porter)


async def test_stop_finishes_the_queue_and_then_runs_on_stop() -> None:
    log: list[str] = []
    async with la.open_system() as system, anyio.create_task_group() as tg:
        family = await system.spawn(Family, "on_stop", log)
        for number in range(5):
            await family.note.tell(str(number))
        asked = Later(tg, family.note, "asked")
        await settle()
        assert await la.stop(family) is la.Rung.DRAIN

        assert asked.outcome is None
        assert log == ["0", "1", "2", "3", "4", "asked", "on_stop"]
        assert system.statistics().dead_letters == 0


async def test_draining_actor_takes_no_new_messages() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.spawn(Porter)
        held = Later(tg, porter.hold, gate)
        await gate.reached()
        stopping = Later(tg, la.stop, porter)
        await settle()
        assert not la.is_running(porter)
        with pytest.raises(ActorNotRunning):
            await porter.note(1)
        gate.open()

        assert await held.done() == "held"
        assert await stopping.done() is la.Rung.DRAIN


async def test_children_stop_before_their_owner_and_the_youngest_first() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        family = await system.spawn(Family, "root", log)
        await family.bear("eldest")
        branch = await family.found("branch")
        await branch.bear("leaf 1")
        await branch.bear("leaf 2")
        await family.bear("youngest")
        await la.stop(family)

    assert log == ["youngest", "leaf 2", "leaf 1", "branch", "eldest", "root"]


async def test_leaving_the_system_stops_its_actors_the_youngest_first() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        for name in "abc":
            await system.spawn(Stopper, name, log)

    assert log == ["c", "b", "a"]


async def test_actor_that_does_not_finish_in_its_grace_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.options(name="p").spawn(Porter)
        held = Later(tg, porter.hold, gate)
        await gate.reached()
        noted = Later(tg, porter.note, 1)
        await settle()
        assert await la.stop(porter, grace=3) is la.Rung.INTERRUPT

        assert anyio.current_time() == 3
        assert isinstance(await held.done(), ActorStopped)
        assert isinstance(await noted.done(), ActorNotRunning)
        assert "actor local/p did not finish in time and is cancelled" in caplog.text


async def test_actor_that_does_not_react_to_being_cancelled_is_reported_and_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.options(name="p", mailbox=1).spawn(Porter)
        resisting = Later(tg, porter.resist, gate)
        await gate.reached()
        await porter.note.tell(1)
        told = Later(tg, porter.note.tell, 2)
        watched = la.watch(porter)
        assert await la.stop(porter, grace=3) is la.Rung.ABANDON

        assert anyio.current_time() == 6
        assert isinstance(await resisting.done(), ActorStopped)
        assert isinstance(await told.done(), ActorNotRunning)
        assert (await watched).reason is la.Reason.ABANDONED
        assert system.statistics() == type(system.statistics())(actors=0, dead_letters=1)
        assert "actor local/p does not react to being cancelled" in caplog.text
        assert "in resist" in caplog.text
        gate.open()


async def test_what_was_left_behind_ends_quietly_when_it_can() -> None:
    gate = Gate()
    tasks = len(anyio.get_running_tasks())
    async with la.open_system(grace=1) as system:
        porter = await system.spawn(Porter)
        await porter.resist.tell(gate)
        await gate.reached()
    gate.open()
    await settle()

    assert len(anyio.get_running_tasks()) == tasks


async def test_many_stubborn_actors_share_the_time_of_each_rung() -> None:
    gates = [Gate() for _ in range(20)]
    async with la.open_system(grace=5) as system:
        for gate in gates:
            porter = await system.spawn(Porter)
            await porter.resist.tell(gate)
            await gate.reached()

    assert anyio.current_time() < 5 + 5 + 20 * 0.2 + 0.1
    for gate in gates:
        gate.open()
    await settle()


async def test_on_stop_has_the_systems_grace(caplog: pytest.LogCaptureFixture) -> None:
    @la.actor
    class Slow:
        async def on_stop(self) -> None:
            await anyio.sleep_forever()

    async with la.open_system(grace=2) as system:
        slow = await system.options(name="slow").spawn(Slow)
        assert await la.stop(slow) is la.Rung.DRAIN

        assert anyio.current_time() == pytest.approx(2, abs=0.01)
        assert "on_stop of actor local/slow was cancelled after its grace of 2 s" in caplog.text


async def test_on_stop_that_does_not_react_to_being_cancelled_is_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()

    @la.actor
    class Stubborn:
        async def on_stop(self) -> None:
            with anyio.CancelScope(shield=True):
                await gate.wait()

    async with la.open_system(grace=2) as system:
        stubborn = await system.options(name="s").spawn(Stubborn)
        assert await la.stop(stubborn) is la.Rung.ABANDON

        assert anyio.current_time() < 7
        assert "in on_stop" in caplog.text
        gate.open()


async def test_owner_has_the_time_that_its_children_need() -> None:
    @la.actor
    class Slow:
        async def on_stop(self) -> None:
            await anyio.sleep(1.5)

    @la.actor
    class Owner:
        async def on_start(self) -> None:
            for _ in range(5):
                await la.spawn(Slow)

    async with la.open_system(grace=2) as system:
        owner = await system.spawn(Owner)
        assert await la.stop(owner) is la.Rung.DRAIN

        assert anyio.current_time() == pytest.approx(3.5)


async def test_child_that_stays_behind_does_not_hold_its_owner_for_ever() -> None:
    gate = Gate()
    log: list[str] = []

    @la.actor
    class Owner:
        async def on_start(self) -> None:
            child = await la.spawn(Porter)
            await child.resist.tell(gate)

        def on_stop(self) -> None:
            log.append("owner")

    async with la.open_system(grace=2) as system:
        owner = await system.spawn(Owner)
        await gate.reached()
        assert await la.stop(owner) is la.Rung.DRAIN

        assert anyio.current_time() < 8
        assert log == ["owner"]
        gate.open()


async def test_children_of_an_actor_that_is_left_behind_are_stopped() -> None:
    gate = Gate()
    log: list[str] = []

    @la.actor
    class Stuck:
        @la.handler
        async def get_stuck(self) -> None:
            await la.spawn(Stopper, "child", log)
            with anyio.CancelScope(shield=True):
                await gate.wait()

    async with la.open_system(grace=1) as system:
        stuck = await system.spawn(Stuck)
        await stuck.get_stuck.tell()
        await gate.reached()
        assert await la.stop(stuck) is la.Rung.ABANDON

        await anyio.sleep(1)
        assert log == ["child"]
        gate.open()


async def test_stopping_a_stopped_actor_does_nothing() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        stopper = await system.spawn(Stopper, "once", log)
        await la.stop(stopper)
        assert await la.stop(stopper) is la.Rung.DRAIN

    assert log == ["once"]


async def test_two_who_stop_the_same_actor_both_wait_for_its_end() -> None:
    log: list[str] = []
    async with la.open_system() as system, anyio.create_task_group() as tg:
        stopper = await system.spawn(Stopper, "once", log)
        stops = [Later(tg, la.stop, stopper) for _ in range(2)]

        assert [await stop.done() for stop in stops] == [la.Rung.DRAIN] * 2
        assert log == ["once"]


async def test_stopping_again_what_was_left_behind_does_not_wait_for_it() -> None:
    gate = Gate()
    async with la.open_system(grace=1) as system:
        porter = await system.spawn(Porter)
        await porter.resist.tell(gate)
        await gate.reached()
        await la.stop(porter)
        start = anyio.current_time()
        await la.stop(porter)

        assert anyio.current_time() == start
        gate.open()


async def test_actor_may_stop_itself_and_finishes_its_turn_first() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        family = await system.spawn(Family, "on_stop", log)
        watched = la.watch(family)
        assert await family.stop_myself() is la.Rung.DRAIN

        assert (await watched).reason is la.Reason.STOPPED
        assert log == ["said goodbye", "on_stop"]


async def test_actor_may_stop_its_owner_and_ends_with_it() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        owner = await system.spawn(Family, "owner", log)
        child = await owner.found("child")
        watched = la.watch(owner)
        assert await child.stop_owner(owner) is la.Rung.DRAIN
        await watched

    assert log == ["child", "owner"]


async def test_stop_while_it_starts_interrupts_on_start_and_tells_the_spawner() -> None:
    gate = Gate()
    log: list[str] = []
    refs: list[Any] = []

    @la.actor
    class Slow:
        async def on_start(self) -> None:
            refs.append(la.ref_of(self))
            await gate.wait()

        def on_stop(self) -> None:
            log.append("on_stop")

    async with la.open_system() as system, anyio.create_task_group() as tg:
        spawning = Later(tg, system.spawn, Slow)
        await gate.reached()
        assert await la.stop(refs[0]) is la.Rung.DRAIN

        error = await spawning.done()
        assert isinstance(error, SpawnError)
        assert isinstance(error.__cause__, ActorStopped)
        assert log == ["on_stop"]
        assert system.children == {}


async def test_system_that_stops_while_an_actor_starts_tells_the_spawner() -> None:
    gate = Gate()

    @la.actor
    class Slow:
        async def on_start(self) -> None:
            await gate.wait()

    async with anyio.create_task_group() as tg:
        async with la.open_system() as system:
            spawning = Later(tg, system.spawn, Slow)
            await gate.reached()
        assert isinstance(await spawning.done(), SpawnError)
        with pytest.raises(SpawnError, match="system local is stopping"):
            await system.spawn(Slow)


async def test_on_start_that_swallows_its_interruption_does_not_bring_the_actor_back() -> None:
    gate = Gate()

    @la.actor
    class Sleepy:
        async def on_start(self) -> None:
            try:
                await gate.wait()
            except anyio.get_cancelled_exc_class():
                pass

    async with la.open_system() as system, anyio.create_task_group() as tg:
        spawning = Later(tg, system.options(name="s").spawn, Sleepy)
        await gate.reached()
        cell = system.children["s"]
        await la.stop(cell.ref)

        assert isinstance(await spawning.done(), SpawnError)
        assert not la.is_running(cell.ref)


async def test_stopping_actor_takes_no_children() -> None:
    errors: list[Exception] = []

    @la.actor
    class Late:
        async def on_stop(self) -> None:
            try:
                await la.spawn(Porter)
            except SpawnError as error:
                errors.append(error)

    async with la.open_system() as system:
        await system.options(name="late").spawn(Late)

    assert "its owner local/late is stopping" in str(errors[0])


async def test_on_stop_that_fails_is_the_actors_failure() -> None:
    @la.actor
    class Bad:
        def on_stop(self) -> None:
            raise Oops

    async def leave() -> None:
        async with la.open_system() as system:
            await system.options(name="bad").spawn(Bad)

    with pytest.raises(Oops) as caught:
        await leave()
    assert caught.value.__notes__ == ["raised by on_stop of actor local/bad"]


async def test_failure_of_a_child_while_its_owner_stops_is_not_lost() -> None:
    @la.actor
    class Owner:
        async def on_start(self) -> None:
            child = await la.spawn(Porter)
            await child.fail_slowly.tell(Oops())

    async def leave() -> None:
        async with la.open_system() as system:
            await system.spawn(Owner)

    with pytest.raises(Oops):
        await leave()


async def test_stop_outlasts_the_cancellation_of_who_asked_for_it() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        stopper = await system.spawn(Stopper, "once", log)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await la.stop(stopper)

        assert log == ["once"]


@pytest.mark.parametrize("wrong", [3, "ref", Porter()])
async def test_stop_takes_refs_only(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"stop\(\) takes a ref, got .*; spawn\(\) returns one"):
        await la.stop(wrong)


@la.actor
class Listener:
    """Waits aside until it is to stop."""

    def __init__(self, error: Exception | None = None) -> None:
        self.over = anyio.Event()
        self.error = error

    def on_drain(self) -> None:
        self.over.set()
        if self.error is not None:
            raise self.error

    @la.handler(interleaved=True)
    async def wait(self) -> str:
        await self.over.wait()
        return "heard"


async def test_on_drain_lets_what_is_interleaved_come_to_its_end() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        listener = await system.spawn(Listener)
        waiting = Later(tg, listener.wait)
        await settle()
        begin = anyio.current_time()

        assert await la.stop(listener) is la.Rung.DRAIN
        assert anyio.current_time() == begin
        assert await waiting.done() == "heard"


async def test_on_drain_that_fails_is_the_actors_failure() -> None:
    with pytest.raises(ValueError, match="deaf"):
        async with la.open_system() as system:
            await la.stop(await system.spawn(Listener, ValueError("deaf")))


def test_on_drain_must_not_wait() -> None:
    class Slow:
        async def on_drain(self) -> None: ...

    with pytest.raises(ContractError, match="plain def"):
        la.actor(Slow)


async def test_older_sibling_hears_that_it_is_to_stop_while_a_younger_one_hangs() -> None:
    async with la.open_system(grace=2) as system, anyio.create_task_group() as tg:
        older = await system.spawn(Listener)
        younger = await system.spawn(Porter)
        waiting = Later(tg, older.wait)
        gate = Gate()
        await younger.hold.tell(gate)
        await gate.reached()
        begin = anyio.current_time()
        tg.start_soon(system.stop)

        assert await waiting.done() == "heard"
        assert anyio.current_time() < begin + 1


async def test_why_tells_what_a_stop_took() -> None:
    async with la.open_system(grace=1) as system:
        porter = await system.spawn(Porter)
        gate = Gate()
        await porter.hold.tell(gate)
        await gate.reached()
        assert await la.stop(porter) is la.Rung.INTERRUPT

        assert "had to be cancelled" in str(la.why(porter))


async def test_supervision_stands_for_its_supervisor() -> None:
    async with la.open_system(), la.supervise() as supervision:
        assert la.is_running(supervision)
        assert "nothing in it has failed" in str(la.why(supervision))
        await la.stop(supervision)
        assert not la.is_running(supervision)
