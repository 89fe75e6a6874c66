"""`lightactors runner`: runners that join a store, each in a place of its own, under a supervisor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import anyio

import lightactors as la
from lightactors.cli.access import Access
from lightactors.cli.running import say
from lightactors.cli.seat import Seat
from lightactors.cli.session import Session, wait_for_session
from lightactors.cli.targets import load_agent
from lightactors.supervision.ladder import Ladder
from lightactors.supervision.spec import Place

_RESTARTS = 5
"""How often, for each runner, one may die within `_PERIOD` before it is not started again."""

_PERIOD = 60.0

_GRACE = 5.0
"""Seconds that a runner has to report its rollout as cut short, and to leave, after `grace` is over."""


@dataclass(frozen=True)
class Joining:
    """Who joins which store. The runners are called by `name` and a number."""

    access: Access
    agent: str
    name: str
    n_runners: int
    place: Place
    max_rollouts: int | None
    grace: float
    once: bool

    def check(self) -> None:
        """Raise `CommandError` for an agent that can't be had: once, before each of the runners would."""
        load_agent(self.agent)

    async def run(self) -> None:
        """Run until every runner has done its `max_rollouts`, or until cancelled; with `once`, for one store only."""
        async with la.open_system("runners", grace=Ladder(self.grace, _GRACE, _GRACE, _GRACE)):
            while True:
                session = await wait_for_session(self.name, self.access)
                is_over = await self._serve(session)
                if self.once or not is_over:
                    return
                say("the store was stopped; waiting for the next one")

    async def _serve(self, session: Session) -> bool:
        """Have the runners run; tell whether the session was over before they were done."""
        is_over = False
        await session.give_back(self._workers)
        async with anyio.create_task_group() as tasks:

            async def attend() -> None:
                nonlocal is_over
                await session.until_over()
                is_over = True
                tasks.cancel_scope.cancel()

            tasks.start_soon(attend)
            try:
                await self._run_crew()
            finally:
                await session.leave(self._workers)
            tasks.cancel_scope.cancel()
        return is_over

    async def _run_crew(self) -> None:
        async with la.supervise(
            name="crew",
            max_restarts=_RESTARTS * self.n_runners,
            period=_PERIOD,
            backoff=0.1,
            auto_shutdown="all_significant",
        ) as crew:
            for worker in self._workers:
                seats = crew.options(name=worker, place=self.place, restart="transient", significant=True)
                await seats.spawn(Seat, self.access, self.agent, worker, self.max_rollouts)
            say(f"{self._who()} {self.agent} for {self.access.address}; Ctrl-C stops")
            await la.watch(crew)

    @property
    def _workers(self) -> Sequence[str]:
        return [f"{self.name}-{number}" for number in range(self.n_runners)]

    def _who(self) -> str:
        first, *others = self._workers
        return f"{first} to {others[-1]} run" if others else f"{first} runs"
