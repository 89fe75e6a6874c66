"""OTP's table: for each strategy, kind of child and way to end, who is stopped, who is started again, and when.

Three children `a`, `b` and `c` are started in this order; `b` is the one that ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

import lightactors as la
from lightactors.errors import ActorNotRunning, RestartsExhausted, SpawnError
from tests.actors.cast import settle
from tests.supervision.troupe import End, Player, Troupe, exhausted, incarnation, kill, soloist

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "dynamic"]
Restart = Literal["permanent", "transient", "temporary"]

STRATEGIES: tuple[Strategy, ...] = ("one_for_one", "one_for_all", "rest_for_one", "dynamic")
RESTARTS: tuple[Restart, ...] = ("permanent", "transient", "temporary")


async def fails(ref: Any, _: Troupe) -> None:
    await ref.fail.tell()


async def stops_itself(ref: Any, _: Troupe) -> None:
    await ref.quit()


async def is_shut_down(ref: Any, _: Troupe) -> None:
    await la.stop(ref)


async def is_killed(ref: Any, _: Troupe) -> None:
    kill(ref)


async def returns(ref: Any, _: Troupe) -> None:
    await ref.tell(End())


async def dies_during_restart(ref: Any, troupe: Troupe) -> None:
    troupe.failing_starts["b"] = 2
    await ref.fail.tell()


RESTARTED_AFTER: dict[Callable[[Any, Troupe], Awaitable[None]], set[Restart]] = {
    returns: {"permanent"},
    stops_itself: {"permanent"},
    is_shut_down: set(),
    fails: {"permanent", "transient"},
    is_killed: {"permanent", "transient"},
    dies_during_restart: {"permanent", "transient"},
}

# What the supervisor does about `b`: once b has stopped, whom it stops, and whom it starts.
CONCERNED: dict[Strategy, tuple[list[str], list[str]]] = {
    "one_for_one": ([], ["b"]),
    "dynamic": ([], ["b"]),
    "one_for_all": (["c", "a"], ["a", "b", "c"]),
    "rest_for_one": (["c"], ["b", "c"]),
}

# The same while b's start fails: c was not reached, and whoever was is stopped again.
AGAIN: dict[Strategy, list[str]] = {
    "one_for_one": ["start b", "stop b"],
    "dynamic": ["start b", "stop b"],
    "one_for_all": ["start a", "start b", "stop b", "stop a"],
    "rest_for_one": ["start b", "stop b"],
}


def expected_log(strategy: Strategy, end: object) -> list[str]:
    stopped, started = CONCERNED[strategy]
    again = AGAIN[strategy] * 2 if end is dies_during_restart else []
    return ["stop b", *(f"stop {name}" for name in stopped), *again, *(f"start {name}" for name in started)]


@asynccontextmanager
async def supervised(
    strategy: Strategy, restart: Restart, troupe: Troupe, kind: Any = Player
) -> AsyncGenerator[tuple[la.Supervisor, dict[str, Any]]]:
    """Have `a`, `b` and `c` running; with the strategy "dynamic", b and c came after the start."""
    specs = [
        la.options(name="a").child(Player, "a", troupe),
        la.options(name="b", restart=restart).child(kind, "b", troupe),
        la.options(name="c").child(Player, "c", troupe),
    ]
    async with la.open_system():
        if strategy == "dynamic":
            supervisor = await la.spawn(la.Supervisor, children=specs[:1], max_restarts=3)
            for spec in specs[1:]:
                await supervisor.start_child(spec)
        else:
            supervisor = await la.spawn(la.Supervisor, strategy, specs, max_restarts=3)
        yield supervisor, await supervisor.children()


@pytest.mark.parametrize("end", RESTARTED_AFTER, ids=lambda end: end.__name__)
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_child_that(end: Callable[[Any, Troupe], Awaitable[None]], restart: Restart, strategy: Strategy) -> None:
    troupe = Troupe()
    async with supervised(strategy, restart, troupe, soloist if end is returns else Player) as (supervisor, refs):
        assert list(refs) == ["a", "b", "c"]
        troupe.clear()
        await end(refs["b"], troupe)
        await settle()
        is_restarted = restart in RESTARTED_AFTER[end]

        expected = expected_log(strategy, end) if is_restarted else ["stop b"]
        if end is returns:  # a behaviour is ready at once: its first steps may come after those of the next child
            assert sorted(troupe.log) == sorted(expected)
        else:
            assert troupe.log == expected
        assert list(await supervisor.children()) == (["a", "b", "c"] if is_restarted else ["a", "c"])
        restarted = CONCERNED[strategy][1] if is_restarted else []
        tries = 3 if end is dies_during_restart else 1
        for name, ref in refs.items():
            begun = {"b": tries, "a": tries, "c": 1}[name] if name in restarted else 0
            assert incarnation(ref) == 1 + begun
            assert la.is_running(ref) is (is_restarted or name != "b")
        assert await refs["a"].note("still there") == ["still there"]
        assert await supervisor.children() == {name: ref for name, ref in refs.items() if la.is_running(ref)}


@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_ref_of_a_child_that_failed(strategy: Strategy, restart: Restart) -> None:
    async with supervised(strategy, restart, Troupe()) as (_, refs):
        assert await refs["b"].note("first life") == ["first life"]
        await refs["b"].fail.tell()
        await settle()
        if restart == "temporary":
            with pytest.raises(ActorNotRunning):
                await refs["b"].note("second life")
            assert (await la.watch(refs["b"])).reason is la.Reason.FAILED
        else:
            assert await refs["b"].note("second life") == ["second life"]


@la.actor
class StillBorn:
    """Raises where other actors are made."""

    def __init__(self, name: str, troupe: Troupe) -> None:
        troupe.failing_starts[name] = 1
        troupe.starts(name)


@pytest.mark.parametrize("fails_in", ["__init__", "on_start"])
@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_child_whose_first_start_fails_is_nobodys_child(
    strategy: Strategy, restart: Restart, fails_in: str
) -> None:
    troupe = Troupe()
    troupe.failing_starts["b"] = 1
    kind: Any = StillBorn if fails_in == "__init__" else Player
    its_end = [] if fails_in == "__init__" else ["stop b"]
    async with la.open_system() as system:
        spec = la.options(name="b", restart=restart).child(kind, "b", troupe)
        others = [la.options(name=name).child(Player, name, troupe) for name in "ac"]
        if strategy == "dynamic":
            supervisor = await la.spawn(la.Supervisor, children=others)
            troupe.clear()
            with pytest.raises(SpawnError):
                await supervisor.start_child(spec)
            await settle()
            assert troupe.log == ["start b", *its_end]
            assert list(await supervisor.children()) == ["a", "c"]
        else:
            with pytest.raises(SpawnError):
                await la.spawn(la.Supervisor, strategy, [others[0], spec, others[1]])
            assert troupe.log == ["start a", "start b", *its_end, "stop a"]
            assert not system.children


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_supervisor_stops_its_children_in_reverse(strategy: Strategy) -> None:
    troupe = Troupe()
    async with supervised(strategy, "permanent", troupe) as (supervisor, _):
        assert troupe.log == ["start a", "start b", "start c"]
        troupe.clear()
        await la.stop(supervisor)
        assert troupe.log == ["stop c", "stop b", "stop a"]


@pytest.mark.parametrize("restart", ["permanent", "transient"])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_child_that_dies_at_every_restart_ends_the_supervisor(strategy: Strategy, restart: Restart) -> None:
    troupe = Troupe()
    with exhausted() as raised:
        async with supervised(strategy, restart, troupe) as (supervisor, refs):
            troupe.failing_starts["b"] = 9
            await refs["b"].fail.tell()
            terminated = await la.watch(supervisor)
            assert isinstance(terminated.error, RestartsExhausted)
            assert not any(map(la.is_running, refs.values()))
    assert [str(error) for error in raised[0].failures] == ["b", *["b did not start"] * 3]
    assert sum(line == "start b" for line in troupe.log) == 1 + 3
    assert troupe.log[-1] == "stop a"
