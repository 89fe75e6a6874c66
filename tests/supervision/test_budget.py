"""How often, how soon and how far up: the restart budget, back-off, escalation, significant children."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import lightactors as la
from tests.actors.cast import Oops, settle
from tests.supervision.troupe import (
    Player,
    Troupe,
    at,
    exhausted,
    incarnation,
)

# The budget and the back-off


async def failures_at(seconds: list[float], **policy: Any) -> None:
    async with la.open_system(), la.supervise(**policy) as supervisor:
        player = await supervisor.spawn(Player, "p", Troupe())
        for second in seconds:
            await at(second)
            await player.fail.tell()
        await anyio.sleep(1)


async def test_as_many_restarts_as_the_budget_has_are_fine() -> None:
    await failures_at([0, 1, 2], max_restarts=3, period=5)


async def test_one_restart_more_than_the_budget_has_ends_the_block() -> None:
    with exhausted(r"max_restarts=3 in period=5 s"):
        await failures_at([0, 1, 2, 3], max_restarts=3, period=5)


async def test_restart_exactly_a_period_old_counts() -> None:
    with exhausted():
        await failures_at([1, 6], period=5)


async def test_restart_older_than_the_period_does_not_count() -> None:
    await failures_at([1, 6.001, 11.002], period=5)


async def test_default_budget_is_one_restart_in_five_seconds() -> None:
    await failures_at([0, 5.5])
    with exhausted():
        await failures_at([anyio.current_time(), anyio.current_time() + 4.5])


async def test_no_restarts_at_all_may_be_allowed() -> None:
    with exhausted() as raised:
        await failures_at([0], max_restarts=0)
    assert [type(failure) for failure in raised[0].failures] == [Oops]


async def test_restarts_after_normal_ends_count_too() -> None:
    with exhausted("it ended without an error") as raised:
        async with la.open_system(), la.supervise(max_restarts=1) as supervisor:
            player = await supervisor.spawn(Player, "p", Troupe())
            await player.quit()
            await player.quit()
            await anyio.sleep(1)
    assert raised[0].failures == ()


async def test_budget_is_shared_by_the_children() -> None:
    with exhausted():
        async with la.open_system(), la.supervise() as supervisor:
            for name in "ab":
                player = await supervisor.spawn(Player, name, Troupe())
                await player.fail.tell()
            await anyio.sleep(1)


async def test_back_off_doubles_with_each_restart_up_to_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    troupe = Troupe()
    troupe.failing_starts["p"] = 0
    starts: list[float] = []

    @la.actor
    class Restless:
        def on_start(self) -> None:
            starts.append(anyio.current_time())

        @la.handler
        def fail(self) -> None:
            raise Oops("restless")

    async with la.open_system(), la.supervise(max_restarts=4, period=100, backoff=1, max_backoff=4) as supervisor:
        restless = await supervisor.spawn(Restless)
        for _ in range(4):
            await restless.fail.tell()
        await anyio.sleep(20)
    assert starts == pytest.approx([0, 1, 3, 7, 11])


# Escalation


async def test_supervisor_over_its_budget_is_started_again_by_its_own() -> None:
    troupe = Troupe()
    inner = la.options(name="inner").child(
        la.Supervisor, children=[la.options(name=name).child(Player, name, troupe) for name in "ab"]
    )
    async with la.open_system():
        outer = await la.spawn(la.Supervisor, children=[inner])
        below = (await outer.children())["inner"]
        for _ in range(2):
            await (await below.children())["a"].fail.tell()
            await settle()
        assert incarnation(below) == 2
        assert troupe.log == [
            *("start a", "start b"),
            *("stop a", "start a"),
            *("stop a", "stop b", "start a", "start b"),
        ]
        assert await (await below.children())["b"].note(1) == [1]


async def test_failure_climbs_until_a_budget_holds_it() -> None:
    troupe = Troupe()
    leaf = la.options(name="leaf").child(Player, "leaf", troupe)
    for name in ("low", "middle"):
        leaf = la.options(name=name).child(la.Supervisor, children=[leaf], max_restarts=0)
    async with la.open_system():
        top = await la.spawn(la.Supervisor, children=[leaf], max_restarts=1)
        middle = (await top.children())["middle"]
        low = (await middle.children())["low"]
        await (await low.children())["leaf"].fail.tell()
        await settle()
        assert incarnation(middle) == 2
        assert incarnation(top) == 1
        assert troupe.log == ["start leaf", "stop leaf", "start leaf"]


async def test_exhausted_budget_of_the_block_cancels_it_and_names_every_failure() -> None:
    reached_the_end = False
    with exhausted() as raised:
        async with la.open_system(), la.supervise() as supervisor:
            player = await supervisor.spawn(Player, "p", Troupe())
            await player.fail.tell()
            await player.fail.tell()
            await anyio.sleep_forever()
            reached_the_end = True
    assert not reached_the_end
    assert [type(failure) for failure in raised[0].failures] == [Oops, Oops]


# Significant children


@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_any_significant_child_that_ends_ends_the_supervisor(restart: Any) -> None:
    troupe = Troupe()
    async with la.open_system():
        supervisor = await la.spawn(
            la.Supervisor,
            children=[
                la.options(name="s", significant=True, restart=restart).child(Player, "s", troupe),
                la.options(name="t", significant=True, restart=restart).child(Player, "t", troupe),
                la.options(name="other").child(Player, "other", troupe),
            ],
            auto_shutdown="any_significant",
        )
        await (await supervisor.children())["s"].quit()
        assert (await la.watch(supervisor)).reason is la.Reason.STOPPED
        assert troupe.log[3:] == ["stop s", "stop other", "stop t"]


async def test_last_significant_child_that_ends_ends_the_supervisor() -> None:
    async with la.open_system():
        supervisor = await la.spawn(
            la.Supervisor,
            children=[la.options(name=name, significant=True).child(Player, name, Troupe()) for name in "st"],
            restart="transient",
            auto_shutdown="all_significant",
        )
        children = await supervisor.children()
        await children["s"].quit()
        await settle()
        assert la.is_running(supervisor)
        await children["t"].quit()
        await settle()
        assert not la.is_running(supervisor)


async def test_significant_child_that_is_started_again_ends_nobody() -> None:
    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor, auto_shutdown="any_significant")
        spec = la.options(significant=True, restart="transient").child(Player, "s", Troupe())
        player = await supervisor.start_child(spec)
        await player.fail.tell()
        await settle()
        assert la.is_running(supervisor)
        assert incarnation(player) == 2


async def test_significant_child_that_others_stop_ends_nobody() -> None:
    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor, auto_shutdown="any_significant")
        spec = la.options(name="s", significant=True, restart="transient").child(Player, "s", Troupe())
        await supervisor.start_child(spec)
        await supervisor.stop_child("s")
        await settle()
        assert la.is_running(supervisor)


async def test_permanent_supervisor_that_shut_itself_down_is_started_again() -> None:
    spec = la.options(name="s", significant=True, restart="transient").child(Player, "s", Troupe())
    inner = la.options(name="inner").child(la.Supervisor, children=[spec], auto_shutdown="any_significant")
    async with la.open_system():
        outer = await la.spawn(la.Supervisor, children=[inner])
        below = (await outer.children())["inner"]
        await (await below.children())["s"].quit()
        await settle()
        assert incarnation(below) == 2
        assert await (await below.children())["s"].note(1) == [1]
