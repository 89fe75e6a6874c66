"""Where gRPC's objects live, and how calls cross between there and the actors' loop.

On asyncio that is the actors' own loop, and nothing crosses. On trio it is an asyncio loop in a thread, and what
crosses are whole batches. gRPC's awaitables are only ever awaited in tasks of our own there: in a cancel scope of
anyio's they leak cancellations (grpc/grpc#43502).
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lightactors.actors.flag import Flag
from lightactors.actors.loops import Loop
from lightactors.actors.mailbox import Ask, Failure

T = TypeVar("T")


class Io(ABC):
    """An asyncio loop for gRPC, next to the loop that is home to a node's actors."""

    def __init__(self, home: Loop) -> None:
        self.home = home
        self._tasks: set[asyncio.Task[Any]] = set()  # asyncio itself holds them weakly

    @abstractmethod
    def to_io(self, function: Callable[..., object], *args: Any) -> None:
        """Have a function called on gRPC's loop, in the order of these calls."""

    @abstractmethod
    def to_home(self, function: Callable[..., object], *args: Any) -> None:
        """Have a function called on the actors' loop, in the order of these calls."""

    @abstractmethod
    async def close(self) -> None:
        """End, when nothing of gRPC's is left."""

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task; on gRPC's loop."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine among gRPC's tasks and wait for it, at home; who is cancelled here cancels it there."""
        answer = Ask(self.home)
        tasks: list[asyncio.Task[Any]] = []
        self.to_io(lambda: tasks.append(self.start(_answering(function, answer))))
        try:
            value: T = await answer.reply()
        except BaseException:
            if not answer.answered:
                self.to_io(lambda: tasks[0].cancel())
            raise
        return value


async def _answering(function: Callable[[], Coroutine[Any, Any, Any]], answer: Ask) -> None:
    try:
        answer.answer(await function())
    except Exception as error:
        answer.answer(Failure(error))


class SameLoop(Io):
    """The actors' loop is an asyncio loop."""

    def to_io(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)

    def to_home(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)

    async def close(self) -> None:
        """Nothing to end."""


class IoThread(Io):
    """The actors' loop is trio's: gRPC's is in a thread of its own."""

    def __init__(self, home: Loop) -> None:
        super().__init__(home)
        self._loop = asyncio.new_event_loop()
        self._has_ended = Flag()
        self._thread = threading.Thread(target=self._run, name="lightactors gRPC", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
            self._has_ended.set()

    def to_io(self, function: Callable[..., object], *args: Any) -> None:
        self._loop.call_soon_threadsafe(function, *args)

    def to_home(self, function: Callable[..., object], *args: Any) -> None:
        self.home.post(function, *args)

    async def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        await self._has_ended.wait()


def io_for(home: Loop) -> Io:
    """Return where gRPC is to live, next to this loop."""
    return IoThread(home) if home.backend == "trio" else SameLoop(home)
