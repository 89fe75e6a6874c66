"""Shared memory: the algorithm and the runners in threads of one process."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import anyio

from lightactors.actors import Flag, System, open_system
from lightactors.actors.ref import AnyRef, cell_of
from lightactors.actors.stopping import stop_all
from lightactors.errors import ActorStopped, ConfigurationError, check_seconds, check_whole, raise_together
from lightactors.supervision.ladder import Ladder
from lightactors.supervision.spec import Place
from lightactors.training import environment
from lightactors.training.events import ExecutionEvent
from lightactors.training.runners.leftovers import leftovers_given_back
from lightactors.training.stores.contract import Store
from lightactors.training.stores.opening import opened
from lightactors.training.strategies.part import Part
from lightactors.training.strategies.strategy import (
    AlgorithmBundle,
    Backend,
    ExecutionStrategy,
    RunnerBundle,
    adopted,
    installed,
    one_of,
)

logger = logging.getLogger("lightactors")

MainThread = Literal["algorithm", "runner"]


@dataclass
class _Cast:
    """Who takes part in an execution, and what has become of them."""

    event: ExecutionEvent = field(default_factory=ExecutionEvent)
    errors: list[BaseException] = field(default_factory=list)
    playing: dict[str, Part] = field(default_factory=dict)
    nobody_plays: Flag = field(default_factory=Flag)

    async def play(self, name: str, part: Part) -> None:
        """See one part through to its end."""
        try:
            await part.run()
        except ActorStopped:
            logger.info("%s was cancelled", name)
        except Exception as error:
            self.errors.append(error)
        finally:
            del self.playing[name]
            if name == "algorithm":
                self.event.set()
            elif self.playing.keys() == {"algorithm"} and not self.event.is_set():
                logger.warning("every runner has ended; rollouts that the algorithm still waits for will not run")
            if not self.playing:
                self.nobody_plays.set()

    def raise_errors(self) -> None:
        raise_together("several parts of the execution failed", self.errors)


class SharedMemoryExecutionStrategy(ExecutionStrategy):
    """Everybody in one process: the algorithm and each runner in a thread and an event loop of their own.

    One of them has the main thread: `main_thread="runner"` (then `n_runners` must be 1) or `"algorithm"`. The
    execution ends when the algorithm has ended; the runners are then asked to stop. Any failure and Ctrl-C ask
    everybody to stop: they may finish alone for `graceful_delay` seconds, are then cancelled, and a thread
    that still runs `join_timeout` seconds later is reported by name and stack, and left behind. A second
    Ctrl-C cancels at once, a third kills the program. Ctrl-C leaves `execute` as `KeyboardInterrupt`, after the
    stop; SIGTERM and SIGHUP stop as the first Ctrl-C does, and leave it as `SystemExit`.

    `managed_store=True` gives the store a mailbox and a thread, so that all may use it; False passes the object
    itself; None asks `LIGHTACTORS_MANAGED_STORE` or `AGL_MANAGED_STORE` (default: yes). `poll_interval` is
    accepted for Agent-Lightning's sake: nothing polls. `backend` is the loop that `execute` runs on.

    Raises `ConfigurationError` for values that can't work.
    """

    def __init__(
        self,
        n_runners: int = 1,
        main_thread: MainThread = "runner",
        join_timeout: float = 15.0,
        graceful_delay: float = 5.0,
        poll_interval: float = 0.05,
        managed_store: bool | None = None,
        *,
        backend: Backend = "asyncio",
    ) -> None:
        self.n_runners = check_whole("n_runners", n_runners)
        self.main_thread = one_of("main_thread", main_thread, get_args(MainThread))
        self.join_timeout = check_seconds("join_timeout", join_timeout)
        self.graceful_delay = check_seconds("graceful_delay", graceful_delay)
        self.poll_interval = check_seconds("poll_interval", poll_interval)
        self.managed_store = environment.flag("MANAGED_STORE", managed_store, default=True)
        self.backend = installed(one_of("backend", backend, get_args(Backend)))
        if main_thread == "runner" and n_runners != 1:
            raise ConfigurationError(
                f"main_thread='runner' with n_runners={n_runners}: the main thread has room for one runner; "
                "use main_thread='algorithm' for more"
            )

    async def run(self, algorithm: AlgorithmBundle, runner: RunnerBundle, store: Store | str | Path) -> None:
        store = opened(store)
        cast = _Cast()
        async with open_system("execution", grace=self.graceful_delay) as system:
            system.on_interrupt = cast.event.set
            shared = await self._share(system, store)
            async with leftovers_given_back(shared):
                await self._play(system, cast, algorithm, runner, shared)
            cast.raise_errors()

    async def _share(self, system: System, store: Store) -> Store:
        if not self.managed_store or isinstance(store, AnyRef):
            return store
        return await adopted(system, store)

    async def _play(
        self, system: System, cast: _Cast, algorithm: AlgorithmBundle, runner: RunnerBundle, store: Store
    ) -> None:
        parts: dict[str, tuple[Any, ...]] = {"algorithm": (algorithm, store)}
        parts |= {f"runner-{number}": (runner, store, number) for number in range(self.n_runners)}
        for name, given in parts.items():
            options = system.options(name=name, place=self._place(name))
            cast.playing[name] = await options.spawn(Part, *given, event=cast.event)
        async with anyio.create_task_group() as everybody:
            for name, part in list(cast.playing.items()):
                everybody.start_soon(cast.play, name, part)
            await cast.event
            await self._wind_down(system, cast)

    def _place(self, name: str) -> Place:
        return "task" if name.startswith(self.main_thread) else "thread"

    async def _wind_down(self, system: System, cast: _Cast) -> None:
        with anyio.move_on_after(self.graceful_delay):
            await _first(cast.nobody_plays, system.hurry)
        # All at once: none of them owns another, and one that takes its time must not hold up the others' cancellation.
        async with anyio.create_task_group() as stops:
            for part in cast.playing.values():
                stops.start_soon(stop_all, [cell_of(part, "stop")], Ladder(0, self.join_timeout))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n_runners={self.n_runners}, main_thread={self.main_thread!r})"


async def _first(*flags: Flag) -> None:
    """Wait for the first of some flags."""
    async with anyio.create_task_group() as tasks:

        async def wait(flag: Flag) -> None:
            await flag.wait()
            tasks.cancel_scope.cancel()

        for flag in flags:
            tasks.start_soon(wait, flag)
