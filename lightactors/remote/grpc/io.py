"""Where gRPC's objects live, and how calls cross between there and the actors' loop.

On asyncio that is the actors' own loop, and nothing crosses. On trio it is an asyncio loop in a thread, and what
crosses are whole batches. gRPC's awaitables are only ever awaited in tasks of our own there: in a cancel scope of
anyio's they leak cancellations (grpc/grpc#43502).
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from lightactors.actors.loops import Loop
from lightactors.actors.mailbox import Ask, Failure

T = TypeVar("T")

_ENDS_WITHIN = 3.0
"""Seconds that connections which were told to close may take."""

_LAST_WORD = 0.01
"""Seconds that gRPC's threads need at most to say that a call is over."""


class Io(ABC):
    """gRPC's objects of one node, next to the loop that is home to its actors."""

    def __init__(self, home: Loop) -> None:
        self.home = home
        self._tasks: set[asyncio.Task[Any]] = set()  # asyncio itself holds them weakly

    @abstractmethod
    def to_io(self, function: Callable[..., object], *args: Any) -> None:
        """Have a function called on gRPC's loop, in the order of these calls."""

    @abstractmethod
    def to_home(self, function: Callable[..., object], *args: Any) -> None:
        """Have a function called on the actors' loop, in the order of these calls."""

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task; on gRPC's loop."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def call(
        self, function: Callable[[], Coroutine[Any, Any, T]], discard: Callable[[T], object] = lambda _: None
    ) -> T:
        """Run a coroutine among gRPC's tasks and wait for it, at home; who is cancelled here cancels it there.

        A result that comes too late for who waited is given to `discard`, there.
        """
        answer = Ask(self.home)
        tasks: list[asyncio.Task[T]] = []
        self.to_io(lambda: tasks.append(self.start(_answering(function, answer))))
        try:
            value: T = await answer.reply()
        except BaseException:
            self.to_io(lambda: _give_up(tasks[0], discard))
            raise
        return value

    async def close(self) -> None:
        """Wait for all tasks to end; at home."""
        await self.call(self._end_tasks)

    async def _end_tasks(self) -> None:
        others = self._tasks - {asyncio.current_task()}
        if others:
            _, late = await asyncio.wait(others, timeout=_ENDS_WITHIN)
            for task in late:
                task.cancel()
        # A call that was given up still has a word to come from gRPC's own threads: a loop that has closed by
        # then would make it an error of whatever loop is the next one.
        await asyncio.sleep(_LAST_WORD)


async def _answering(function: Callable[[], Coroutine[Any, Any, T]], answer: Ask) -> T | None:
    try:
        value = await function()
    except Exception as error:
        answer.answer(Failure(error))
        return None
    answer.answer(value)
    return value


def _give_up(task: asyncio.Task[T], discard: Callable[[T], object]) -> None:
    """Cancel a task, or discard what it has brought already."""

    def ended(task: asyncio.Task[T]) -> None:
        if not task.cancelled() and task.exception() is None and (value := task.result()) is not None:
            discard(value)

    task.cancel()
    task.add_done_callback(ended)


class SameLoop(Io):
    """The actors' loop is an asyncio loop."""

    def to_io(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)

    def to_home(self, function: Callable[..., object], *args: Any) -> None:
        function(*args)


class IoThread(Io):
    """The actors' loop is trio's: gRPC's is in a thread."""

    def __init__(self, home: Loop) -> None:
        super().__init__(home)
        self._loop = _threads_loop()

    def to_io(self, function: Callable[..., object], *args: Any) -> None:
        # In a context of its own: that of the caller says that this is trio.
        self._loop.call_soon_threadsafe(function, *args, context=contextvars.Context())

    def to_home(self, function: Callable[..., object], *args: Any) -> None:
        self.home.post(function, *args)


@cache
def _threads_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of the thread: the program's only one, for gRPC wakes every loop that it was ever used on."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_run, args=(loop,), name="lightactors gRPC", daemon=True)
    thread.start()

    def end() -> None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    atexit.register(end)
    return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def io_for(home: Loop) -> Io:
    """Return where gRPC is to live, next to this loop."""
    return IoThread(home) if home.backend == "trio" else SameLoop(home)
