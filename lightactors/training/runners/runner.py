"""Runners: claim a rollout, run the agent on it, report; again and again until asked to stop."""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext

import anyio
import anyio.lowlevel

from lightactors.contract import actor, handler
from lightactors.errors import ConfigurationError, NotFound, raise_together
from lightactors.training.events import ExecutionEvent
from lightactors.training.patience import insist
from lightactors.training.records import AttemptedRollout, Mode, Resources, Rollout
from lightactors.training.runners.agent import as_agent
from lightactors.training.runners.claims import Claims
from lightactors.training.runners.execution import Execution
from lightactors.training.runners.hooks import Hook, Moments
from lightactors.training.runners.pulse import Pulse
from lightactors.training.runners.workers import whereabouts
from lightactors.training.stores.contract import Store
from lightactors.training.tracing.trace import Tracer

logger = logging.getLogger("lightactors")

LAST_WORDS = 3.0
"""Seconds that a cancelled runner has to give back what it was working on, or to report how that ended."""


@actor
class Runner:
    """Runs an agent on the rollouts of a store, one at a time.

    - `agent`: anything that `as_agent` takes; of a class the runner makes an instance of its own.
    - `store`: an object, or a ref to one anywhere.
    - `worker_id`: who it is in the store; no two runners may have the same.
    - `hooks`: told of each rollout's start and end.
    - `tracer`: opens the traces.
    - `heartbeat_interval`: seconds between signs of life, also while a plain function runs.
    - `max_rollouts`: how many `run` does at most; None: no limit.

    Raises `ContractError` and `ConfigurationError` for values that can't work.
    """

    def __init__(
        self,
        agent: object,
        store: Store,
        *,
        worker_id: str,
        hooks: Sequence[Hook] = (),
        tracer: Tracer | None = None,
        heartbeat_interval: float = 10.0,
        max_rollouts: int | None = None,
    ) -> None:
        if not heartbeat_interval > 0:
            raise ConfigurationError(f"heartbeat_interval={heartbeat_interval!r}; give seconds, more than 0")
        if max_rollouts is not None and max_rollouts < 1:
            raise ConfigurationError(f"max_rollouts={max_rollouts!r}; give at least 1, or None for no limit")
        self.agent = as_agent(agent).own()
        self.store = store
        self.worker_id = worker_id
        self.hooks = tuple(hooks)
        self.tracer = Tracer() if tracer is None else tracer
        self.heartbeat_interval = heartbeat_interval
        self.max_rollouts = max_rollouts
        self._resources = _KnownResources(store)
        self._ends = set[ExecutionEvent]()
        self._succeeded = 0
        self._failed = 0

    @handler(interleaved=True)
    async def run(self, event: ExecutionEvent | None = None) -> int:
        """Run rollouts until the runner is to stop or `max_rollouts` are done; return how many were.

        It is to stop when the event is set, or the runner itself is stopped (`lightactors.stop`): that ends a wait
        for work at once; a rollout under way is finished first. If the runner is
        cancelled instead, the rollout goes back to the queue. What an agent raises fails its attempt
        and no more. A `StoreError` about a report is logged. While a store elsewhere can't be reached, the runner
        waits and then goes on where it was; what else the store raises ends the run.
        """
        done = 0
        claims = Claims(self.store, self.worker_id)
        with self._end(event) as end:
            async with self._alive() as pulse:
                with anyio.CancelScope() as waiting, end.cancelling(waiting):
                    await pulse.announce()
                while not end.is_set() and done != self.max_rollouts:
                    rollout = await claims.next(end)
                    if rollout is not None:
                        await self._execute(rollout, pulse, claims.give_back)
                        done += 1
                        # A store in memory and a quick agent never wait: others want a turn too.
                        await anyio.lowlevel.checkpoint()
                await pulse.say_goodbye()
        return done

    def on_drain(self) -> None:
        """Have the runs under way end after their rollouts."""
        for end in self._ends:
            end.set()

    @contextmanager
    def _end(self, event: ExecutionEvent | None) -> Generator[ExecutionEvent]:
        """Return what ends one run: the event, if there is one, or a stop of the runner."""
        end = ExecutionEvent()
        self._ends.add(end)
        try:
            with nullcontext() if event is None else event.passed_on(end):
                yield end
        finally:
            self._ends.remove(end)

    @handler(interleaved=True)
    async def step(self, input: object, *, resources: Resources | None = None, mode: Mode | None = None) -> Rollout:
        """Run one rollout past the queue and return what became of it; raise what the agent raised.

        `resources` are published as a snapshot of their own; None means the latest.
        """
        published = None if resources is None else await self.store.add_resources(resources)
        rollout = await self.store.start_rollout(
            input, mode, None if published is None else published.resources_id, worker_id=self.worker_id
        )
        async with self._alive() as pulse:
            execution = await self._execute(rollout, pulse)
        if execution.error is not None:
            raise execution.error
        ended = await self.store.get_rollout_by_id(rollout.rollout_id)
        return rollout if ended is None else ended

    @asynccontextmanager
    async def _alive(self) -> AsyncGenerator[Pulse]:
        """Beat during the block; failures come out as themselves."""
        pulse = Pulse(self.store, self.worker_id, self.heartbeat_interval, self._statistics)
        errors: list[Exception] = []
        async with anyio.create_task_group() as tasks:

            async def beat() -> None:
                try:
                    await pulse.run()
                except Exception as error:
                    errors.append(error)
                    tasks.cancel_scope.cancel()

            tasks.start_soon(beat)
            try:
                yield pulse
            except Exception as error:
                errors.append(error)
            finally:
                tasks.cancel_scope.cancel()
        raise_together(f"worker {self.worker_id} failed more than once", errors)

    async def _execute(
        self, rollout: AttemptedRollout, pulse: Pulse, give_back: Callable[[], Awaitable[None]] | None = None
    ) -> Execution:
        """Run the agent on a rollout, and report how that ended; if it is cut short, give it back where that can be."""
        with self.tracer.trace(rollout) as trace:
            execution = Execution(rollout, self.agent, self.store, trace)
            moments = Moments(self.hooks, agent=self.agent.given, runner=self, tracer=self.tracer, rollout=rollout)
            with pulse.keeping(execution):
                try:
                    await moments.start()
                    await execution.run(self._resources.of)
                    await moments.trace_end()
                    await execution.send()
                    await moments.rollout_end(trace.spans)
                    await execution.report()
                except BaseException as error:
                    await self._say_last_words(execution, moments, error, give_back)
                    raise
        self._count(execution)
        return execution

    async def _say_last_words(
        self,
        execution: Execution,
        moments: Moments,
        reason: BaseException,
        give_back: Callable[[], Awaitable[None]] | None,
    ) -> None:
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + LAST_WORDS) as words:
            has_ended = execution.status is not None
            execution.cut_short(reason)
            try:
                if has_ended or give_back is None or not isinstance(reason, anyio.get_cancelled_exc_class()):
                    await execution.report()
                else:  # nobody's failure: another runner may do it, now or when the program runs again
                    await execution.close()
                    await give_back()
            except Exception:
                # The reason is on its way already, and often is the same broken store.
                logger.exception("%s could not be reported", execution.who)
            await moments.trace_end()
            await moments.rollout_end(execution.trace.spans)
        if words.cancelled_caught:
            logger.error("%s could not be reported within %s s", execution.who, LAST_WORDS)

    def _count(self, execution: Execution) -> None:
        if execution.status == "succeeded":
            self._succeeded += 1
        else:
            self._failed += 1

    def _statistics(self) -> Mapping[str, object]:
        return {"succeeded": self._succeeded, "failed": self._failed, **whereabouts()}


_KEPT = 8


class _KnownResources:
    """The resources that a runner has fetched, the last few of them.

    An id is not enough to know them by: `update_resources` puts a new version under the same id. A rollout is
    to see what its id meant when it was enqueued, or something newer. So what was fetched serves the rollouts
    that are older than the claim it was fetched for, by the store's clock.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fetched: OrderedDict[str, tuple[float, Resources]] = OrderedDict()

    async def of(self, rollout: AttemptedRollout) -> Resources:
        """Return a rollout's resources; raise `NotFound` where the store has lost them."""
        if rollout.resources_id is None:
            latest = await insist(self._store.get_latest_resources)
            return {} if latest is None else latest.resources
        since, resources = self._fetched.get(rollout.resources_id, (-math.inf, {}))
        if rollout.start_time < since:
            self._fetched.move_to_end(rollout.resources_id)
            return resources
        return await self._fetch(rollout.resources_id, rollout.attempt.start_time)

    async def _fetch(self, resources_id: str, since: float) -> Resources:
        update = await insist(self._store.get_resources_by_id, resources_id)
        if update is None:
            raise NotFound(f"the store has no resources {resources_id!r}; publish them before the rollout")
        self._fetched[resources_id] = (since, update.resources)
        self._fetched.move_to_end(resources_id)
        if len(self._fetched) > _KEPT:
            self._fetched.popitem(last=False)
        return update.resources


@asynccontextmanager
async def run_context(
    agent: object,
    store: Store,
    *,
    worker_id: str = "debug",
    hooks: Sequence[Hook] = (),
    tracer: Tracer | None = None,
) -> AsyncGenerator[Runner]:
    """Give a runner that needs no actor and no strategy, to try an agent out: `await runner.step(task)`."""
    yield Runner(agent, store, worker_id=worker_id, hooks=hooks, tracer=tracer)
