"""Whatever workers do in whatever order: no task is lost, none is held twice, and the oldest goes out first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import lightactors as la
from tests.actors.cast import Later, Porter, settle

WORKERS = st.sampled_from(["a", "b", "c"])
COUNTS = st.integers(1, 4)


class Hall:
    """A queue and its workers, each with at most one claim that waits."""

    def __init__(self, system: la.System, tg: TaskGroup) -> None:
        self.system = system
        self.tg = tg
        self.actors: dict[str, Porter] = {}
        self.waiting: dict[str, Later[list[la.Claim[int]]]] = {}

    async def open(self) -> None:
        self.queue = await self.system.spawn(la.TaskQueue[int])

    async def join(self, worker: str) -> None:
        self.actors[worker] = await self.system.spawn(Porter)
        await self.queue.join(worker, self.actors[worker])

    async def leave(self, worker: str) -> None:
        await self.queue.leave(worker)
        await settle()

    async def die(self, worker: str) -> None:
        await la.stop(self.actors[worker])
        await settle()

    async def claim(self, worker: str, count: int) -> None:
        self.waiting[worker] = Later(self.tg, self.queue.claim, worker, count)
        await settle()

    async def cancel(self, worker: str) -> None:
        await self.waiting[worker].cancel()
        await settle()

    async def call(self, handler: str, *args: Any) -> Any:
        value = await getattr(self.queue, handler)(*args)
        await settle()
        return value


@asynccontextmanager
async def open_hall() -> AsyncGenerator[Hall]:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        hall = Hall(system, tg)
        await hall.open()
        yield hall
        tg.cancel_scope.cancel()


class QueueMachine(RuleBasedStateMachine):
    """The queue beside a model: the ready tasks, sorted, who holds what, and who waits for how many."""

    backend = "asyncio"

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal(self.backend))
        self.hall = self.stack.enter_context(self.portal.wrap_async_context_manager(open_hall()))
        self.added = 0
        self.finished = 0
        self.ready: list[int] = []
        self.held: dict[str, dict[int, int]] = {}  # of each worker that is here: tasks by numbers
        self.line: list[tuple[str, int]] = []

    def teardown(self) -> None:
        self.stack.close()

    def do(self, function: Callable[..., Any], *args: Any) -> Any:
        return self.portal.call(function, *args)

    @rule(count=COUNTS)
    def add(self, count: int) -> None:
        tasks = list(range(self.added, self.added + count))
        self.added += count
        self.do(self.hall.call, "add_many", tasks)
        self.ready += tasks
        self.serve()

    @rule(worker=WORKERS)
    def join(self, worker: str) -> None:
        if worker not in self.held:
            self.do(self.hall.join, worker)
            self.held[worker] = {}

    @rule(worker=WORKERS, dies=st.booleans())
    def leave(self, worker: str, dies: bool) -> None:
        if worker in self.held:
            self.do(self.hall.die if dies else self.hall.leave, worker)
            self.line = [(name, count) for name, count in self.line if name != worker]
            self.give_up(self.held.pop(worker))
            if worker in self.hall.waiting:
                assert self.hall.waiting.pop(worker).outcome == []

    @rule(worker=WORKERS, count=COUNTS)
    def claim(self, worker: str, count: int) -> None:
        if worker in self.held and worker not in self.hall.waiting:
            self.do(self.hall.claim, worker, count)
            self.line.append((worker, count))
            self.serve()

    @rule(worker=WORKERS)
    def cancel(self, worker: str) -> None:
        if worker in self.hall.waiting:
            self.do(self.hall.cancel, worker)
            del self.hall.waiting[worker]
            self.line = [(name, count) for name, count in self.line if name != worker]

    @rule(worker=WORKERS, other=WORKERS, data=st.data())
    def finish(self, worker: str, other: str, data: st.DataObject) -> None:
        numbers = self.some_of(other, data)
        mine = self.held.get(worker, {}) if worker == other else {}
        assert self.do(self.hall.call, "finish", worker, numbers) == len(mine and numbers)
        for number in mine and numbers:
            del mine[number]
            self.finished += 1

    @rule(worker=WORKERS, data=st.data())
    def give_back(self, worker: str, data: st.DataObject) -> None:
        numbers = self.some_of(worker, data)
        assert self.do(self.hall.call, "give_back", worker, numbers) == len(numbers)
        self.give_up({number: self.held[worker].pop(number) for number in numbers})

    def some_of(self, worker: str, data: st.DataObject) -> list[int]:
        numbers = sorted(self.held.get(worker, ()))
        return data.draw(st.lists(st.sampled_from(numbers), unique=True)) if numbers else []

    def give_up(self, held: dict[int, int]) -> None:
        self.ready = sorted([*self.ready, *held.values()])
        self.serve()

    def serve(self) -> None:
        """Expect the ready tasks at those that wait, in both orders."""
        while self.line and self.ready:
            worker, count = self.line.pop(0)
            claims = self.hall.waiting.pop(worker).outcome
            assert isinstance(claims, list)
            assert [claim.task for claim in claims] == self.ready[:count]
            del self.ready[:count]
            self.held[worker].update({claim.number: claim.task for claim in claims})

    @invariant()
    def nothing_is_lost_and_nothing_is_held_twice(self) -> None:
        states = self.do(self.hall.call, "states")
        held = {name: sorted(state.tasks) for name, state in states.items() if state.status != "gone"}
        assert held == {name: sorted(tasks.values()) for name, tasks in self.held.items()}
        everything = [*self.ready, *(task for tasks in held.values() for task in tasks)]
        assert len(everything) == len(set(everything)) == self.added - self.finished

    @invariant()
    def same_figures(self) -> None:
        figures = self.do(self.hall.call, "statistics")
        assert (figures.ready, figures.finished, figures.added) == (len(self.ready), self.finished, self.added)
        assert figures.held == sum(map(len, self.held.values()))
        assert figures.claims_waiting == len(self.line)
        busy = sum(bool(tasks) for tasks in self.held.values())
        assert (figures.busy, figures.idle) == (busy, len(self.held) - busy)


def run(backend: str, examples: int, steps: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(type("Machine", (QueueMachine,), {"backend": backend}), settings=chosen)


def test_queue_does_what_the_model_does(anyio_backend_name: str) -> None:
    run(anyio_backend_name, examples=25, steps=30)


@pytest.mark.stress
@pytest.mark.timeout(1_800)
def test_queue_does_what_the_model_does_for_long(anyio_backend_name: str) -> None:
    run(anyio_backend_name, examples=500, steps=50)
