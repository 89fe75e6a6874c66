"""Pools: several actors of one kind, a router that chooses one of them for each call, and a size that may change."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lightactors as la
from lightactors.actors.ref import cell_of
from lightactors.actors.routing import weight
from lightactors.errors import (
    ActorNotRunning,
    ConfigurationError,
    NameTaken,
    SpawnError,
    UnknownHandler,
    WrongCall,
)
from lightactors.testing import Gate
from tests.actors.cast import Later, Oops, Porter, Stopper, settle
from tests.supervision.troupe import exhausted


@la.actor
class Clerk:
    """Says who it is; waits, fails and does not start as it is told."""

    def __init__(self, faults: list[str] | None = None) -> None:
        self.faults = [] if faults is None else faults
        self.served: list[object] = []

    async def on_start(self) -> None:
        await anyio.sleep(1)
        if self.faults:
            raise Oops(self.faults.pop())

    @la.handler
    def serve(self, item: object = None, *, urgent: bool = False) -> str:
        self.served.append(item)
        return cell_of(self, "Clerk").name

    @la.handler
    async def hold(self, gate: Gate) -> str:
        await gate.wait()
        return cell_of(self, "Clerk").name

    @la.handler
    async def count(self, end: int) -> AsyncIterator[str]:
        for _ in range(end):
            yield cell_of(self, "Clerk").name

    @la.handler
    def fail(self) -> None:
        raise Oops("clerk")

    @la.handler
    def read(self) -> list[object]:
        return self.served


class Who(la.Message[str]):
    """Asks a `teller` for its name."""

    def __init__(self, key: int = 0) -> None:
        self.key = key


@la.actor
async def teller(mailbox: la.Mailbox[Who], greeting: str) -> None:
    tellers.append(None)
    name = f"{greeting} {len(tellers)}"
    async for message in mailbox:
        mailbox.reply(message, name)


tellers: list[None] = []


def names(pool: la.Pool[Any]) -> list[str]:
    return [cell_of(ref, "test").name for ref in pool]


# Spawning


async def test_pool_has_as_many_members_as_were_asked_for_and_starts_them_at_once() -> None:
    async with la.open_system() as system:
        pool = await la.spawn_many(4, Clerk)
        assert anyio.current_time() == pytest.approx(1)
        assert len(pool) == 4
        assert names(pool) == ["1", "2", "3", "4"]
        assert [await ref.serve() for ref in pool] == ["1", "2", "3", "4"]
        assert len(system.children) == 1


async def test_members_are_made_of_the_arguments_and_options_of_the_pool() -> None:
    log: list[str] = []
    async with la.open_system() as system:
        pool = await la.options(name="stoppers", mailbox=7).spawn_many(2, Stopper, "s", log=log)
        assert system.children["stoppers"].kind == "PoolSupervisor"
        assert [cell_of(ref, "test").path for ref in pool] == ["local/stoppers/1", "local/stoppers/2"]
        assert [la.statistics(ref).capacity for ref in pool] == [7, 7]
        before = anyio.current_time()
        assert await pool.stop() is la.Rung.DRAIN
        assert anyio.current_time() - before == pytest.approx(0.1)
        assert log == ["s", "s"]


async def test_pool_is_a_ref_of_its_supervisor() -> None:
    async with la.open_system() as system:
        pool = await la.spawn_many(2, Clerk)
        assert la.is_running(pool)
        assert await la.stop(pool) is la.Rung.DRAIN
        assert not la.is_running(pool)
        assert (await la.watch(pool)).reason is la.Reason.STOPPED
        assert len(pool) == 0
        assert not system.children


async def test_pool_is_stopped_with_its_owner() -> None:
    log: list[str] = []
    async with la.open_system():
        await la.spawn_many(3, Stopper, "s", log)
    assert log == ["s"] * 3


async def test_pool_whose_member_does_not_start_is_none() -> None:
    log = ["broken"]
    async with la.open_system() as system:
        with pytest.raises(SpawnError, match="broken"):
            await la.spawn_many(3, Clerk, log)
        assert not system.children


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "3"])
async def test_bad_sizes_are_refused(count: Any) -> None:
    async with la.open_system():
        with pytest.raises(ConfigurationError, match=r"count=.*whole number of at least 1"):
            await la.spawn_many(count, Clerk)
        pool = await la.spawn_many(1, Clerk)
        with pytest.raises(ConfigurationError, match=r"size=.*whole number of at least 1"):
            await pool.resize(count)


async def test_pool_of_a_name_that_runs_is_returned_in_the_new_size() -> None:
    async with la.open_system():
        first = await la.options(name="clerks").spawn_many(2, Clerk)
        again = await la.options(name="clerks").spawn_many(3, Clerk)
        assert again == first
        assert len(first) == 3
        with pytest.raises(NameTaken, match="pool of 3 Clerk local/clerks"):
            await la.options(name="clerks").spawn_many(2, Porter)
        new = await la.options(name="clerks", replace=True).spawn_many(2, Porter)
        assert len(new) == 2
        assert not la.is_running(first)


async def test_significant_members_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="auto_shutdown='never'"):
        await la.options(significant=True).spawn_many(2, Clerk)


# Round robin


async def test_round_robin_takes_each_in_its_turn() -> None:
    async with la.open_system():
        pool = await la.spawn_many(3, Clerk)
        router = pool.router()
        assert [await router.serve() for _ in range(7)] == ["1", "2", "3", "1", "2", "3", "1"]


async def test_router_tells_streams_and_asks() -> None:
    async with la.open_system():
        pool = await la.spawn_many(2, Clerk)
        router = pool.router()
        await router.serve.tell("told")
        router.serve.tell_nowait("told at once")
        await settle()
        assert [await ref.read() for ref in pool] == [["told"], ["told at once"]]
        assert [name async for name in router.count(2)] == ["1", "1"]
        assert [name async for name in router.count(2)] == ["2", "2"]


async def test_router_has_the_handlers_of_its_kind_only() -> None:
    async with la.open_system():
        router = (await la.spawn_many(2, Clerk)).router()
        assert "serve" in dir(router)
        with pytest.raises(UnknownHandler, match="did you mean 'serve'"):
            _ = router.serv  # type: ignore[attr-defined]
        with pytest.raises(WrongCall):
            await router.serve(1, 2, 3)  # type: ignore[call-arg, arg-type]


@pytest.mark.parametrize("by", ["round_robin", "least_loaded"])
async def test_member_that_is_restarting_is_left_out(by: Any) -> None:
    async with la.open_system():
        pool = await la.spawn_many(3, Clerk)
        router = pool.router(by)
        _, second, _ = pool
        await second.fail.tell()
        await settle()
        assert {await router.serve() for _ in range(6)} == {"1", "3"}
        await anyio.sleep(2)
        assert {await router.serve() for _ in range(6)} == {"1", "2", "3"}


async def test_call_waits_for_a_member_when_all_are_restarting() -> None:
    async with la.open_system():
        pool = await la.spawn_many(2, Clerk)
        router = pool.router()
        for ref in pool:
            await ref.fail.tell()
        await settle()
        assert pool.statistics().running == 0
        assert await router.serve() in ("1", "2")
        assert anyio.current_time() >= 2


async def test_member_that_ended_for_good_is_no_member_any_more() -> None:
    async with la.open_system():
        pool = await la.options(restart="temporary").spawn_many(3, Clerk)
        first, _, third = pool
        await first.fail.tell()
        await la.stop(third)
        await settle()
        assert names(pool) == ["2"]
        assert {await pool.router().serve() for _ in range(3)} == {"2"}


@pytest.mark.parametrize("by", ["round_robin", "least_loaded", "by_key"])
async def test_call_to_a_pool_without_members_is_refused(by: Any) -> None:
    async with la.open_system():
        pool = await la.spawn_many(1, Clerk)
        router = pool.router(by)
        await pool.stop()
        with pytest.raises(ActorNotRunning, match="no members"):
            await router.serve(1)


# Least loaded


async def test_least_loaded_takes_who_has_least_to_do() -> None:
    gate = Gate()
    async with la.open_system(), anyio.create_task_group() as tg:
        pool = await la.spawn_many(3, Clerk)
        router = pool.router("least_loaded")
        first, second, _ = pool
        held = [Later(tg, first.hold, gate), Later(tg, first.hold, gate), Later(tg, second.hold, gate)]
        await settle()
        assert {await router.serve() for _ in range(4)} == {"3"}
        held += [Later(tg, router.hold, gate) for _ in range(3)]
        await settle()
        gate.open()
        assert sorted([str(await each.done()) for each in held]) == ["1", "1", "2", "2", "3", "3"]


async def test_least_loaded_takes_idle_members_in_turn() -> None:
    async with la.open_system():
        router = (await la.spawn_many(3, Clerk)).router("least_loaded")
        assert [await router.serve() for _ in range(4)] == ["1", "2", "3", "1"]


# By key


async def test_same_key_goes_to_the_same_member() -> None:
    async with la.open_system():
        router = (await la.spawn_many(4, Clerk)).router("by_key")
        member = {key: await router.serve(key) for key in range(100)}
        assert {key: await router.serve(key) for key in range(100)} == member
        assert {key: await router.serve(item=key) for key in range(100)} == member
        assert set(member.values()) == {"1", "2", "3", "4"}


async def test_key_may_be_made_of_the_arguments() -> None:
    async with la.open_system():

        def first_letter(item: Any, *, urgent: bool = False) -> Hashable:
            return urgent or item[0]

        router = (await la.spawn_many(4, Clerk)).router("by_key", key=first_letter)
        assert len({await router.serve(item) for item in ("apple", "ant", "axe")}) == 1
        assert len({await router.serve(item, urgent=True) for item in ("apple", "bee", "cat")}) == 1


async def test_messages_of_a_key_wait_for_its_member() -> None:
    async with la.open_system():
        pool = await la.spawn_many(3, Clerk)
        router = pool.router("by_key")
        name = await router.serve("key")
        await list(pool)[int(name) - 1].fail.tell()
        await settle()
        assert pool.statistics().running == 2
        assert await router.serve("key") == name


async def test_growing_moves_only_the_keys_of_the_new_member() -> None:
    async with la.open_system():
        pool = await la.spawn_many(4, Clerk)
        router = pool.router("by_key")
        before = {key: await router.serve(key) for key in range(500)}
        await pool.resize(5)
        after = {key: await router.serve(key) for key in range(500)}
        moved = {key for key in before if before[key] != after[key]}
        assert {after[key] for key in moved} == {"5"}
        assert 50 < len(moved) < 150
        await pool.resize(4)
        assert {key: await router.serve(key) for key in range(500)} == before


@given(st.sets(st.integers() | st.text() | st.tuples(st.integers(), st.text()), min_size=1), st.integers(2, 20))
def test_members_that_stay_keep_their_keys(keys: set[Hashable], size: int) -> None:
    def member(key: Hashable, numbers: range) -> int:
        return max(numbers, key=lambda number: weight(hash(key), number))

    for key in keys:
        larger = member(key, range(1, size + 1))
        if larger != size:
            assert member(key, range(1, size)) == larger


def test_keys_are_shared_out_evenly() -> None:
    shares = Counter(max(range(1, 9), key=lambda number: weight(key, number)) for key in range(8000))
    assert all(math.isclose(share, 1000, rel_tol=0.15) for share in shares.values())
    assert len(shares) == 8


async def test_call_without_a_key_is_refused() -> None:
    async with la.open_system():
        pool = await la.spawn_many(2, Clerk)
        router = pool.router("by_key")
        with pytest.raises(WrongCall, match=r"Clerk.serve\(\) was called without a first argument"):
            await router.serve()
        with pytest.raises(WrongCall, match="can't be hashed"):
            await router.serve([])
        with pytest.raises(ConfigurationError, match="pass 'by_key'"):
            pool.router(key=str)
        with pytest.raises(ConfigurationError, match="by='random' is unknown"):
            pool.router("random")  # type: ignore[arg-type]


# Behaviours


@pytest.mark.parametrize("by", ["round_robin", "least_loaded", "by_key"])
async def test_pool_of_a_behaviour_takes_its_messages(by: Any) -> None:
    tellers.clear()
    async with la.open_system():
        pool = await la.spawn_many(2, teller, "hello")
        router = pool.router(by, key=None if by != "by_key" else lambda message: message.key)
        answers = [await router.ask(Who(key)) for key in range(10)]
        await router.tell(Who())
        router.tell_nowait(Who())
        assert set(answers) == {"hello 1", "hello 2"}
        await settle()
        assert pool.statistics().handled == 12


# Resizing


async def test_pool_grows_while_it_runs() -> None:
    async with la.open_system():
        pool = await la.spawn_many(2, Clerk)
        router = pool.router()
        await pool.resize(5)
        assert anyio.current_time() == pytest.approx(2)
        assert names(pool) == ["1", "2", "3", "4", "5"]
        assert {await router.serve() for _ in range(5)} == {"1", "2", "3", "4", "5"}


async def test_shrinking_lets_the_youngest_finish_and_routes_nothing_to_them() -> None:
    gate = Gate()
    async with la.open_system() as system, anyio.create_task_group() as tg:
        pool = await la.spawn_many(3, Clerk)
        router = pool.router()
        *_, youngest = pool
        held = Later(tg, youngest.hold, gate)
        await gate.reached()
        await youngest.serve.tell("queued")
        shrinking = Later(tg, pool.resize, 2)
        await settle()
        assert len(pool) == 2
        assert {await router.serve() for _ in range(4)} == {"1", "2"}
        assert shrinking.outcome == "pending"
        gate.open()
        assert await held.done() == "3"
        assert await shrinking.done() is None
        assert not la.is_running(youngest)
        assert system.statistics().dead_letters == 0


async def test_resizing_fills_the_places_of_members_that_ended() -> None:
    async with la.open_system():
        pool = await la.options(restart="temporary").spawn_many(3, Clerk)
        second = list(pool)[1]
        await la.stop(second)
        await pool.resize(3)
        assert names(pool) == ["1", "2", "3"]
        assert list(pool)[1] != second


async def test_growth_that_fails_leaves_the_pool_as_it_was() -> None:
    faults: list[str] = []
    async with la.open_system():
        pool = await la.spawn_many(2, Clerk, faults)
        faults.append("broken")
        with pytest.raises(SpawnError, match="broken"):
            await pool.resize(3)
        assert names(pool) == ["1", "2"]
        await pool.resize(3)
        assert names(pool) == ["1", "2", "3"]


async def test_resizes_at_the_same_time_come_one_after_the_other() -> None:
    async with la.open_system():
        pool = await la.spawn_many(2, Clerk)
        async with anyio.create_task_group() as tg:
            for size in (5, 1, 4):
                tg.start_soon(pool.resize, size)
        assert len(pool) in (1, 4, 5)
        await pool.resize(3)
        assert names(pool) == ["1", "2", "3"]


# Failures


async def test_members_are_started_again_each_for_itself() -> None:
    async with la.open_system():
        pool = await la.spawn_many(3, Clerk)
        router = pool.router()
        for _ in range(3):
            await router.fail.tell()
        await anyio.sleep(4)
        assert pool.statistics().restarts == 3
        assert len(pool) == 3


async def test_more_restarts_than_members_end_the_pool() -> None:
    with exhausted("max_restarts=2 in period="):
        async with la.open_system():
            pool = await la.spawn_many(2, Clerk)
            for _ in range(3):
                await pool.router("by_key", key=lambda: 1).fail.tell()
            await anyio.sleep_forever()


async def test_pool_under_a_supervisor_comes_back_in_its_last_size() -> None:
    async with la.open_system(), la.supervise() as supervisor:
        pool = await supervisor.options(name="clerks").spawn_many(1, Clerk)
        await pool.resize(2)
        router = pool.router()
        for _ in range(3):
            await (next(iter(pool))).fail.tell()
        await anyio.sleep(10)
        assert la.statistics(pool).restarts == 1
        assert names(pool) == ["1", "2"]
        assert {await router.serve() for _ in range(4)} == {"1", "2"}


# Looking


async def test_pool_shows_what_its_members_do() -> None:
    gate = Gate()
    async with la.open_system(), anyio.create_task_group() as tg:
        pool = await la.options(name="clerks").spawn_many(2, Clerk)
        router = pool.router()
        for _ in range(4):
            tg.start_soon(router.hold, gate)
        await settle()
        assert repr(pool) == "<pool of 2 Clerk local/clerks: 2 running, 2 queued, 2 handled, 0 restarts>"
        assert pool.statistics() == la.PoolStatistics(2, 2, mailbox=2, handled=2, failed=0, restarts=0)
        assert str(pool.tree()).startswith("clerks (PoolSupervisor)  running")
        assert repr(router) == "<router to a pool of Clerk>"
        gate.open()
