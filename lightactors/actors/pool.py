"""Pools: several actors of one kind under one supervisor, which can grow and shrink while they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast, get_args

import anyio

from lightactors.actors.keeper import Keeper
from lightactors.actors.owner import Owner, State
from lightactors.actors.public import stop
from lightactors.actors.ref import AnyRef, cell_of
from lightactors.actors.routing import By, Key, Member, Roster, picker, router
from lightactors.actors.starting import kind_name, next_name, start
from lightactors.actors.stopping import stop_all
from lightactors.actors.survey import WITHIN
from lightactors.actors.tree import Tree, counted
from lightactors.contract import actor, handler
from lightactors.errors import NameTaken, check_choice, check_whole, shown
from lightactors.supervision.ladder import Ladder, Rung
from lightactors.supervision.spec import ChildOptions, ChildSpec, Policy

C = TypeVar("C")


@dataclass(frozen=True)
class PoolStatistics:
    """What the members of a pool have done and have before them, together."""

    members: int
    running: int  # the others are being started again
    mailbox: int  # messages queued
    handled: int
    failed: int
    restarts: int


class Plan:
    """What a pool is to be. Its supervisor's incarnations share it: a new one starts as many members as there were."""

    def __init__(self, spec: ChildSpec, size: int) -> None:
        self.spec = spec
        self.size = size
        self.roster = Roster()

    def policy(self) -> Policy:
        """Return how the members are treated: in five seconds, as many restarts as there are members."""
        return Policy(max_restarts=self.size, together=True)

    def member(self, number: int) -> ChildSpec:
        """Return the spec of one member."""
        return replace(self.spec, options=replace(self.spec.options, name=str(number)))


@actor
class PoolSupervisor:
    """The supervisor of a pool's members."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    async def on_start(self) -> None:
        """Start the members, all at once."""
        self._cell = cell_of(self, "PoolSupervisor")
        self._cell.keep_children(Keeper(self._cell, self.plan.policy()))
        await self._start(self.plan.size)

    @handler
    async def resize(self, size: int) -> None:
        """Start new members, or stop the youngest, until there are so many."""
        members = self.plan.roster.members
        self._allow(size)
        try:
            if size >= len(members):
                await self._start(size - len(members))
            else:
                await self._stop(members[size:])
        finally:
            self._allow(len(self.plan.roster.members))

    def _allow(self, size: int) -> None:
        assert self._cell.keeper is not None
        self.plan.size = size
        self._cell.keeper.allow(size)

    async def _start(self, count: int) -> None:
        failures: list[Exception] = []

        async def start_one(number: int) -> None:
            try:
                ref = await start(self._cell, self.plan.member(number))
            except Exception as error:
                failures.append(error)
            else:
                self.plan.roster.enter(Member(number, ref, cell_of(ref, "Pool")))

        async with anyio.create_task_group() as starters:
            for number in self.plan.roster.free_numbers(count):
                starters.start_soon(start_one, number)
        if failures:
            for other in failures[1:]:
                failures[0].add_note(f"and another member: {shown(other)}")
            raise failures[0]

    async def _stop(self, members: tuple[Member, ...]) -> None:
        for member in members:
            self.plan.roster.leave(member)
        await stop_all((member.cell for member in members), together=True)


class Pool(AnyRef, Generic[C]):
    """Several actors of one kind under one supervisor, which is a child of whoever spawned them.

    `len(pool)` and `for ref in pool` tell its members: those that are running or being started again. To `lightactors`
    functions (`stop`, `watch`, `is_running`, `statistics`) it stands for its supervisor.
    A member that ends is started again as its `restart` says; in five seconds as many restarts are allowed as the
    pool has members, one more and all of it fails with `RestartsExhausted`.
    """

    __slots__ = ()

    def router(self, by: By = "round_robin", *, key: Key | None = None) -> C:
        """Return what looks like a member and sends each call to one of them.

        - `"round_robin"`: to each in its turn.
        - `"least_loaded"`: to the one with the fewest messages queued and under way. Of one in another process only
          asks that were sent from here are known, and what has not left yet.
        - `"by_key"`: always to the same one for the same key, which is `key(...)` of the call's arguments, or else
          the first of them. When the pool grows or shrinks only the keys of the new and the old members move, by
          rendezvous hashing; the choice is by `hash()`, which for text differs from one program run to the next.

        The first two leave out members that are being started again, as long as another one runs; by key, messages
        wait for their member. Without any member a call raises `ActorNotRunning`.
        """
        check_choice("by", by, get_args(By))
        return cast("C", router(self._plan.spec.kind, picker(self._plan.roster, by, key)))

    async def resize(self, size: int) -> None:
        """Start new members, or have the youngest drain and stop, until there are `size`; return when that is done.

        Raises `SpawnError` if a member does not start; the others stay.
        """
        check_whole("size", size)
        await self._supervisor.resize(size)

    async def stop(self, *, grace: float | Ladder | None = None) -> Rung:
        """Stop all members at once, and the supervisor; return the rung that did it. See `lightactors.stop`."""
        return await stop(self, grace=grace)

    def statistics(self) -> PoolStatistics:
        """Return what the members have done and have before them, together."""
        cells = [member.cell for member in self._plan.roster.members]
        return PoolStatistics(
            members=len(cells),
            running=sum(cell.state is State.RUNNING for cell in cells),
            mailbox=sum(len(cell.mailbox.queue) for cell in cells),
            handled=sum(cell.handled for cell in cells),
            failed=sum(cell.failed for cell in cells),
            restarts=sum(cell.incarnation - 1 for cell in cells),
        )

    def tree(self) -> Tree:
        """Return a snapshot of the supervisor and the members; printing it draws it."""
        return self._cell.tree()

    async def survey(self, *, within: float = WITHIN) -> Tree:
        """Return a snapshot of the supervisor and the members, processes included. See `System.survey`."""
        return await self._cell.survey(within=within)

    def __len__(self) -> int:
        return len(self._plan.roster.members)

    def __bool__(self) -> bool:
        return True  # a pool without members is still a pool

    def __iter__(self) -> Iterator[C]:
        return iter([member.ref for member in self._plan.roster.members])

    def __repr__(self) -> str:
        figures = self.statistics()
        return (
            f"<pool of {figures.members} {kind_name(self._plan.spec)} {self._cell.path}: {figures.running} running, "
            f"{figures.mailbox} queued, {figures.handled} handled, {counted(figures.restarts, 'restart')}>"
        )

    @property
    def _supervisor(self) -> PoolSupervisor:
        return cast("PoolSupervisor", self._cell.ref)

    @property
    def _plan(self) -> Plan:
        plan: Plan = self._cell.actor.plan
        return plan


async def start_pool(owner: Callable[[], Owner], size: int, spec: ChildSpec, *, renew: bool) -> Pool[Any]:
    """Start a supervisor with so many members, and return them as a pool once all are ready."""
    check_whole("count", size)
    plan = Plan(spec, size)
    plan.policy().check(spec.options)
    name = spec.options.name or next_name(f"{kind_name(spec)}s")
    # Its members are given up after their own start_timeout.
    options = ChildOptions(name=name, grace=spec.options.grace, start_timeout=float("inf"))
    ref = await start(owner(), ChildSpec(PoolSupervisor, (plan,), options=options), renew=renew)
    pool = Pool[Any](cell_of(ref, "spawn_many()"))
    await _agree(pool, spec, size)
    return pool


async def _agree(pool: Pool[Any], spec: ChildSpec, size: int) -> None:
    """Make sure that a pool, which may be one that ran already, is what was asked for."""
    found = pool._plan.spec  # noqa: SLF001
    if kind_name(found) != kind_name(spec):
        raise NameTaken(f"{pool!r} is running here already; choose another name or pass replace=True")
    if len(pool) != size:
        await pool.resize(size)
