"""Spawning: names, options, owners, and what a ref is."""

from __future__ import annotations

import copy
import pickle
from abc import ABC, abstractmethod
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import ConfigurationError, ContractError, NameTaken, SpawnError, WrongCall
from lightactors.testing import Gate
from tests.actors.cast import Later, Porter, Stopper, settle


@la.actor
class Other:
    """Another kind of actor."""


async def test_spawn_again_by_name_returns_the_live_actor() -> None:
    async with la.open_system() as system:
        first = await system.options(name="p").spawn(Porter)
        await first.note(1)
        second = await system.options(name="p").spawn(Porter)

        assert second == first
        assert await second.read() == [1]


async def test_kind_is_told_by_its_name_so_that_a_notebook_cell_may_define_it_anew() -> None:
    def define() -> Any:
        @la.actor
        class Again:
            pass

        return Again

    async with la.open_system() as system:
        first = await system.options(name="a").spawn(define())
        assert await system.options(name="a").spawn(define()) == first


async def test_replace_stops_the_actor_of_that_name_first() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        options = system.options(name="s", replace=True)
        first = await options.spawn(Stopper, "first", log)
        second = await options.spawn(Stopper, "second", log)

        assert log == ["first"]
        assert second != first
        assert not la.is_running(first)
        assert la.is_running(second)


async def test_replace_may_bring_another_kind() -> None:
    async with la.open_system() as system:
        await system.options(name="x").spawn(Porter)
        other = await system.options(name="x", replace=True).spawn(Other)
        assert la.is_running(other)


async def test_name_of_another_kind_is_taken() -> None:
    async with la.open_system() as system:
        porter = await system.options(name="x").spawn(Porter)
        with pytest.raises(NameTaken, match=r"Porter 'x' is running here already; .* replace=True"):
            await system.options(name="x").spawn(Other)
        assert await porter.note(1) == 1


async def test_name_of_a_stopping_actor_is_free_once_it_has_ended() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        porter = await system.options(name="x").spawn(Porter)
        await porter.hold.tell(gate)
        await gate.reached()
        stopping = Later(tg, la.stop, porter)
        await settle()
        spawning = Later(tg, system.options(name="x").spawn, Porter)
        await settle()
        gate.open()
        await stopping.done()
        assert await spawning.done() != porter


async def test_names_are_unique_among_the_children_of_one_owner_only() -> None:
    @la.actor
    class Owner:
        async def on_start(self) -> None:
            self.child = await la.options(name="x").spawn(Porter)

    async with la.open_system() as system:
        for _ in range(2):
            await system.spawn(Owner)
        await system.options(name="x").spawn(Porter)

        assert system.statistics().actors == 5


async def test_actors_without_a_name_get_different_ones() -> None:
    async with la.open_system() as system:
        refs = [await system.spawn(Porter) for _ in range(3)]
        assert len(set(refs)) == 3
        assert all(name.startswith("porter-") for name in system.children)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"place": "moon"}, "place='moon' is unknown; choose from 'task', 'thread'"),
        ({"mailbox": 0}, "mailbox=0; give"),
        ({"mailbox": float("nan")}, "mailbox=nan; give"),
        ({"name": ""}, "name=''"),
        ({"name": "a/b"}, "name='a/b' can't be part of an address"),
    ],
)
async def test_bad_options_are_refused_before_anything_is_spawned(options: Any, complaint: str) -> None:
    async with la.open_system() as system:
        with pytest.raises(ConfigurationError, match=complaint):
            system.options(**options)
    with pytest.raises(ConfigurationError):
        la.options(**options)


async def test_wrong_arguments_of_the_class_are_refused() -> None:
    async with la.open_system() as system:
        with pytest.raises(WrongCall, match="Other can't be made of these arguments"):
            await system.spawn(Other, 1)  # type: ignore[call-overload]
        assert system.children == {}


@pytest.mark.parametrize(
    ("target", "cure"),
    [
        (int, "int is not an actor; decorate the class"),
        (Porter(), r"spawn\(Porter, ...\)"),
        (lambda: None, "decorate it with @lightactors.actor"),
        (3, "3 is not an actor class or behaviour"),
    ],
)
async def test_only_actors_can_be_spawned(target: Any, cure: str) -> None:
    async with la.open_system() as system:
        with pytest.raises(ContractError, match=cure):
            await system.spawn(target)


async def test_subclass_of_an_actor_is_an_actor() -> None:
    class Base(ABC):
        @la.handler
        @abstractmethod
        async def add(self, amount: int) -> int: ...

        @la.handler
        def same(self) -> str:
            return "same"

    @la.actor
    class Abstract(Base):
        pass

    class Concrete(Abstract):
        @la.handler
        async def add(self, amount: int) -> int:
            return amount + 1

    async with la.open_system() as system:
        concrete = await system.spawn(Concrete)
        assert await concrete.add(1) == 2
        assert await concrete.same() == "same"
        with pytest.raises(WrongCall, match="abstract"):
            await system.spawn(Abstract)


async def test_adopted_instance_gets_a_mailbox() -> None:
    porter = Porter()
    porter.log.append("before")
    async with la.open_system() as system:
        ref = await system.options(name="p").adopt(porter)
        assert await ref.note("after") == 2
        assert porter.log == ["before", "after"]
        assert la.ref_of(porter) == ref


async def test_only_instances_of_actors_can_be_adopted() -> None:
    async with la.open_system() as system:
        with pytest.raises(ContractError, match="object is not an actor"):
            await system.adopt(object())


async def test_actor_finds_its_own_ref() -> None:
    @la.actor
    class Selfish:
        @la.handler
        def me(self) -> Selfish:
            return la.ref_of(self)

    async with la.open_system() as system:
        selfish = await system.spawn(Selfish)
        assert await selfish.me() == selfish
    with pytest.raises(ContractError, match=r"ref_of\(\) takes a ref"):
        la.ref_of(Selfish())


async def test_actor_with_slots_may_leave_one_for_its_ref() -> None:
    @la.actor
    class Slotted:
        __slots__ = ("_lightactors_cell",)

        @la.handler
        def me(self) -> Slotted:
            return la.ref_of(self)

    @la.actor
    class Closed:
        __slots__ = ()

        @la.handler
        def one(self) -> int:
            return 1

    async with la.open_system() as system:
        slotted = await system.spawn(Slotted)
        assert await slotted.me() == slotted
        closed = await system.spawn(Closed)
        assert await closed.one() == 1


async def test_refs_are_equal_and_hash_alike_when_they_stand_for_the_same_actor() -> None:
    async with la.open_system() as system:
        one = await system.options(name="p").spawn(Porter)
        same = await system.options(name="p").spawn(Porter)
        other = await system.spawn(Porter)

        assert one == same
        assert {one: 1}[same] == 1
        assert one != other
        assert one != object()


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
async def test_refs_cannot_be_copied(copied: Any) -> None:
    async with la.open_system() as system:
        ref = await system.spawn(Porter)
        with pytest.raises(TypeError, match="can't be pickled or copied; send the ref itself in a message"):
            copied(ref)


# Whose child is it?


async def test_spawn_inside_an_actor_makes_a_child_of_it() -> None:
    @la.actor
    class Owner:
        @la.handler
        async def spawn(self) -> None:
            await la.options(name="turn").spawn(Porter)

        @la.handler(interleaved=True)
        async def spawn_aside(self) -> None:
            await la.options(name="aside").spawn(Porter)

        async def on_start(self) -> None:
            await la.options(name="start").spawn(Porter)

    async with la.open_system() as system:
        owner = await system.options(name="o").spawn(Owner)
        await owner.spawn()
        await owner.spawn_aside()

        assert list(system.children["o"].children) == ["start", "turn", "aside"]
        assert la.statistics(owner).children == 3


async def test_spawn_inside_a_systems_block_belongs_to_it_also_from_tasks() -> None:
    async with la.open_system("outer") as outer:
        async with la.open_system("inner") as inner, anyio.create_task_group() as tg:
            await la.options(name="block").spawn(Porter)
            tg.start_soon(la.options(name="task").spawn, Porter)
            await outer.options(name="explicit").spawn(Porter)
            await settle()
            assert set(inner.children) == {"block", "task"}
        await la.options(name="after").spawn(Porter)
        assert set(outer.children) == {"explicit", "after"}


async def test_spawn_into_a_closed_system_is_refused() -> None:
    async with la.open_system() as system:
        pass
    with pytest.raises(SpawnError, match="system local is stopping"):
        await system.spawn(Porter)


async def test_spawn_outside_any_system_belongs_to_the_loops_own_root() -> None:
    porter = await la.options(name="p").spawn(Porter)
    assert repr(porter) == "<ref Porter local/p#1 running>"
    assert await la.options(name="p").spawn(Porter) == porter
    await la.stop(porter)


async def test_default_root_logs_a_failure_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    porter = await la.spawn(Porter)
    other = await la.spawn(Porter)
    await porter.fail.tell(ValueError("lonely"))
    await settle()

    assert "an actor failed, and no system was open that could raise it" in caplog.text
    assert "lonely" in caplog.text
    assert caplog.text.count("ValueError") == 1
    assert await other.note(1) == 1
    await la.stop(other)


variable: ContextVar[str] = ContextVar("variable", default="unset")


async def test_actors_see_the_context_in_which_their_system_was_opened() -> None:
    @la.actor
    class Reader:
        @la.handler
        async def read(self) -> str:
            return variable.get()

        @la.handler(interleaved=True)
        async def read_aside(self) -> str:
            return variable.get()

    variable.set("opened")
    async with la.open_system() as system:
        variable.set("block")
        reader = await system.spawn(Reader)
        assert await reader.read() == "opened"
        assert await reader.read_aside() == "opened"


async def test_instance_is_adopted_by_one_actor_at_a_time() -> None:
    async with la.open_system():
        porter = Porter()
        first = await la.adopt(porter)
        with pytest.raises(SpawnError, match="is an actor already"):
            await la.adopt(porter)
        await la.stop(first)
        assert await la.adopt(porter) != first
