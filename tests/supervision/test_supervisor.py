"""A supervisor as an actor: what it does when asked, and what it refuses."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import (
    ConfigurationError,
    NotAChild,
    SpawnError,
)
from lightactors.testing import Gate
from tests.actors.cast import Later, Porter, Stopper, settle
from tests.supervision.troupe import (
    Player,
    Troupe,
    cell,
    incarnation,
)

# A supervisor as an actor


async def test_supervisor_starts_stops_and_restarts_children_when_asked() -> None:
    troupe = Troupe()
    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor)
        player = await supervisor.start_child(la.options(name="p").child(Player, "p", troupe))
        assert await player.note(1) == [1]
        await supervisor.restart_child("p")
        assert await player.note(2) == [2]
        assert await supervisor.children() == {"p": player}
        await supervisor.stop_child("p")
        assert await supervisor.children() == {}
        assert troupe.log == ["start p", "stop p", "start p", "stop p"]


async def test_restart_by_order_spends_no_budget_and_keeps_the_queue() -> None:
    gate = Gate()
    async with la.open_system(), anyio.create_task_group() as tg:
        supervisor = await la.spawn(la.Supervisor, max_restarts=0)
        player = await supervisor.start_child(la.options(name="p").child(Player, "p", Troupe()))
        held = Later(tg, player.hold, gate)
        await gate.reached()
        noted = Later(tg, player.note, 1)
        restarted = Later(tg, supervisor.restart_child, "p")
        await settle()
        assert restarted.outcome == "pending"
        gate.open()
        assert await held.done() == "held"
        assert await noted.done() == [1]
        assert await restarted.done() is None
        assert incarnation(player) == 2


@pytest.mark.parametrize("request_name", ["stop_child", "restart_child"])
async def test_supervisor_names_the_children_it_has(request_name: str) -> None:
    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor)
        await supervisor.start_child(la.options(name="p").child(Player, "p", Troupe()))
        with pytest.raises(NotAChild, match="no child 'q'; it has p"):
            await getattr(supervisor, request_name)("q")


async def test_block_stops_its_children_the_youngest_first() -> None:
    log: list[str] = []
    async with la.open_system():
        async with la.supervise() as supervisor:
            for name in "abc":
                await supervisor.spawn(Stopper, name, log)
        assert log == ["c", "b", "a"]


async def test_children_of_a_supervisor_may_stop_together() -> None:
    log: list[str] = []
    async with la.open_system():
        specs = [la.child(Stopper, name, log) for name in "abc"]
        supervisor = await la.spawn(la.Supervisor, children=specs, together=True)
        await la.stop(supervisor)
        assert anyio.current_time() == pytest.approx(0.1)
        assert sorted(log) == ["a", "b", "c"]


async def test_tree_shows_the_restarts() -> None:
    async with la.open_system(), la.supervise(name="above") as supervisor:
        player = await supervisor.options(name="p").spawn(Player, "p", Troupe())
        await player.fail.tell()
        await settle()
        assert "1 failed, restarted once, last error Oops: p" in str(supervisor.tree())
        assert cell(player).address == "local/above/p#2"


# Bad input


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"strategy": "simple_one_for_one"}, "strategy='simple_one_for_one' is unknown; choose from 'one_for_one'"),
        ({"max_restarts": -1}, "max_restarts=-1; give a whole number of at least 0"),
        ({"max_restarts": 1.5}, "max_restarts=1.5"),
        ({"period": 0}, "period=0"),
        ({"period": -1}, "period=-1"),
        ({"backoff": -1}, "backoff=-1"),
        ({"max_backoff": "long"}, "max_backoff='long'"),
        ({"auto_shutdown": "always"}, "auto_shutdown='always' is unknown"),
    ],
)
async def test_bad_policy_is_refused(policy: dict[str, Any], words: str) -> None:
    async with la.open_system() as system:
        with pytest.raises(ConfigurationError, match=words):
            async with la.supervise(**policy):
                pass
        with pytest.raises(SpawnError) as raised:
            await la.spawn(la.Supervisor, **policy)
        assert isinstance(raised.value.__cause__, ConfigurationError)
        assert not system.children


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"restart": "always"}, "restart='always' is unknown"),
        ({"place": "moon"}, "place='moon' is unknown"),
        ({"significant": True, "restart": "permanent"}, "can't be significant"),
        ({"start_timeout": -1}, "start_timeout=-1"),
        ({"grace": -1}, "grace=-1"),
    ],
)
async def test_bad_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        la.options(**options)


async def test_significant_child_is_refused_where_it_could_end_nobody() -> None:
    spec = la.options(name="s", significant=True, restart="transient").child(Player, "s", Troupe())
    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor)
        with pytest.raises(ConfigurationError, match="'s' is significant, but auto_shutdown='never'"):
            await supervisor.start_child(spec)
        assert await supervisor.children() == {}


async def test_significant_child_that_would_be_permanent_is_refused() -> None:
    spec = la.options(name="s", significant=True).child(Player, "s", Troupe())
    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor, auto_shutdown="any_significant")
        with pytest.raises(ConfigurationError, match="'s' is significant and would be permanent"):
            await supervisor.start_child(spec)


@pytest.mark.parametrize("wrong", [Player, Player("p", Troupe()), None, "p"])
async def test_children_must_be_specs(wrong: Any) -> None:
    async with la.open_system():
        supervisor = await la.spawn(la.Supervisor)
        with pytest.raises(ConfigurationError, match=r"lightactors\.child"):
            await supervisor.start_child(wrong)
        with pytest.raises(SpawnError, match=r"lightactors\.child"):
            await la.spawn(la.Supervisor, children=[wrong])


async def test_two_children_of_one_name_are_refused() -> None:
    specs = [la.options(name="p").child(Player, name, Troupe()) for name in "ab"]
    async with la.open_system():
        with pytest.raises(SpawnError, match="two children are called 'p'"):
            await la.spawn(la.Supervisor, children=specs)


async def test_children_that_could_be_read_only_once_are_refused() -> None:
    async with la.open_system():
        specs: Any = (la.child(Player, name, Troupe()) for name in "ab")
        with pytest.raises(SpawnError, match="list"):
            await la.spawn(la.Supervisor, children=specs)


async def test_adopted_instance_is_not_started_again_by_order() -> None:
    async with la.open_system(), la.supervise() as supervisor:
        await supervisor.options(name="p").adopt(Porter())
        with pytest.raises(ConfigurationError, match="adopted"):
            await supervisor.ref.restart_child("p")
        assert list(await supervisor.ref.children()) == ["p"]
