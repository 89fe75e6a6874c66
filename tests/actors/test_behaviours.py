"""A behaviour is one async function that reads its own typed mailbox."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import ActorNotRunning, ActorStopped, ContractError, MailboxFull, WrongCall, WrongMessage
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, Porter, settle


class Hello(la.Message[str]):
    def __init__(self, name: str) -> None:
        self.name = name


class Bye(la.Message[None]):
    pass


class Note:
    """Told only."""

    def __init__(self, text: str) -> None:
        self.text = text


@la.actor
async def greeter(
    mailbox: la.Mailbox[Hello | Bye | Note], log: list[Any] | None = None, *, word: str = "hello"
) -> None:
    async for message in mailbox:
        match message:
            case Hello(name=name):
                mailbox.reply(message, f"{word} {name}")
            case Note(text=text) if log is not None:
                log.append(text)
            case Bye():
                return
            case _:
                pass


async def test_ask_brings_the_reply() -> None:
    async with la.open_system() as system:
        ref = await system.spawn(greeter)
        assert await ref.ask(Hello("you")) == "hello you"


async def test_arguments_come_after_the_mailbox() -> None:
    log: list[Any] = []
    async with la.open_system() as system:
        ref = await system.spawn(greeter, log, word="hi")
        await ref.tell(Note("1"))
        ref.tell_nowait(Note("2"))
        assert await ref.ask(Hello("you")) == "hi you"
        assert log == ["1", "2"]


async def test_wrong_arguments_are_refused_at_the_spawner() -> None:
    async with la.open_system() as system:
        with pytest.raises(WrongCall, match=r"greeter: .* its signature is greeter\(mailbox: la.Mailbox"):
            await system.spawn(greeter, wort="hi")  # type: ignore[call-overload]
        assert system.children == {}


@pytest.mark.parametrize("send", ["ask", "tell", "tell_nowait"])
async def test_message_of_another_type_is_refused_at_the_sender(send: str) -> None:
    class Other(la.Message[int]):
        pass

    async with la.open_system() as system:
        ref: Any = await system.spawn(greeter)

        async def act() -> None:
            sent = getattr(ref, send)(other)
            if sent is not None:
                await sent

        other = Other()
        with pytest.raises(WrongMessage, match=r"greeter takes Hello \| Bye \| Note, got ") as caught:
            await act()
        assert caught.value.message is other


async def test_only_messages_with_a_reply_type_can_be_asked() -> None:
    async with la.open_system() as system:
        ref: Any = await system.spawn(greeter)
        with pytest.raises(WrongMessage, match=r"derive its class from lightactors.Message"):
            await ref.ask(Note("1"))


async def test_mailbox_without_a_checkable_type_takes_anything() -> None:
    seen: list[Any] = []

    @la.actor
    async def anything(mailbox: la.Mailbox[Any]) -> None:
        async for message in mailbox:
            seen.append(message)  # noqa: PERF401 (the list belongs to the test)

    async with la.open_system() as system:
        ref = await system.spawn(anything)
        await ref.tell(1)
        await ref.tell("one")
    assert seen == [1, "one"]


async def test_mailbox_whose_type_only_a_checker_sees_takes_anything() -> None:
    class Hidden:
        pass

    @la.actor
    async def anything(mailbox: la.Mailbox[Hidden]) -> None:
        async for _ in mailbox:
            pass

    async with la.open_system() as system:
        ref = await system.spawn(anything)
        await ref.tell(Hidden())


async def test_reply_may_come_later_and_in_another_order() -> None:
    @la.actor
    async def collector(mailbox: la.Mailbox[Hello]) -> None:
        first = await mailbox.receive()
        second = await mailbox.receive()
        mailbox.reply(second, "second")
        mailbox.reply(first, "first")

    async with la.open_system() as system, anyio.create_task_group() as tg:
        ref = await system.spawn(collector)
        one = Later(tg, ref.ask, Hello("1"))
        await settle()
        two = Later(tg, ref.ask, Hello("2"))
        assert (await one.done(), await two.done()) == ("first", "second")


async def test_each_ask_that_brought_the_same_message_gets_a_reply() -> None:
    @la.actor
    async def collector(mailbox: la.Mailbox[Hello]) -> None:
        both = [await mailbox.receive(), await mailbox.receive()]
        for message in both:
            mailbox.reply(message, "hello")
        mailbox.reply(both[0], "one too many")

    hello = Hello("you")
    async with la.open_system() as system, anyio.create_task_group() as tg:
        ref = await system.spawn(collector)
        asks = [Later(tg, ref.ask, hello) for _ in range(2)]
        assert [await ask.done() for ask in asks] == ["hello", "hello"]


async def test_reply_to_a_told_message_does_nothing() -> None:
    async with la.open_system() as system:
        ref = await system.spawn(greeter)
        await ref.tell(Hello("nobody"))
        assert await ref.ask(Hello("you")) == "hello you"


async def test_ask_that_is_never_answered_fails_when_the_behaviour_ends() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        ref = await system.options(name="g").spawn(greeter)
        bye = Later(tg, ref.ask, Bye())
        await settle()
        late = await bye.done()

        assert isinstance(late, ActorStopped)
        assert "greeter local/g ended without a reply" in str(late)


async def test_message_that_was_still_queued_when_the_behaviour_ended_did_not_run() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        ref = await system.options(name="g").spawn(greeter)
        hello, note = Hello("you"), Note("1")
        ref.tell_nowait(Bye())
        ref.tell_nowait(note)
        asked = Later(tg, ref.ask, hello)
        refused = await asked.done()

        assert isinstance(refused, ActorNotRunning)
        assert refused.message is hello
        assert system.dead_letters == [la.DeadLetter("local/g", note)]
        with pytest.raises(ActorNotRunning) as caught:
            await ref.tell(note)
        assert caught.value.message is note


async def test_behaviour_that_returns_has_finished() -> None:
    async with la.open_system() as system:
        ref = await system.spawn(greeter)
        await ref.tell(Bye())
        assert (await la.watch(ref)).reason is la.Reason.FINISHED


async def test_behaviour_that_is_stopped_finishes_its_queue() -> None:
    log: list[Any] = []
    async with la.open_system() as system:
        ref = await system.spawn(greeter, log)
        for number in range(3):
            await ref.tell(Note(str(number)))
        assert await la.stop(ref) is la.Rung.DRAIN

        assert log == ["0", "1", "2"]
        assert (await la.watch(ref)).reason is la.Reason.STOPPED


async def test_behaviour_is_interrupted_wherever_it_waits() -> None:
    log: list[Any] = []

    @la.actor
    async def sleeper(mailbox: la.Mailbox[Note]) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("interrupted")

    async with la.open_system(grace=1) as system:
        ref = await system.spawn(sleeper)
        await settle()
        assert await la.stop(ref) is la.Rung.INTERRUPT
        assert log == ["interrupted"]


async def test_failed_behaviour_is_its_owners_matter() -> None:
    @la.actor
    async def failing(mailbox: la.Mailbox[Note]) -> None:
        async for _ in mailbox:
            raise Oops

    async def scenario() -> None:
        async with la.open_system() as system:
            ref = await system.spawn(failing)
            await ref.tell(Note("1"))
            await anyio.sleep_forever()

    with pytest.raises(Oops):
        await scenario()


async def test_end_of_a_watched_actor_comes_through_the_mailbox_before_messages() -> None:
    log: list[Any] = []
    gate = Gate()

    @la.actor
    async def watcher(mailbox: la.Mailbox[Note | la.Terminated], porter: Porter) -> None:
        la.watch(porter)
        await gate.wait()
        async for message in mailbox:
            log.append(message.text if isinstance(message, Note) else message)  # noqa: PERF401 (it is the test's)

    async with la.open_system() as system:
        porter = await system.spawn(Porter)
        ref = await system.spawn(watcher, porter)
        await gate.reached()
        await ref.tell(Note("message"))
        await la.stop(porter)
        gate.open()

    assert log == [la.Terminated(porter, la.Reason.STOPPED), "message"]


async def test_child_of_a_behaviour_stops_with_it() -> None:
    @la.actor
    async def owner(mailbox: la.Mailbox[Note]) -> None:
        await la.options(name="child").spawn(Porter)
        async for _ in mailbox:
            pass

    async with la.open_system() as system:
        ref = await system.options(name="owner").spawn(owner)
        await settle()
        child = system.children["owner"].children["child"].ref
        await la.stop(ref)
        assert not la.is_running(child)


async def test_cancelled_ask_that_is_still_queued_is_skipped() -> None:
    log: list[Any] = []
    gate = Gate()

    @la.actor
    async def slow(mailbox: la.Mailbox[Hello | Note]) -> None:
        await gate.wait()
        async for message in mailbox:
            log.append(message)  # noqa: PERF401 (the list belongs to the test)

    async with la.open_system() as system, anyio.create_task_group() as tg:
        ref = await system.spawn(slow)
        asked = Later(tg, ref.ask, Hello("you"))
        await settle()
        await asked.cancel()
        note = Note("1")
        await ref.tell(note)
        gate.open()
        await settle()
        assert log == [note]


async def test_cancelled_ask_does_not_cancel_the_behaviour() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        gate = Gate()

        @la.actor
        async def thinker(mailbox: la.Mailbox[Hello]) -> None:
            async for message in mailbox:
                await gate.wait()
                mailbox.reply(message, "thought")

        ref = await system.spawn(thinker)
        asked = Later(tg, ref.ask, Hello("1"))
        await gate.reached()
        await asked.cancel()
        again = Later(tg, ref.ask, Hello("2"))
        gate.open()
        assert await again.done() == "thought"


async def test_behaviours_mailbox_is_bounded_too() -> None:
    gate = Gate()

    @la.actor
    async def slow(mailbox: la.Mailbox[Note]) -> None:
        await gate.wait()
        async for _ in mailbox:
            pass

    async with la.open_system() as system, anyio.create_task_group() as tg:
        ref = await system.options(mailbox=1).spawn(slow)
        await gate.reached()
        await ref.tell(Note("1"))
        with pytest.raises(MailboxFull):
            ref.tell_nowait(Note("2"))
        waiting = Later(tg, ref.tell, Note("2"))
        await settle()
        assert waiting.outcome == "pending"
        gate.open()
        assert await waiting.done() is None


async def test_behaviour_by_name_is_found_again() -> None:
    async with la.open_system() as system:
        first = await system.options(name="g").spawn(greeter)
        assert await system.options(name="g").spawn(greeter) == first
        assert repr(first) == "<ref greeter local/g#1 running>"


@pytest.mark.parametrize(
    "function",
    [lambda mailbox: None, len, 3],
)
async def test_what_is_no_async_function_of_a_mailbox_is_no_behaviour(function: Any) -> None:
    with pytest.raises(ContractError):
        la.actor(function)


async def test_behaviour_may_let_the_end_of_its_mailbox_through() -> None:
    @la.actor
    async def endless(mailbox: la.Mailbox[object]) -> None:
        while True:
            await mailbox.receive()

    async with la.open_system():
        ref = await la.spawn(endless)
        watch = la.watch(ref)
        assert await la.stop(ref) is la.Rung.DRAIN
        assert (await watch).reason is la.Reason.STOPPED
