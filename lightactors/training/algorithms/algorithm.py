"""Algorithms: what enqueues rollouts, waits for them, learns, and publishes resources."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from lightactors.errors import ContractError
from lightactors.training.algorithms.datasets import Dataset
from lightactors.training.blocking import run_blocking
from lightactors.training.events import ExecutionEvent
from lightactors.training.records import Resources
from lightactors.training.stores.contract import Store


@dataclass(frozen=True)
class Setting:
    """All that an algorithm may ask for, by the names of its parameters."""

    store: Store
    train: Dataset[Any]
    val: Dataset[Any]
    adapter: Any
    initial_resources: Resources
    event: ExecutionEvent
    key: str | None = None  # what this execution is called in the store, also when the program is run again

    def arguments(self, names: set[str]) -> dict[str, Any]:
        """Return the values for those names."""
        return {name: getattr(self, _ALIASES.get(name, name)) for name in names}


_ALIASES = {"train_dataset": "train", "val_dataset": "val"}
_NAMES = {*Setting.__dataclass_fields__, *_ALIASES}


class Algorithm(ABC):
    """Base of algorithms that are classes. `setting` is there before `run` is called."""

    setting: Setting

    @abstractmethod
    def run(self, train: Dataset[Any], val: Dataset[Any]) -> Awaitable[None] | None:
        """Learn. A plain `def` has a thread of its own and reaches the store by `from_thread`."""

    @property
    def name(self) -> str:
        return type(self).__name__

    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.run)

    async def play(self, setting: Setting) -> None:
        """Run with everything that the trainer has set up."""
        self.setting = setting
        if self.is_async():
            outcome = self.run(setting.train, setting.val)
        else:
            outcome = await run_blocking(lambda: self.run(setting.train, setting.val), who=f"algorithm {self.name}")
        if inspect.isawaitable(outcome):
            await outcome

    @property
    def store(self) -> Store:
        return self.setting.store


class FunctionAlgorithm(Algorithm):
    """A function made an algorithm by `@algorithm`; it may still be called as the function it is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise ContractError(
                f"algorithm {function.__name__} is a generator, which would never run; take its yield out"
            )
        parameters = inspect.signature(function).parameters
        if unknown := [name for name in parameters if name not in _NAMES]:
            raise ContractError(
                f"algorithm {function.__name__} asks for {', '.join(unknown)}; it may have {', '.join(sorted(_NAMES))}"
            )
        self._function = function
        self._names = set(parameters)
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__module__ = function.__module__

    def run(self, train: Dataset[Any], val: Dataset[Any]) -> Awaitable[None] | None:
        outcome: Awaitable[None] | None = self._function(**self.setting.arguments(self._names))
        return outcome

    @property
    def name(self) -> str:
        return self.__name__

    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self._function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> str | tuple[Any, ...]:
        # Under its function's name there is this algorithm, and not the function: that can't be pickled by its name.
        name: str = self.__name__
        module = sys.modules.get(self.__module__)
        is_importable = self.__module__ != "__main__" or hasattr(module, "__file__")
        if is_importable and getattr(module, name, None) is self:
            return name
        return FunctionAlgorithm, (self._function,)

    def __repr__(self) -> str:
        return f"<algorithm {self.__name__}>"


def algorithm(function: Callable[..., Awaitable[None] | None]) -> FunctionAlgorithm:
    """Make a function an algorithm. It gets what its parameters name.

    `store`, `train`, `val` (also `train_dataset`, `val_dataset`), `adapter`, `initial_resources`, `event`, which is
    set when it should stop, and `key`, which is the same when the program is run again: rollout ids that are made of
    it let a store on a disk go on where it was (see `run_tasks`). Raises `ContractError` for other names.
    """
    if not inspect.isfunction(function):
        raise ContractError(f"@algorithm decorates a function, got {function!r}; derive a class from Algorithm")
    return FunctionAlgorithm(function)
