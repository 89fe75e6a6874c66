"""The trainer: an agent, an algorithm, a store and runners, brought together and run to the end."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import anyio

from lightactors.actors import loops
from lightactors.errors import ConfigurationError, check_whole
from lightactors.training import environment
from lightactors.training.algorithms.algorithm import Algorithm
from lightactors.training.algorithms.baseline import Baseline
from lightactors.training.algorithms.datasets import Dataset
from lightactors.training.algorithms.tasks import TaskResult
from lightactors.training.bundles import AlgorithmPlay, RunnerPlay
from lightactors.training.components import build
from lightactors.training.records import Mode, Resources
from lightactors.training.runners.agent import as_agent, is_agent
from lightactors.training.runners.hooks import Hook
from lightactors.training.runners.runner import Runner
from lightactors.training.stores.contract import Store
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.opening import opened
from lightactors.training.stores.sql import DurableStore
from lightactors.training.strategies import (
    Backend,
    ClientServerExecutionStrategy,
    ExecutionStrategy,
    SharedMemoryExecutionStrategy,
)
from lightactors.training.tracing.adapters import Adapter, TraceToTriplets

T = TypeVar("T")

logger = logging.getLogger("lightactors")

_EXECUTIONS: dict[str, set[int]] = {}
"""The numbers of the executions of a name that this program has had: all by which they can be told apart."""


STRATEGIES: dict[str, Callable[..., ExecutionStrategy]] = {
    "shm": SharedMemoryExecutionStrategy,
    "cs": ClientServerExecutionStrategy,
}


class Trainer:
    """Train an agent: `Trainer(algorithm=search, agent=answer, n_runners=4).fit(train, val)`.

    - `algorithm`: what learns; by default `Baseline`, which only runs the tasks.
    - `agent`: what is trained; may be given to `fit` instead.
    - `n_runners`: how many rollouts run at a time; each runner ends after `max_rollouts` (None: never).
    - `initial_resources`: published before the algorithm starts.
    - `store`: `"memory"`, which keeps what came of the run until the program ends; a file such as `"run.db"`,
      `"sqlite:///run.db"` or `"postgresql://user@host/name"`, where nothing is lost: the same program, run again,
      goes on where it was; or any `Store`. None asks `LIGHTACTORS_TRAINER_STORE` (default: memory).
    - `strategy`: `"shm"`: threads of this process; `"cs"`: processes, on other machines too. None asks
      `LIGHTACTORS_STRATEGY` or `AGL_STRATEGY` (default: shm).
    - `port`: where those are reached (see `ClientServerExecutionStrategy`).
    - `hooks`: told of each rollout's start and end.
    - `adapter`: for algorithms that learn from something else than spans.
    - `backend`: the event loop, `"asyncio"` or `"trio"`; None asks `LIGHTACTORS_BACKEND` (default: asyncio).
    - `progress`: show a line of progress; None: if standard error is a terminal.

    Components may be instances, classes, functions that make one, names, `"package.module:attribute"` or
    `{"type": ..., ...}` with arguments. Raises `ConfigurationError` for anything else.
    """

    def __init__(
        self,
        *,
        algorithm: Any = None,
        agent: Any = None,
        n_runners: int = 1,
        max_rollouts: int | None = None,
        initial_resources: Resources | None = None,
        store: Store | str | Path | Mapping[str, Any] | Callable[..., Store] | None = None,
        strategy: Any = None,
        port: int | None = None,
        runner: Any = Runner,
        tracer: Any = None,
        adapter: Any = TraceToTriplets,
        hooks: Hook | Sequence[Hook] = (),
        backend: Backend | None = None,
        progress: bool | None = None,
    ) -> None:
        self.algorithm = _algorithm(algorithm)
        self.agent = None if agent is None else as_agent(agent)
        self.n_runners = n_runners
        self.max_rollouts = None if max_rollouts is None else check_whole("max_rollouts", max_rollouts)
        self.initial_resources = _resources(initial_resources)
        self.store = _store(environment.text("TRAINER_STORE", None, default="memory") if store is None else store)
        self.adapter = build("adapter", adapter, Adapter, {"triplets": TraceToTriplets})
        self.hooks = _hooks(hooks)
        self.backend: Backend = environment.choice(
            "BACKEND", backend, get_args(Backend), default="asyncio", called="backend"
        )
        self.progress = progress
        self._runner = runner
        self._tracer = tracer
        self._strategy = environment.text("STRATEGY", None, default="shm") if strategy is None else strategy
        self._port = port
        self.strategy = self._build_strategy(n_runners)

    def _build_strategy(self, n_runners: int) -> ExecutionStrategy:
        defaults = {
            "n_runners": n_runners,
            "backend": self.backend,
            "main_thread": "algorithm",
            "server_port": self._port,
        }
        strategy = build("strategy", self._strategy, ExecutionStrategy, STRATEGIES, **defaults)
        if self._port is not None and getattr(strategy, "server_port", None) != self._port:
            raise ConfigurationError(f"port={self._port!r}, but {strategy!r} has another or none; use strategy='cs'")
        return strategy

    # What users call

    def fit(self, *given: Any, agent: Any = None, train_dataset: Any = None, val_dataset: Any = None) -> None:
        """Train: `fit(train, val)`, or `fit(agent, train, val)`; `val` may be left out.

        Blocks until the algorithm has ended, and raises what it or a runner raised. Ctrl-C stops everybody in
        order, and comes out as `KeyboardInterrupt`. In a notebook or an async program, await `afit` instead.
        """
        _refuse_running_loop("fit", "afit")
        task = self._task("fit", given, agent, train_dataset, val_dataset)
        with self._key("fit", task[0]) as key:
            _run(lambda: self._execute(self.strategy, self.algorithm, key, *task), self.strategy.backend)

    async def afit(self, *given: Any, agent: Any = None, train_dataset: Any = None, val_dataset: Any = None) -> None:
        """Train, on the running loop (see `fit`)."""
        task = self._task("afit", given, agent, train_dataset, val_dataset)
        with self._key("fit", task[0]) as key:
            await self._execute(self.strategy, self.algorithm, key, *task)

    def dev(
        self, *given: Any, agent: Any = None, train_dataset: Any = None, val_dataset: Any = None
    ) -> list[TaskResult[Any]]:
        """Take a quick look at the whole path: one runner, the first ten tasks of each dataset, no learning.

        Takes what `fit` takes; returns what came of each task. A strategy that was given as an instance keeps its
        own number of runners.
        """
        _refuse_running_loop("dev", "afit")
        task = self._task("dev", given, agent, train_dataset, val_dataset)
        baseline = Baseline(limit=10)
        strategy = self._build_strategy(1)
        _refuse_algorithm_elsewhere("dev", strategy)
        # Without a key: who takes a look has changed something, and wants to see what comes of it now.
        _run(lambda: self._execute(strategy, baseline, None, *task), strategy.backend)
        return baseline.results

    def run(self, tasks: Dataset[Any], *, mode: Mode | None = "test") -> list[TaskResult[Any]]:
        """Run the agent once on each task, without learning, and return the results in the tasks' order."""
        _refuse_running_loop("run", "arun")
        return _run(lambda: self.arun(tasks, mode=mode), self.strategy.backend)

    async def arun(self, tasks: Dataset[Any], *, mode: Mode | None = "test") -> list[TaskResult[Any]]:
        """Run the agent once on each task, on the running loop (see `run`)."""
        _refuse_algorithm_elsewhere("run", self.strategy)
        once = Baseline(limit=None, mode=mode)
        agent = self._the_agent()
        with self._key("run", agent) as key:
            await self._execute(self.strategy, once, key, agent, _dataset("tasks", tasks), ())
        return once.results

    # How it is done

    async def _execute(
        self,
        strategy: ExecutionStrategy,
        algorithm: Algorithm,
        key: str | None,
        agent: Any,
        train: Dataset[Any],
        val: Dataset[Any],
    ) -> None:
        play_algorithm = AlgorithmPlay(algorithm, train, val, self.adapter, self.initial_resources, self.progress, key)
        play_runner = RunnerPlay(
            self._runner, strategy.worker_prefix, agent, self.hooks, self._tracer, self.max_rollouts
        )
        await strategy.run(play_algorithm, play_runner, self.store)

    @contextmanager
    def _key(self, method: str, agent: Any) -> Generator[str]:
        """Name an execution: the same when the program is run again, and another one for each of its executions.

        One that did not end well leaves its name to the next: a notebook's cell that is run again goes on where it was.
        """
        name = re.sub(r"[^\w.]+", "-", f"{agent.name}-{method}").strip("-")
        taken = _EXECUTIONS.setdefault(name, set())
        number = next(number for number in itertools.count() if number not in taken)
        taken.add(number)
        try:
            yield f"{name}-{number}"
        except BaseException as error:
            taken.remove(number)
            if isinstance(error, (KeyboardInterrupt, SystemExit)) and isinstance(self.store, DurableStore):
                logger.warning("%s was stopped; what has finished is kept: run it again to go on", name)
            raise

    def _task(
        self, method: str, given: tuple[Any, ...], agent: Any, train: Any, val: Any
    ) -> tuple[Any, Dataset[Any], Dataset[Any]]:
        """Return the agent and both datasets, however they were given."""
        values = list(given)
        if values and is_agent(values[0]):
            agent = values.pop(0)
        train = values.pop(0) if values else train
        val = values.pop(0) if values else val
        if values:
            raise ConfigurationError(f"{method}() takes (agent,) train and val, got {values[0]!r} besides")
        prepared = self._the_agent() if agent is None else as_agent(agent)
        return prepared, _dataset("train", train), _dataset("val", val)

    def _the_agent(self) -> Any:
        if self.agent is None:
            raise ConfigurationError("there is no agent; give Trainer(agent=...) or fit(agent, train, val)")
        return self.agent

    def __repr__(self) -> str:
        parts = {name: getattr(self, name) for name in ("algorithm", "agent", "store", "strategy")}
        return f"Trainer({', '.join(f'{name}={part!r}' for name, part in parts.items())})"


def _run(function: Callable[[], Coroutine[Any, Any, T]], backend: Backend) -> T:
    return anyio.run(function, backend=backend)


def _store(given: Any) -> Store:
    if isinstance(given, Path) or (isinstance(given, str) and not _is_import(given)):
        return opened(given)
    if not isinstance(given, (Store, str, Mapping)) and not callable(given):
        raise ConfigurationError(
            f"store={given!r}; give an address such as 'run.db' or 'memory', a Store, a class or function that makes "
            "one, or {'type': ..., ...}"
        )
    return build("store", given, Store, {"memory": MemoryStore})


def _is_import(text: str) -> bool:
    """Tell whether a text is `package.module:attribute`, and no address of a store."""
    module, colon, attribute = text.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), attribute])


def _algorithm(given: Any) -> Algorithm:
    if given is None:
        return Baseline()
    if isinstance(given, Algorithm) or not callable(given) or isinstance(given, type):
        return build("algorithm", given, Algorithm, {"baseline": Baseline})
    raise ConfigurationError(f"algorithm={given!r} is a plain function; decorate it with @lightactors.algorithm")


def _resources(given: Any) -> Resources:
    if given is not None and not (isinstance(given, Mapping) and all(isinstance(name, str) for name in given)):
        raise ConfigurationError(f"initial_resources={given!r}; give a mapping from names to resources")
    return dict(given or {})


def _hooks(given: Any) -> list[Hook]:
    hooks = [given] if isinstance(given, Hook) else given
    if not isinstance(hooks, (list, tuple)) or not all(isinstance(hook, Hook) for hook in hooks):
        raise ConfigurationError(f"hooks={given!r}; give an instance of Hook, or a list of them")
    return list(hooks)


def _dataset(name: str, given: Any) -> Dataset[Any]:
    if given is None:
        return ()
    if not isinstance(given, Dataset) or isinstance(given, (str, bytes, Mapping)):
        raise ConfigurationError(f"{name}={given!r} is no dataset; give a list, or anything with len() and [index]")
    return given


def _refuse_running_loop(method: str, instead: str) -> None:
    if loops.is_any_running():
        raise ConfigurationError(
            f"{method}() blocks, and an event loop is running here; use `await trainer.{instead}(...)`"
        )


def _refuse_algorithm_elsewhere(method: str, strategy: ExecutionStrategy) -> None:
    if not strategy.runs_algorithm_here:
        raise ConfigurationError(
            f"{method}() returns what comes of each task, and with {strategy!r} the algorithm that knows it is in "
            "another process; use main_process='algorithm' and role='both'"
        )
