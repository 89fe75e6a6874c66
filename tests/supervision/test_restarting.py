"""What a restart does to messages, streams, watchers and children."""

from __future__ import annotations

import anyio
import pytest

import lightactors as la
from lightactors.errors import (
    ActorNotRunning,
    ActorStopped,
)
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, Porter, settle
from tests.supervision.troupe import (
    Count,
    End,
    Fail,
    Mother,
    Player,
    Troupe,
    cell,
    exhausted,
    incarnation,
    kill,
    soloist,
)

# Messages


async def test_queue_of_a_failed_child_is_handled_by_the_next_incarnation_in_order() -> None:
    gate = Gate()
    async with la.open_system(), la.supervise() as supervisor, anyio.create_task_group() as tg:
        player = await supervisor.spawn(Player, "p", Troupe())
        held = Later(tg, player.hold, gate)
        await gate.reached()
        await player.fail.tell()
        first = Later(tg, player.note, 1)
        await settle()
        await player.note.tell(2)
        last = Later(tg, player.note, 3)
        await settle()
        gate.open()

        assert await held.done() == "held"
        assert await first.done() == [1]
        assert await last.done() == [1, 2, 3]
        assert incarnation(player) == 2


async def test_message_sent_during_the_back_off_waits_for_the_next_incarnation() -> None:
    async with la.open_system(), la.supervise(backoff=8) as supervisor, anyio.create_task_group() as tg:
        player = await supervisor.spawn(Player, "p", Troupe())
        await player.fail.tell()
        await settle()
        assert la.statistics(player).state == "restarting"
        noted = Later(tg, player.note, 1)
        await settle()
        assert noted.outcome == "pending"
        assert await noted.done() == [1]
        assert 4 <= anyio.current_time() <= 8


@pytest.mark.parametrize("end", ["stops itself", "is killed", "returns"])
async def test_message_to_a_permanent_child_waits_however_it_ended(end: str) -> None:
    async with la.open_system(), la.supervise(backoff=8) as supervisor, anyio.create_task_group() as tg:
        if end == "returns":
            behaviour = await supervisor.spawn(soloist, "s", Troupe())
            await behaviour.tell(End())
            await settle()
            asked = Later(tg, behaviour.ask, Count())
            assert await asked.done() == 1
        else:
            player = await supervisor.spawn(Player, "p", Troupe())
            if end == "is killed":
                kill(player)
            else:
                await player.quit()
            await settle()
            assert la.is_running(player)
            assert await Later(tg, player.note, 1).done() == [1]


async def test_message_to_a_transient_child_that_ended_by_its_own_wish_is_refused() -> None:
    async with la.open_system() as system, la.supervise() as supervisor:
        player = await supervisor.options(restart="transient").spawn(Player, "p", Troupe())
        await player.quit()
        with pytest.raises(ActorNotRunning):
            await player.note(1)
        await settle()
        assert (await la.watch(player)).reason is la.Reason.STOPPED
        assert system.statistics().dead_letters == 0


async def test_sender_who_waits_for_room_goes_on_waiting_over_a_restart() -> None:
    gate = Gate()
    async with la.open_system(), la.supervise() as supervisor, anyio.create_task_group() as tg:
        player = await supervisor.options(mailbox=2).spawn(Player, "p", Troupe())
        await player.hold.tell(gate)
        await gate.reached()
        await player.fail.tell()
        await player.note.tell(1)
        waiting = Later(tg, player.note.tell, 2)
        await settle()
        assert waiting.outcome == "pending"
        gate.open()
        assert await waiting.done() is None
        assert await player.note(3) == [1, 2, 3]


async def test_ask_under_way_fails_with_the_cause() -> None:
    gate = Gate()
    async with la.open_system(), la.supervise() as supervisor, anyio.create_task_group() as tg:
        keeper = await supervisor.spawn(Mother, Troupe())
        child = await keeper.bear()
        held = Later(tg, keeper.hold, gate)
        await gate.reached()
        await child.fail.tell()
        error = await held.done()

        assert isinstance(error, ActorStopped)
        assert isinstance(error.__cause__, Oops)
        assert incarnation(keeper) == 2


async def test_told_messages_of_a_child_given_up_become_dead_letters() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        with exhausted():
            async with la.supervise(max_restarts=0) as supervisor:
                player = await supervisor.spawn(Player, "p", Troupe())
                await player.hold.tell(gate)
                await gate.reached()
                await player.fail.tell()
                await player.note.tell("lost")
                asked = Later(tg, player.note, "refused")
                await settle()
                gate.open()
                await anyio.sleep_forever()
        error = await asked.done()

        assert isinstance(error, ActorNotRunning)
        assert isinstance(error.__cause__, Oops)
        assert [letter.message for letter in system.dead_letters] == ["Player.note('lost')"]


# Streams and interleaved handlers


async def test_interleaved_handler_under_way_fails_with_the_cause_and_the_restart_goes_on() -> None:
    gate = Gate()
    async with la.open_system(), la.supervise() as supervisor, anyio.create_task_group() as tg:
        mother = await supervisor.spawn(Mother, Troupe())
        before = await mother.me()
        stayed = Later(tg, mother.stay, gate)
        await gate.reached()
        await mother.fail.tell()
        with anyio.fail_after(1):
            error = await stayed.done()
            assert isinstance(error, ActorStopped)
            assert isinstance(error.__cause__, Oops)
            assert await mother.me() != before


async def test_plain_handler_never_runs_on_an_incarnation_that_is_leaving() -> None:
    gate, cleaned_up = Gate(), Gate()
    async with la.open_system(), la.supervise() as supervisor, anyio.create_task_group() as tg:
        mother = await supervisor.spawn(Mother, Troupe())
        before = cell(mother).actor
        lingered = Later(tg, mother.linger, gate, cleaned_up)
        await gate.reached()
        await mother.fail.tell()
        await cleaned_up.reached()
        asked = Later(tg, mother.me)
        await settle()
        assert asked.outcome == "pending"
        cleaned_up.open()
        assert await asked.done() != id(before)
        assert isinstance(await lingered.done(), ActorStopped)


async def test_restart_after_a_suspension_waits_for_what_is_interleaved() -> None:
    gate = Gate()
    async with la.open_system(), anyio.create_task_group() as tg:
        supervisor = await la.spawn(la.Supervisor)
        mother = await supervisor.start_child(la.options(name="m").child(Mother, Troupe()))
        stayed = Later(tg, mother.stay, gate)
        await gate.reached()
        with anyio.fail_after(1):
            await supervisor.restart_child("m")
        assert isinstance(await stayed.done(), ActorStopped)
        assert incarnation(mother) == 2


async def test_stream_under_way_ends_and_its_clean_up_runs_before_the_next_incarnation() -> None:
    troupe = Troupe()
    async with la.open_system(), la.supervise() as supervisor:
        mother = await supervisor.spawn(Mother, troupe)
        stream = mother.count(100)
        assert await anext(stream) == 0
        await mother.fail.tell()
        with pytest.raises(ActorStopped) as raised:
            async for _ in stream:
                pass
        assert isinstance(raised.value.__cause__, Oops)
        assert troupe.log == ["closed"]
        assert [number async for number in mother.count(3)] == [0, 1, 2]


async def test_stream_that_was_queued_is_served_by_the_next_incarnation() -> None:
    gate = Gate()
    async with la.open_system(), la.supervise() as supervisor, anyio.create_task_group() as tg:
        mother = await supervisor.spawn(Mother, Troupe())
        await mother.hold.tell(gate)
        await gate.reached()
        await mother.fail.tell()
        first = Later(tg, anext, mother.count(3))
        await settle()
        gate.open()
        assert await first.done() == 0
        assert incarnation(mother) == 2


# Watching


async def test_watch_fires_at_the_end_for_good_and_not_at_a_restart() -> None:
    async with la.open_system(), la.supervise(max_restarts=3) as supervisor, anyio.create_task_group() as tg:
        player = await supervisor.spawn(Player, "p", Troupe())

        async def wait() -> la.Terminated:
            return await la.watch(player)

        watched = Later(tg, wait)
        for _ in range(3):
            await player.fail.tell()
            await settle()
        assert watched.outcome == "pending"
        await la.stop(player)
        assert await watched.done() == la.Terminated(player, la.Reason.STOPPED)


async def test_watching_ends_with_the_incarnation_that_watched() -> None:
    ends: list[la.Terminated] = []

    @la.actor
    class Watcher:
        @la.handler
        def watch(self, ref: object) -> None:
            la.watch(ref)

        @la.handler
        def fail(self) -> None:
            raise Oops("watcher")

        def on_terminated(self, terminated: la.Terminated) -> None:
            ends.append(terminated)

    async with la.open_system(), la.supervise() as supervisor:
        watcher = await supervisor.spawn(Watcher)
        porter = await la.spawn(Porter)
        await watcher.watch(porter)
        await watcher.fail.tell()
        await settle()
        await la.stop(porter)
        await settle()
        assert ends == []
        assert la.is_running(watcher)


# Behaviours


async def test_behaviour_that_fails_is_called_again_with_its_arguments() -> None:
    troupe = Troupe()
    async with la.open_system(), la.supervise() as supervisor:
        behaviour = await supervisor.spawn(soloist, "s", troupe)
        assert await behaviour.ask(Count()) == 1
        await behaviour.tell(Fail())
        assert await behaviour.ask(Count()) == 1
        assert troupe.log == ["start s", "stop s", "start s"]


async def test_ask_of_a_behaviour_under_way_fails_and_one_queued_is_answered() -> None:
    class Never(la.Message[None]):
        pass

    class Break(la.Message[None]):
        pass

    class Hello(la.Message[str]):
        pass

    @la.actor
    async def moody(mailbox: la.Mailbox[Never | Break | Hello]) -> None:
        async for message in mailbox:
            match message:
                case Never():
                    pass
                case Break():
                    raise Oops("moody")
                case Hello():
                    mailbox.reply(message, "hello")

    async with la.open_system(), la.supervise() as supervisor, anyio.create_task_group() as tg:
        behaviour = await supervisor.spawn(moody)
        never = Later(tg, behaviour.ask, Never())
        await settle()
        behaviour.tell_nowait(Break())
        hello = Later(tg, behaviour.ask, Hello())
        error = await never.done()
        assert isinstance(error, ActorStopped)
        assert isinstance(error.__cause__, Oops)
        assert await hello.done() == "hello"


# Children of what is restarted


async def test_children_of_a_child_stop_with_its_incarnation() -> None:
    troupe = Troupe()
    async with la.open_system(), la.supervise() as supervisor:
        mother = await supervisor.spawn(Mother, troupe)
        child = await mother.bear("child")
        await mother.fail.tell()
        await settle()
        assert not la.is_running(child)
        assert troupe.log == ["start child", "stop child"]
        again = await mother.bear("child")
        assert again != child
        assert await again.note(1) == [1]


async def test_failure_of_a_grandchild_restarts_the_child_that_owns_it() -> None:
    async with la.open_system(), la.supervise() as supervisor:
        mother = await supervisor.spawn(Mother, Troupe())
        grandchild = await mother.bear()
        await grandchild.fail.tell()
        await settle()
        assert incarnation(mother) == 2
        assert not la.is_running(grandchild)


async def test_owner_that_is_no_supervisor_starts_again_only_whom_it_said() -> None:
    troupe = Troupe()
    async with la.open_system(), la.supervise() as supervisor:
        mother = await supervisor.spawn(Mother, troupe)
        kept = await mother.bear("kept", "permanent")
        await kept.fail.tell()
        await settle()
        assert (incarnation(mother), incarnation(kept)) == (1, 2)
        other = await mother.bear("other")
        await other.fail.tell()
        await settle()
        assert incarnation(mother) == 2
        assert not la.is_running(kept)


async def test_owner_that_was_restarted_starts_its_new_children_again() -> None:
    async with la.open_system(), la.supervise() as supervisor:
        mother = await supervisor.spawn(Mother, Troupe())
        await mother.bear("first", "permanent")
        await mother.fail.tell()
        await settle()
        child = await mother.bear("second", "permanent")
        await child.fail.tell()
        await settle()
        assert (incarnation(mother), incarnation(child)) == (2, 2)


async def test_system_starts_again_whom_it_was_told_to() -> None:
    async with la.open_system() as system:
        player = await system.options(restart="transient").spawn(Player, "p", Troupe())
        await player.fail.tell()
        assert await player.note(1) == [1]
        assert la.statistics(player).restarts == 1


async def test_system_is_failed_by_a_child_over_the_budget() -> None:
    with exhausted(r"max_restarts=1 in period=5.0 s") as raised:
        async with la.open_system() as system:
            player = await system.options(restart="transient").spawn(Player, "p", Troupe())
            await player.fail.tell()
            await settle()
            await player.fail.tell()
            await anyio.sleep_forever()
    assert isinstance(raised[0].__cause__, Oops)


@la.actor
class SlowStarter:
    """Takes three seconds to start again, after a quick first start."""

    started = 0

    async def on_start(self) -> None:
        SlowStarter.started += 1
        if SlowStarter.started > 2:
            await anyio.sleep(3)

    @la.handler
    def fail(self) -> None:
        raise Oops

    @la.handler
    def ping(self) -> None: ...


async def test_slow_start_of_one_child_holds_no_other_up() -> None:
    SlowStarter.started = 0
    async with la.open_system(), la.supervise(max_restarts=2) as supervisor, anyio.create_task_group() as tg:
        children = [await supervisor.spawn(SlowStarter) for _ in range(2)]
        for child in children:
            await child.fail.tell()
        begin = anyio.current_time()
        for child in children:
            tg.start_soon(child.ping)
    assert anyio.current_time() - begin < 4


class Unspeakable(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@la.actor
class Mute:
    @la.handler
    def fail(self) -> None:
        raise Unspeakable

    @la.handler
    def ping(self) -> str:
        return "pong"


async def test_error_that_can_not_be_shown_is_an_error_like_any_other() -> None:
    with exhausted("<Unspeakable>"):
        async with la.open_system(), la.supervise() as supervisor:
            mute = await supervisor.spawn(Mute)
            await mute.fail.tell()
            assert await mute.ping() == "pong"
            await mute.fail.tell()
            await anyio.sleep(10)


async def test_temporary_sibling_is_gone_before_the_others_start_again() -> None:
    SlowStarter.started = 2
    async with la.open_system(), la.supervise("one_for_all") as supervisor:
        mute = await supervisor.options(name="mute", restart="temporary").spawn(Mute)
        slow = await supervisor.spawn(SlowStarter)
        await slow.fail.tell()
        await la.watch(mute)
        assert la.statistics(slow).state == "starting"
        assert await (await supervisor.options(name="mute").spawn(Mute)).ping() == "pong"
