"""`supervise`: a supervisor for a block, and what spawns below it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

import anyio

from lightactors.actors.cell import Cell
from lightactors.actors.owner import Owner
from lightactors.actors.ref import AnyRef, cell_of
from lightactors.actors.root import options
from lightactors.actors.spawn import Spawner
from lightactors.actors.stopping import stop_all
from lightactors.actors.supervisor import Supervisor
from lightactors.actors.survey import WITHIN
from lightactors.actors.system import raise_failures
from lightactors.actors.tree import Tree
from lightactors.supervision.spec import AutoShutdown, Policy, Strategy


class Supervision(AnyRef, Spawner):
    """An open `supervise` block: what is spawned by it is its supervisor's child.

    To `lightactors` functions (`stop`, `watch`, `why`, `statistics`) it stands for the supervisor; `ref` is the
    supervisor's own ref, to ask for its children.
    """

    __slots__ = ()

    @property
    def ref(self) -> Supervisor:
        """The supervisor."""
        return cast("Supervisor", self._cell.ref)

    def owner(self) -> Owner:
        return self._cell

    def tree(self) -> Tree:
        """Return a snapshot of the supervisor and its children; printing it draws it."""
        return self._cell.tree()

    async def survey(self, *, within: float = WITHIN) -> Tree:
        """Return a snapshot of the supervisor and its children, processes included. See `System.survey`."""
        return await self._cell.survey(within=within)

    def __repr__(self) -> str:
        return f"<supervision {self._cell.ref!r}>"


@asynccontextmanager
async def supervise(
    strategy: Strategy = "one_for_one",
    *,
    name: str | None = None,
    max_restarts: int = 1,
    period: float = 5.0,
    backoff: float = 0.0,
    max_backoff: float = 30.0,
    auto_shutdown: AutoShutdown = "never",
) -> AsyncGenerator[Supervision]:
    """Open a supervisor for the block: `supervisor.spawn(...)` inside it starts children that are started again.

    The parameters are those of `Supervisor`. Children are permanent unless `supervisor.options(restart=...)` says
    otherwise. When the block ends they are stopped, the youngest first. When the restart budget is spent the block is
    cancelled and `RestartsExhausted` raised from it.
    """
    Policy(strategy, max_restarts, period, backoff, max_backoff, auto_shutdown)  # refused here, not as a failed start
    supervisor = await options(name=name).spawn(
        Supervisor,
        strategy,
        max_restarts=max_restarts,
        period=period,
        backoff=backoff,
        max_backoff=max_backoff,
        auto_shutdown=auto_shutdown,
    )
    cell = cell_of(supervisor, "supervise()")
    failures: list[BaseException] = []
    error: BaseException | None = None
    try:
        with anyio.CancelScope() as block:

            def fail(_: Cell, failure: BaseException) -> None:
                failures.append(failure)
                block.cancel()

            cell.hears_failure = fail
            yield Supervision(cell)
    except BaseException as raised:
        error = raised
        raise
    finally:
        await stop_all([cell])
        raise_failures("supervisor", cell.path, failures, error)
