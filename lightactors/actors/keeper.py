"""The keeper: what an owner has whose children are started again after their end.

It hears of every end, asks the plan (`supervision.restarts`), and carries it out.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from lightactors.actors import owner as owners
from lightactors.actors.flag import Flag
from lightactors.actors.mailbox import Ask
from lightactors.actors.owner import State
from lightactors.actors.stopping import stop_all
from lightactors.errors import ActorStopped, ConfigurationError, RestartsExhausted, shown
from lightactors.supervision.ladder import Rung
from lightactors.supervision.restarts import Budget, Member, Plan, after_end, delay, is_restarted

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.owner import Owner
    from lightactors.supervision.spec import ChildOptions, Policy, Restart

logger = logging.getLogger("lightactors")


def cannot_be_remade() -> None:
    """Stand where an actor would be made anew, for one that was adopted."""
    raise AssertionError("an adopted instance was to be started again")


class Keeper:
    """Keeps an owner's children alive, as its policy says. Used on the owner's loop, but for `is_at_work`."""

    def __init__(self, owner: Owner, policy: Policy, *, keeps_temporary: bool = True) -> None:
        self.policy = policy
        self._keeps_temporary = keeps_temporary  # an end of theirs ends nobody else
        self._owner = owner
        self._budget = Budget(policy.max_restarts, policy.period)
        self._ended: deque[Cell] = deque()
        self._failures: deque[BaseException] = deque(maxlen=policy.max_restarts + 1)
        self._busy = 0  # how many tasks restart children
        self._scopes = set[anyio.CancelScope]()  # of those that have begun
        self._done = Flag()  # raised when the last of them has ended after `close`
        self._is_closed = False

    def allow(self, max_restarts: int) -> None:
        """From now on allow so many restarts within the period."""
        self.policy = replace(self.policy, max_restarts=max_restarts)
        self._budget.max_restarts = max_restarts
        self._failures = deque(self._failures, max_restarts + 1)

    def takes(self, child: ChildOptions) -> bool:
        """Tell whether such a child's end is for the keeper to deal with."""
        return self._keeps_temporary or self.restart_of(child) != "temporary"

    def restart_of(self, child: ChildOptions) -> Restart:
        """Return when a child is started again."""
        return child.restart or self.policy.restart

    def is_at_work(self) -> bool:
        """Tell whether it still starts children again; from any thread."""
        return not self._is_closed

    def starts_again(self, cell: Cell) -> bool:
        """Tell whether another incarnation follows the one that has ended; from any thread."""
        return is_restarted(self.restart_of(cell.options), failed=cell.has_failed())

    def failed_at_its_end(self, cell: Cell, error: BaseException) -> None:
        """Hear that a child has failed that is not to be started again, for it was being stopped."""
        logger.error("actor %s failed while it was being stopped", cell.path, exc_info=error)

    def ended(self, cell: Cell) -> None:
        """Hear that a child's incarnation has ended by itself."""
        self._ended.append(cell)
        # One at a time where a restart touches the siblings; else a slow start must not hold the others up.
        if not self._busy or self.policy.strategy == "one_for_one":
            self._busy += 1
            context = self._owner.system.context.copy()
            context.run(owners.current.set, self._owner)
            self._owner.loop.start(self._run, f"supervisor of {self._owner.path}", context)

    async def renew(self, cell: Cell) -> None:
        """End a child's incarnation and begin another one, without touching the budget.

        If its start fails, it has ended by itself.
        """
        if cell.remake is cannot_be_remade:
            raise ConfigurationError(f"actor {cell.path} was adopted and can't be made anew; stop it, spawn its class")
        await stop_all([cell], suspend=True)
        await self._start(cell)

    async def close(self) -> None:
        """Restart nobody any more; who waited for it ends for good."""
        self._is_closed = True
        for scope in self._scopes:
            scope.cancel()
        if self._busy:
            await self._done.wait()
        self._end_those_at_rest()

    async def _run(self) -> None:
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                while self._ended and not self._is_closed:
                    await self._deal_with_or_fail(self._ended.popleft())
        finally:
            self._scopes.remove(scope)
            self._busy -= 1
            if self._is_closed and not self._busy:
                self._done.set()

    async def _deal_with_or_fail(self, cell: Cell) -> None:
        try:
            await self._deal_with(cell)
        except Exception as error:  # a fault of ours: it must not leave a child at rest for ever, and nobody the wiser
            self._end_for_good(cell)
            self._owner.child_failed(cell, error)

    async def _deal_with(self, cell: Cell) -> None:
        if cell.state is not State.RESTARTING:
            return  # it was stopped, or has been started again with its siblings
        failed = cell.has_failed()
        if failed:
            self._note(cell)
        plan = self._plan(cell, failed)
        if plan.start:
            restarts = self._budget.spend(self._owner.loop.time())
            if restarts is None:
                self._give_up(cell)
                return
            await self._restart(plan, restarts)
        else:
            self._forget(plan)
        if plan.shut_down:
            self._owner.shut_down()

    def _note(self, cell: Cell) -> None:
        error = cell.error or ActorStopped(f"actor {cell.path} was cancelled, and nobody had asked for it")
        self._failures.append(error)
        logger.error("actor %s failed", cell.path, exc_info=error)

    def _plan(self, cell: Cell, failed: bool) -> Plan:
        members = [
            Member(child.name, self.restart_of(child.options), child.options.significant)
            for child in list(self._owner.children.values())
        ]
        policy = self.policy
        return after_end(
            members, cell.name, failed=failed, strategy=policy.strategy, auto_shutdown=policy.auto_shutdown
        )

    async def _restart(self, plan: Plan, restarts: int) -> None:
        children = self._owner.children
        await stop_all([children[name] for name in plan.stop], together=self.policy.together, suspend=True)
        self._forget(plan)
        if self.policy.backoff:
            await anyio.sleep(delay(restarts, self.policy.backoff, self.policy.max_backoff, random.random()))
        for name in plan.start:
            cell = children.get(name)
            if cell is not None and not await self._start(cell):
                return  # its end comes back to `ended`; the siblings after it are started with it

    async def _start(self, cell: Cell) -> bool:
        started = Ask(None, cell.loop)
        cell.order(cell.restart, started)
        timeout = cell.options.start_timeout
        with anyio.move_on_after(timeout) as scope:
            try:
                await started.reply()
            except Exception:
                return cell.was_stopped()  # then nothing comes back, and the next one's turn it is
        if scope.cancelled_caught:
            # Suspended first: its end is dealt with below, and must not be reported to `ended` besides.
            cell.order(cell.suspend)
            cell.order(cell.fail, TimeoutError(f"actor {cell.path} was not ready within start_timeout={timeout} s"))
            (rung,) = await stop_all([cell], suspend=True)
            if rung is Rung.ABANDON:
                self._give_up(cell)
            else:
                self.ended(cell)
            return False
        logger.info("actor %s was started again as %s", cell.path, cell.address)
        return True

    def _give_up(self, cell: Cell) -> None:
        policy = self.policy
        error = RestartsExhausted(
            f"actor {cell.path} ended once too often: "
            f"max_restarts={policy.max_restarts} in period={policy.period} s were used up; "
            + ("it ended without an error" if cell.error is None else f"its last error: {shown(cell.error)}"),
            self._failures,
        )
        error.__cause__ = cell.error
        self._end_for_good(cell)
        self._owner.child_failed(cell, error)

    def _forget(self, plan: Plan) -> None:
        for name in plan.forget:
            self._end_for_good(self._owner.children.get(name))

    def _end_those_at_rest(self) -> None:
        for child in list(self._owner.children.values()):
            if child.state is State.RESTARTING:
                self._end_for_good(child)

    def _end_for_good(self, cell: Cell | None) -> None:
        if cell is not None:
            cell.order(cell.end_for_good)
