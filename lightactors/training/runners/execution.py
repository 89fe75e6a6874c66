"""One attempt under way: the agent in a scope of its own, its trace, and its report to the store."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable

import anyio

from lightactors.actors import loops
from lightactors.errors import ContractError, FencedAttempt, NotFound, StoreError
from lightactors.training.patience import insist
from lightactors.training.records import AttemptedRollout, AttemptStatus, Resources, Span
from lightactors.training.runners.agent import PreparedAgent
from lightactors.training.stores.contract import UNSET, Store
from lightactors.training.tracing.rewards import as_reward
from lightactors.training.tracing.trace import Trace, emit_reward

logger = logging.getLogger("lightactors")


class Execution:
    """One attempt of a rollout, from its claim to its report."""

    def __init__(self, rollout: AttemptedRollout, agent: PreparedAgent, store: Store, trace: Trace) -> None:
        self.rollout = rollout
        self.trace = trace
        self.status: AttemptStatus | None = None  # how it ended
        self.error: Exception | None = None  # what the agent raised
        self.fence: StoreError | None = None  # why the store wants to hear no more of it
        self._agent = agent
        self._store = store
        self._scope = anyio.CancelScope(deadline=_deadline(rollout))
        self._is_reported = False
        self._sending = anyio.Lock(fast_acquire=True)

    @property
    def who(self) -> str:
        return (
            f"agent {self._agent.name} on rollout {self.rollout.rollout_id}, attempt {self.rollout.attempt.attempt_id}"
        )

    # The agent

    async def run(self, find_resources: Callable[[AttemptedRollout], Awaitable[Resources]]) -> None:
        """Run the agent to its end; cancel it when its time is up, or the attempt is fenced."""
        with self._scope:
            try:
                resources = await find_resources(self.rollout)
            except StoreError as error:
                self._fail(error)
            else:
                await self._run_agent(resources)
        if self._scope.cancel_called and self.status != "succeeded":
            self.status = "timeout"
            logger.warning("%s was cancelled: %s", self.who, self.fence or "its timeout_seconds are over")

    async def _run_agent(self, resources: Resources) -> None:
        try:
            _record(self._agent.name, self.trace, await self._agent.run(self.rollout.input, resources, self.rollout))
            self.status = "succeeded"
        except BaseException as error:
            self._fail(loops.current().failure(error))

    def _fail(self, error: Exception) -> None:
        self.status, self.error = "failed", error
        self.trace.add_exception(error)
        logger.error("%s failed", self.who, exc_info=error)

    def cut_short(self, error: BaseException) -> None:
        """Note that the runner is cancelled, which makes the attempt a failed one unless it has ended by itself."""
        if self.status is None:
            self.status = "failed"
            self.trace.add_exception(error)
            logger.warning("%s was cut short by %s", self.who, type(error).__name__)

    # The store

    async def beat(self) -> None:
        """Show the store that the attempt is alive, by its spans or without."""
        if self.fence is None and not self._is_reported:
            if self.trace.has_unsent:
                await self.send()
            else:
                await self._say(status="running")

    async def send(self) -> None:
        """Send the spans that are not sent yet; spans that are refused make the attempt a failed one."""
        if not self.trace.has_unsent:
            return
        async with self._sending:
            if self.fence is None:
                try:
                    await insist(self.trace.send, self._store)
                except (FencedAttempt, NotFound) as error:
                    self._fenced(error)
                except StoreError as error:
                    self._fail(error)

    async def report(self) -> None:
        """Send the last spans and tell the store how the attempt ended."""
        await self.close()
        if self.fence is None and self.status is not None:
            await self._say(status=self.status)

    async def close(self) -> None:
        """Send the last spans."""
        await self.send()
        await self.send()  # where spans were refused, that is a span too
        self._is_reported = True
        self.trace.close()

    async def _say(self, status: AttemptStatus) -> None:
        heard = time.time() if status == "running" else UNSET
        rollout_id, attempt_id = self.rollout.rollout_id, self.rollout.attempt.attempt_id
        try:
            await insist(self._store.update_attempt, rollout_id, attempt_id, status, last_heartbeat_time=heard)
        except (FencedAttempt, NotFound) as error:
            self._fenced(error)
        except StoreError as error:
            logger.error("the store refused that %s is %s: %s", self.who, status, error)

    def _fenced(self, error: StoreError) -> None:
        if self.status is None:
            self._scope.cancel()
        else:
            logger.warning("%s was %s, but too late: %s", self.who, self.status, error)
        self.fence = error


def _deadline(rollout: AttemptedRollout) -> float:
    seconds = rollout.config.timeout_seconds
    return math.inf if seconds is None else anyio.current_time() + seconds


def _record(agent: str, trace: Trace, result: object) -> None:
    """Add what the agent returned to its trace."""
    if result is None:
        return
    if hasattr(result, "__float__"):
        emit_reward(as_reward(result))
    elif isinstance(result, (list, tuple)) and all(isinstance(item, Span) or _is_otel(item) for item in result):
        known = {span.span_id for span in trace.spans}
        for span in result:
            if isinstance(span, Span):
                trace.take(span)
            elif f"{span.context.span_id:016x}" not in known:
                trace.take_otel(span)
    else:
        raise ContractError(
            f"agent {agent} returned a {type(result).__qualname__}: {result!r:.100}; "
            "return its reward as a number, a list of spans, or None"
        )


def _is_otel(item: object) -> bool:
    return all(hasattr(item, name) for name in ("context", "attributes", "events", "links", "status"))
