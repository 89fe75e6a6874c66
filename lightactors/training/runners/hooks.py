"""Hooks: who is told of a rollout's start and end, without any say in it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lightactors.training.records import AttemptedRollout, Span

if TYPE_CHECKING:
    from lightactors.training.runners.runner import Runner
    from lightactors.training.tracing.trace import Tracer

logger = logging.getLogger("lightactors")

Moment: TypeAlias = Literal["on_rollout_start", "on_trace_start", "on_trace_end", "on_rollout_end"]


class Hook:
    """Base of hooks: override what you want to be told of, with `def` or `async def`.

    A rollout's moments come in this order: `on_rollout_start`, `on_trace_start`, the agent, `on_trace_end`,
    `on_rollout_end`, and only then does the store hear how it ended. The trace moments run inside the trace:
    what they emit belongs to it. A moment may be waited in; a plain `def` holds up the runner's loop. What a
    hook raises is logged, and changes nothing. Each runner calls the same hook object, from its own thread.
    """

    def on_rollout_start(self, *, agent: Any, runner: Runner, rollout: AttemptedRollout) -> Awaitable[None] | None:
        """A rollout was claimed."""

    def on_trace_start(
        self, *, agent: Any, runner: Runner, tracer: Tracer, rollout: AttemptedRollout
    ) -> Awaitable[None] | None:
        """The trace is open; the agent starts next."""

    def on_trace_end(
        self, *, agent: Any, runner: Runner, tracer: Tracer, rollout: AttemptedRollout
    ) -> Awaitable[None] | None:
        """The agent has ended; the trace is about to be sent."""

    def on_rollout_end(
        self, *, agent: Any, runner: Runner, rollout: AttemptedRollout, spans: Sequence[Span]
    ) -> Awaitable[None] | None:
        """The trace was sent."""


class Moments:
    """The moments of one rollout. Each is told once, and an end only if its start was."""

    def __init__(
        self, hooks: Sequence[Hook], *, agent: object, runner: Runner, tracer: Tracer, rollout: AttemptedRollout
    ) -> None:
        self._hooks = hooks
        self._facts = {"agent": agent, "runner": runner, "rollout": rollout}
        self._tracer = {"tracer": tracer}
        self._ends: list[Moment] = []

    async def start(self) -> None:
        if self._hooks:
            self._ends.append("on_rollout_end")
            await self._tell("on_rollout_start")
            self._ends.append("on_trace_end")
            await self._tell("on_trace_start", **self._tracer)

    async def trace_end(self) -> None:
        await self._tell_end("on_trace_end", **self._tracer)

    async def rollout_end(self, spans: Sequence[Span]) -> None:
        await self._tell_end("on_rollout_end", spans=spans)

    async def _tell_end(self, moment: Moment, **facts: object) -> None:
        if moment in self._ends:
            self._ends.remove(moment)
            await self._tell(moment, **facts)

    async def _tell(self, moment: Moment, **facts: object) -> None:
        for hook in self._hooks:
            try:
                answer = getattr(hook, moment)(**self._facts, **facts)
                if inspect.isawaitable(answer):
                    await answer
            except Exception:
                logger.exception("hook %s failed in %s; the rollout goes on", type(hook).__qualname__, moment)
