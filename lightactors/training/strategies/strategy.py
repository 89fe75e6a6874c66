"""What every execution strategy is: it runs an algorithm and runners against a store, to the end."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio

from lightactors.actors import System
from lightactors.errors import ConfigurationError, SpawnError, StoreError
from lightactors.training.events import ExecutionEvent
from lightactors.training.stores.contract import Store
from lightactors.training.strategies.meeting import STORE

Backend = Literal["asyncio", "trio"]


class AlgorithmBundle(Protocol):
    """What an execution runs once: it enqueues rollouts and waits for them."""

    def __call__(self, store: Store, event: ExecutionEvent, /) -> Awaitable[None]: ...


class RunnerBundle(Protocol):
    """What an execution runs once per worker: it claims rollouts and runs them."""

    def __call__(self, store: Store, worker_id: int, event: ExecutionEvent, /) -> Awaitable[None]: ...


class ExecutionStrategy(ABC):
    """How an algorithm and its runners are brought together with a store."""

    backend: Backend

    @property
    def runs_algorithm_here(self) -> bool:
        """Whether the algorithm runs in this process, where what it keeps can be seen afterwards."""
        return True

    @property
    def worker_prefix(self) -> str:
        """How the names of this process's workers begin, which no other process's may."""
        return "runner"

    @abstractmethod
    async def run(self, algorithm: AlgorithmBundle, runner: RunnerBundle, store: Store | str | Path) -> None:
        """Run both to the end, on the running loop; raise what they raised, several as an exception group.

        The store may be given by its address (see `open_store`).
        """

    def execute(self, algorithm: AlgorithmBundle, runner: RunnerBundle, store: Store | str | Path) -> None:
        """Run both to the end, on a loop of its own: for scripts. A running loop calls `run`."""
        anyio.run(self.run, algorithm, runner, store, backend=self.backend)


async def adopted(system: System, store: Store) -> Store:
    """Give a store a mailbox and a thread; raise its own error where it can't be opened."""
    try:
        return await system.options(name=STORE, place="thread").adopt(store)
    except SpawnError as error:
        if isinstance(error.__cause__, StoreError):
            raise error.__cause__ from None
        raise


def installed(backend: Backend) -> Backend:
    """Return the name of a loop; raise `ConfigurationError` if its library is not there."""
    if importlib.util.find_spec(backend) is None:
        raise ConfigurationError(f"backend={backend!r} is not installed; pip install 'lightactors[{backend}]'")
    return backend


def one_of(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """Return the value of an argument; raise `ConfigurationError` if it is none of the choices."""
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r}; choose from {', '.join(map(repr, choices))}")
    return value
