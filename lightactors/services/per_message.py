"""What is made once for each message of a file: by the message's shape, and though it may have itself inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from lightactors.services.model import Message, Shape

F = TypeVar("F", bound=Callable[..., Any])


class PerMessage(ABC, Generic[F]):
    """The functions of one kind, readers or writers, for the messages of one file."""

    def __init__(self) -> None:
        self._by_shape = self._table()
        self._made: dict[int, Any] = {}

    @abstractmethod
    def _table(self) -> Mapping[Shape, Callable[[Message], F]]:
        """Return what makes the function of a message, by its shape."""

    def message(self, message: Message) -> F:
        """Return the function of a message."""
        key = id(message)
        if key not in self._made:
            self._made[key] = partial(self._call, key)  # until it is made
            self._made[key] = self._by_shape[message.shape](message)
        made: F = self._made[key]
        return made

    def _call(self, key: int, *args: Any) -> Any:
        return self._made[key](*args)
