"""Refs travel: what comes is a ref of the actor, what comes home is the original, and a third party's is relayed."""

from __future__ import annotations

import io
import pickle
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import ActorNotRunning, LinkLost, WrongCall
from tests.actors.cast import Later, settle
from tests.remote.pair import Pair, open_pair


@dataclass
class Hello(la.Message[str]):
    name: str


@dataclass
class Bye:
    name: str


class Oops(Exception):
    """What actors here fail with."""


@la.actor
async def greeter(mailbox: la.Mailbox[Hello | Bye], log: list[str]) -> None:
    async for message in mailbox:
        match message:
            case Hello(name):
                mailbox.reply(message, f"hello {name}")
            case Bye(name):
                log.append(name)
            case _:
                log.append("?")


@la.actor
class Counter:
    def __init__(self) -> None:
        self.value = 0

    @la.handler
    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    @la.handler
    async def count(self, end: int) -> AsyncIterator[int]:
        for number in range(end):
            yield number

    @la.handler
    def fail(self) -> None:
        raise Oops("no")


@la.actor
class User:
    """Uses the actors that it is given."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    @la.handler
    async def use(self, counter: Counter, amount: int) -> int:
        return await counter.add(amount)

    @la.handler
    async def use_all(self, counters: list[Counter], spare: Counter | None = None) -> int:
        return sum([await counter.add(1) for counter in counters])

    @la.handler
    async def use_stream(self, counter: Counter, end: int) -> list[int]:
        return [item async for item in counter.count(end)]

    @la.handler
    def give_back(self, counter: Counter) -> Counter:
        return counter

    @la.handler
    async def greet(self, greeter: la.Ref[Bye | Hello], name: str) -> str:
        await greeter.tell(Bye(name))
        return await greeter.ask(Hello(name))

    @la.handler(interleaved=True)
    async def stop(self, counter: Counter) -> str:
        return (await la.stop(counter)).name

    @la.handler(interleaved=True)
    async def wait_for_end(self, counter: Counter) -> str:
        return (await la.watch(counter)).reason.name

    @la.handler
    def keep_untyped(self, value: Any) -> str:
        return repr(value)

    @la.handler
    async def fail_through(self, counter: Counter) -> None:
        await counter.fail()


@la.actor
class Doomed:
    @la.handler
    def die(self) -> None:
        raise ValueError("dead")


@la.actor
class Keeper:
    """Goes on when what it has spawned has died."""

    @la.handler
    async def hire(self) -> Doomed:
        doomed = await la.spawn(Doomed)
        la.watch(doomed)
        return doomed

    def on_terminated(self, terminated: la.Terminated) -> None:
        """It has been expected."""


async def _user(pair: Pair) -> Any:
    return await pair.reach(User, await la.spawn(User))


async def test_ref_in_a_message_reaches_its_actor() -> None:
    async with open_pair() as pair:
        user, counter = await _user(pair), await la.spawn(Counter)
        assert await user.use(counter, 2) == 2
        assert await user.use_all([counter, counter], counter) == 7
        assert await counter.add(0) == 4


async def test_ref_that_comes_home_is_the_original() -> None:
    async with open_pair() as pair:
        user, counter = await _user(pair), await la.spawn(Counter)
        assert await user.give_back(counter) is counter


async def test_stream_of_a_ref_in_a_message() -> None:
    async with open_pair() as pair:
        user, counter = await _user(pair), await la.spawn(Counter)
        assert await user.use_stream(counter, 40) == list(range(40))


async def test_third_party_is_relayed_through_the_middle() -> None:
    async with open_pair() as one, open_pair() as other:
        counter = await la.spawn(Counter)
        far = await one.reach(Counter, counter)
        user = await _user(other)
        # `far` lives at one's end; whoever holds both links passes on what comes.
        assert await user.use(far, 3) == 3
        assert await user.use_stream(far, 40) == list(range(40))
        with pytest.raises(Oops, match="no"):
            await user.fail_through(far)
        assert await counter.add(0) == 3


async def test_behaviour_is_reached_by_its_messages() -> None:
    async with open_pair() as pair:
        log: list[str] = []
        user, ref = await _user(pair), await la.spawn(greeter, log)
        assert await user.greet(ref, "you") == "hello you"
        assert log == ["you"]


async def test_behaviour_at_the_other_end() -> None:
    async with open_pair() as pair:
        log: list[str] = []
        far = await pair.reach(greeter, await la.spawn(greeter, log))
        await far.tell(Bye("1"))
        far.tell_nowait(Bye("2"))
        assert await far.ask(Hello("you")) == "hello you"
        assert log == ["1", "2"]


async def test_foreign_actor_is_stopped_and_watched() -> None:
    async with open_pair() as pair, anyio.create_task_group() as tg:
        user, counter = await _user(pair), await la.spawn(Counter)
        watched = Later(tg, user.wait_for_end, counter)
        await settle()
        assert await user.stop(counter) == "DRAIN"
        assert await watched.done() == "STOPPED"
        assert not la.is_running(counter)


async def test_watcher_hears_what_a_foreign_actor_died_of() -> None:
    async with open_pair() as pair:
        near = await la.spawn(Keeper)
        keeper = await pair.reach(Keeper, near)
        doomed = await keeper.hire()
        with pytest.raises(ValueError, match="dead"):
            await doomed.die()
        await doomed.die.tell()
        terminated = await la.watch(doomed)
        assert terminated.reason is la.Reason.FAILED
        assert isinstance(terminated.error, ValueError)
        assert not la.is_running(doomed)
        with pytest.raises(ActorNotRunning):
            await doomed.die()


async def test_actor_that_has_ended_before_it_is_used() -> None:
    async with open_pair() as pair:
        user, counter = await _user(pair), await la.spawn(Counter)
        await la.stop(counter)
        with pytest.raises(ActorNotRunning):
            await user.use(counter, 1)
        assert await user.wait_for_end(counter) == "STOPPED"


async def test_untyped_parameter_gets_no_usable_ref() -> None:
    async with open_pair() as pair:
        user, counter = await _user(pair), await la.spawn(Counter)
        assert "not annotated" in await user.keep_untyped(counter)


async def test_ref_of_the_wrong_kind_is_refused() -> None:
    async with open_pair() as pair:
        user = await _user(pair)
        with pytest.raises(WrongCall, match="is no Counter"):
            await user.use(await la.spawn(greeter, []), 1)


async def test_refs_travel_in_a_pickle() -> None:
    async with open_pair() as pair:
        counter, ref = await la.spawn(Counter), await la.spawn(greeter, [])

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj: Any) -> Any:
                return pair.here.persistent_id(obj)

        class Unpickler(pickle.Unpickler):
            def persistent_load(self, pid: Any) -> Any:
                return pair.there.persistent_load(pair.far_link, pid)

        data = io.BytesIO()
        Pickler(data).dump({"counter": counter, "greeter": ref, "n": 1})
        data.seek(0)
        arguments = Unpickler(data).load()
        assert await arguments["counter"].add(5) == 5
        assert await arguments["greeter"].ask(Hello("you")) == "hello you"
        assert arguments["counter"] != counter
        pair.link.lose("cut")
        pair.far_link.lose("cut")
        with pytest.raises(ActorNotRunning):
            await arguments["counter"].add(1)
        terminated = await la.watch(arguments["counter"])
        assert isinstance(terminated.error, LinkLost)
