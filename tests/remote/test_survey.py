"""A survey has what lives at the other ends of links in it, and waits for nobody for long."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lightactors as la
from lightactors.actors.mailbox import Ask
from lightactors.actors.ref import cell_of
from lightactors.errors import ActorNotRunning, CannotTravel, ConfigurationError
from lightactors.remote import StandIn, frames, surveys
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, Porter, settle
from tests.actors.test_tree import FIGURES, Branch
from tests.remote.pair import Log, Pair, open_pair


def branch(tree: la.Tree, *path: str) -> la.Tree:
    """Return what stands in the tree under these names."""
    for name in path:
        (tree,) = [child for child in tree.children if child.name == name]
    return tree


async def reach_nobody(pair: Pair, name: str, **options: Any) -> socket.socket:
    """Have a stand-in, the other end of whose link nobody reads; return that end."""
    ours, theirs = socket.socketpair()
    link = await pair.here.open(ours, Log(), label="nobody")
    pair.stand_in(Porter, name=name, **options).attach(link)
    return theirs


def figures(tree: la.Tree) -> la.Statistics:
    assert tree.statistics is not None
    return tree.statistics


async def test_survey_shows_what_is_at_the_other_end() -> None:
    async with open_pair() as pair, anyio.create_task_group() as tg:
        gate = Gate()
        near = await la.options(name="near").spawn(Porter)
        far = await pair.reach(Porter, near)
        with pytest.raises(Oops):
            await near.fail(Oops("no"))
        Later(tg, near.hold, gate)
        await gate.reached()
        for number in range(3):
            await far.note.tell(number)
        await settle()
        from_outside = branch(pair.system.tree(), "far")
        tree = branch(await pair.system.survey(), "far")
        gate.open()

    assert str(from_outside) == "far (Porter)  running, 3 sent"
    assert str(tree) == "far (Porter)  running, 3 queued, 2 handled, 1 failed, last error Oops: no"
    assert isinstance(tree.last_error, Oops)
    assert (tree.seen, from_outside.seen) == ("inside", "outside")


async def test_survey_shows_the_children_there() -> None:
    async with open_pair() as pair:
        await pair.reach(Branch, await la.spawn(Branch, "a", "b"))
        tree = branch(await pair.system.survey(), "far")
        assert tree.lines() == [
            "far (Branch)    running, 0 handled",
            "├── a (Porter)  running, 0 handled",
            "└── b (Porter)  running, 0 handled",
        ]
        assert figures(tree).children == 2


async def test_survey_goes_on_from_link_to_link() -> None:
    async with open_pair() as pair:
        near = await la.spawn(Porter)
        await pair.reach(Porter, near)
        next_pair = Pair(pair.system)
        await next_pair.open()
        await next_pair.reach(Branch, await la.spawn(Branch, "leaf"), name="further", owner=cell_of(near, "a test"))
        tree = await pair.system.survey()
        assert branch(tree, "far", "further", "leaf").kind == "Porter"
        assert branch(tree, "far", "further").seen == "inside"
        next_pair.link.goodbye()
        next_pair.far_link.goodbye()


async def test_who_does_not_answer_is_shown_as_silent() -> None:
    async with open_pair() as pair:
        await pair.reach(Branch, await la.spawn(Branch, "leaf"))
        with await reach_nobody(pair, "deaf"):
            begin = anyio.current_time()
            tree = await pair.system.survey(within=2)
            assert anyio.current_time() - begin == pytest.approx(2)
            assert str(branch(tree, "deaf")) == "deaf (Porter)  does not answer, 0 sent"
            assert branch(tree, "far", "leaf").kind == "Porter"


async def test_all_are_asked_at_once() -> None:
    async with la.open_system() as system:
        pair = Pair(system)
        ends = [await reach_nobody(pair, str(number)) for number in range(20)]
        begin = anyio.current_time()
        tree = await system.survey()
        assert anyio.current_time() - begin == pytest.approx(1)
        assert [child.seen for child in tree.children] == ["silent"] * 20
        for end in ends:
            end.close()


async def test_who_is_asked_says_in_time_who_below_is_silent() -> None:
    async with open_pair() as pair:
        near = await la.spawn(Porter)
        await pair.reach(Porter, near)
        with await reach_nobody(pair, "deaf", owner=cell_of(near, "a test")):
            tree = await pair.system.survey()
            assert branch(tree, "far").seen == "inside"
            assert branch(tree, "far", "deaf").seen == "silent"


async def test_who_gives_up_ends_the_survey_there_too() -> None:
    async with open_pair() as pair:
        near = await la.spawn(Porter)
        await pair.reach(Porter, near)
        with await reach_nobody(pair, "deaf", owner=cell_of(near, "a test")):
            with anyio.move_on_after(0.1):
                await pair.system.survey()
            await settle()
            assert pair.link.unanswered == 0
            begin = anyio.current_time()
            await pair.system.survey(within=0)
            assert anyio.current_time() == begin


async def test_stand_in_without_a_link_is_not_waited_for() -> None:
    async with open_pair() as pair:
        pair.stand_in(Porter)
        begin = anyio.current_time()
        tree = await pair.system.survey()
        assert anyio.current_time() == begin
        assert branch(tree, "far").seen == "outside"


async def test_link_that_is_lost_meanwhile_is_no_error() -> None:
    async with open_pair() as pair, anyio.create_task_group() as tg:
        with await reach_nobody(pair, "deaf"):
            survey = Later(tg, pair.system.survey)
            await settle()
            (deaf,) = [cell for cell in pair.system.children.values() if isinstance(cell, StandIn)]
            assert deaf.link is not None
            deaf.link.lose("cut")
            tree: Any = await survey.done()
            assert branch(tree, "deaf").seen == "outside"
            assert anyio.current_time() < 1


async def test_lost_link_is_said_to_who_asks_just_then() -> None:
    async with open_pair() as pair:
        asked = Ask()
        pair.stand_in(Porter).look(asked, 1.0)
        with pytest.raises(ActorNotRunning, match="lost its link"):
            await asked.reply()


@pytest.mark.parametrize("names", [[f"child-{number}" for number in range(200)], ["caf\udce9"]], ids=["large", "odd"])
async def test_branch_that_can_not_travel_is_shown_from_outside(
    names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with open_pair(limit=10_000) as pair:
        await pair.reach(Branch, await la.spawn(Branch, *names))
        assert branch(await pair.system.survey(), "far").seen == "outside"
        assert "what is below actor local/far is not in the survey" in caplog.text


@pytest.mark.parametrize("body", [b"\x01", b"\xc1", b"\x90", b"\x91" * 50_000])
async def test_nonsense_for_an_answer_is_shown_from_outside(body: bytes) -> None:
    async with open_pair() as pair:
        near = await la.spawn(Porter)
        await pair.reach(Porter, near)
        with await reach_nobody(pair, "liar") as end:
            end.sendall(b"".join(frames.pack([frames.Reply(0, msgspec.Raw(body))])))
            tree = await pair.system.survey()
            assert branch(tree, "far").seen == "inside"
            assert branch(tree, "liar").children == []


async def test_survey_of_an_actor_that_is_not_there_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with open_pair() as pair:
        pair.stand_in(Porter).attach(pair.link)
        assert branch(await pair.system.survey(), "far").seen == "outside"
        assert "there is no actor 0 here any more" in caplog.text


async def test_look_that_fails_there_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RecursionError("too deep")

    async with open_pair() as pair:
        near = await la.spawn(Porter)
        far = await pair.reach(Porter, near)
        with monkeypatch.context() as patched:
            patched.setattr(type(cell_of(near, "a test")), "survey", fail)
            tree = await pair.system.survey()
        assert branch(tree, "far").seen == "outside"
        assert await far.note(1) == 1


async def test_bound_of_time_must_be_one() -> None:
    async with la.open_system() as system:
        with pytest.raises(ConfigurationError, match="within=-1"):
            await system.survey(within=-1)


# Where it is asked for


@la.actor
class Surveyor:
    @la.handler
    async def look_around(self) -> str:
        return str(await la.survey())


async def test_survey_is_of_the_system_that_the_code_runs_in() -> None:
    async with la.open_system("home") as system:
        surveyor = await system.options(name="s").spawn(Surveyor)
        assert await surveyor.look_around() == "home (system)\n└── s (Surveyor)  running, 1 handled"


async def test_survey_is_of_the_default_root_where_there_is_no_system() -> None:
    await la.options(name="p").spawn(Porter)
    assert str(await la.survey()) == "local (system)\n└── p (Porter)  running, 0 handled"


async def test_supervision_and_pool_have_surveys_of_their_own() -> None:
    async with open_pair(), la.supervise(name="above") as supervisor:
        pool = await supervisor.options(name="porters").spawn_many(2, Porter)
        members = branch(await supervisor.survey(), "porters").children
        assert sorted(member.name for member in members) == ["1", "2"]  # they started together, in any order
        assert (await pool.survey()).name == "porters"


# Bytes


def test_branch_is_the_same_at_the_other_end() -> None:
    leaf = la.Tree("leaf", "Porter", FIGURES, None, [], "silent")
    process = la.ProcessFigures(42, 1.5, 0.5, 2**20, "exited with code 3")
    tree = la.Tree("w", "Worker", replace(FIGURES, process=process, capacity=math.inf), None, [leaf])
    assert surveys.decode(surveys.encode(tree), None) == tree


def test_error_travels_in_brief() -> None:
    error = ValueError("x" * 10**6, b"x" * 10**6)
    error.add_note("x" * 10**6)
    body = surveys.encode(la.Tree("w", "Worker", FIGURES, error, []))
    assert len(body) < 2_000
    assert isinstance(surveys.decode(body, None).last_error, ValueError)


def test_what_is_too_deep_is_left_out() -> None:
    tree = la.Tree("leaf", "Worker", FIGURES, None, [])
    for _ in range(150):
        tree = la.Tree("w", "Worker", FIGURES, None, [tree])
    came = surveys.decode(surveys.encode(tree), None)
    assert len(came.lines()) == 101


@given(st.binary())
def test_any_bytes_are_a_branch_or_can_not_travel(data: bytes) -> None:
    with suppress(CannotTravel):
        surveys.decode(data, None)


@given(st.recursive(st.none() | st.text() | st.floats(), lambda inner: st.lists(inner, max_size=6), max_leaves=20))
def test_any_values_are_a_branch_or_can_not_travel(value: object) -> None:
    with suppress(CannotTravel):
        surveys.decode(msgspec.msgpack.encode(value), None)


def test_branch_deeper_than_any_that_is_sent_is_refused() -> None:
    branch: Any = []
    for _ in range(200):
        branch = ["w", "Worker", FIGURES, None, [branch] if branch else [], "inside"]
    with pytest.raises(CannotTravel, match="generations"):
        surveys.decode(msgspec.msgpack.encode(branch), None)
