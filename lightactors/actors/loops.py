"""The seam to the event loop: four things that the hot path needs and anyio does more slowly.

A `Loop` stands for one running event loop. It makes slots (a value that one task waits for), starts tasks,
takes calls from other threads, and lets other tasks run. anyio stays the API for all that is not hot.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from lightactors.errors import ActorStopped, ExecutionError

if TYPE_CHECKING:
    import trio

FAIR_SHARE = 64
"""Handlers that may run in their callers, on one loop, before everybody else gets a turn."""


class Interruption(KeyboardInterrupt):
    """SIGINT came while a handler kept its loop from turning: raised in that handler, it fails it and nothing else."""


class Slot(Protocol):
    """A value that one task waits for; the first `set` counts, and one after a cancelled wait is ignored."""

    def set(self, value: object) -> None: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...


class Loop(ABC):
    """One running event loop, as much of it as actors need."""

    backend: str

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.share = FAIR_SHARE
        self.inline: Any = None  # the cell whose handler runs in its caller at this moment
        self._posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._waking = False

    @abstractmethod
    def is_running_here(self) -> bool:
        """Tell whether the caller runs in this very loop."""

    @abstractmethod
    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function when this loop comes round; on the loop."""

    @abstractmethod
    def slot(self) -> Slot:
        """Return a new slot; it belongs to this loop and is set only from it (elsewhere: `post`)."""

    @abstractmethod
    def start(
        self, function: Callable[[], Coroutine[Any, Any, None]], name: str, context: contextvars.Context
    ) -> object:
        """Start a task that nobody waits for; the caller owns the returned task and must see to its end."""

    @abstractmethod
    def time(self) -> float:
        """Return the loop's time in seconds; a test's may be virtual."""

    @abstractmethod
    async def pause(self) -> None:
        """Let every other task run once, and be cancelled here if somebody asked for it."""

    def failure(self, error: BaseException) -> Exception:
        """Return what a handler raised as its failure; raise it again if it is a cancellation or Ctrl-C on its way."""
        if isinstance(error, Exception):
            return error
        if isinstance(error, Interruption):
            return ActorStopped("the handler was interrupted by SIGINT")
        if isinstance(error, (KeyboardInterrupt, GeneratorExit, anyio.get_cancelled_exc_class())):
            raise error
        # An exit, or an exception of the user's that is none: it must end neither the loop nor its thread.
        what = f"sys.exit({error.code!r}) was called" if isinstance(error, SystemExit) else f"{error!r} was raised"
        failure = ExecutionError(f"{what}; return or raise an Exception instead")
        failure.__cause__ = error
        return failure

    @abstractmethod
    def _wake(self) -> None:
        """Have `_run_posted` called in the loop; from any thread. Raises RuntimeError when the loop is gone."""

    async def breathe(self) -> None:
        """Pause, and open a new fair share."""
        await self.pause()
        self.share = FAIR_SHARE

    async def take_share(self) -> None:
        """Go on at once, as long as a fair share lasts; then let everybody else have a turn first."""
        if self.share <= 0:
            await self.breathe()
        self.share -= 1

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` in the loop, soon, in the order of posting; from any thread.

        A burst of posts costs one wake-up. Posts to a loop that has ended are dropped: whoever they were
        for has ended with it.
        """
        self._posted.append((function, args))
        if not self._waking:
            self._wake_once()

    def _wake_once(self) -> None:
        self._waking = True
        try:
            self._wake()
        except RuntimeError:
            self._posted.clear()
            self._waking = False

    def order(self, function: Callable[..., object], *args: Any) -> None:
        """Call `function` in the loop: at once if that is where we are, else soon."""
        if self.is_running_here():
            function(*args)
        else:
            self.post(function, *args)

    def _run_posted(self) -> None:
        # Lowered first: a post that comes during the run either is still seen by it or wakes the loop again.
        self._waking = False
        posted = self._posted
        try:
            while posted:
                function, args = posted.popleft()
                function(*args)
        finally:
            if posted:  # one has raised, and the others are still to be called
                self._wake_once()


class _AsyncioSlot:
    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[Any]) -> None:
        self._future = future

    def set(self, value: object) -> None:
        if not self._future.done():
            self._future.set_result(value)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._future.__await__()


class AsyncioLoop(Loop):
    """An asyncio event loop of any make."""

    backend = "asyncio"

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()

    def is_running_here(self) -> bool:
        # The variant of get_running_loop() that doesn't raise; asyncio exports it for framework authors.
        return asyncio._get_running_loop() is self._loop  # noqa: SLF001

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        self._loop.call_soon(function, *args)

    def slot(self) -> Slot:
        return _AsyncioSlot(self._loop.create_future())

    def start(
        self, function: Callable[[], Coroutine[Any, Any, None]], name: str, context: contextvars.Context
    ) -> object:
        begun = False

        async def run() -> None:
            nonlocal begun
            begun = True
            await function()

        def begin(task: asyncio.Task[None]) -> None:
            # asyncio drops a task that is cancelled before its first step. Ours must clean up: it begins, and then
            # is cancelled.
            if not begun:
                self._loop.call_soon(create().cancel)

        def create() -> asyncio.Task[None]:
            return self._loop.create_task(run(), name=name, context=context)

        task = create()
        task.add_done_callback(begin)
        return task

    def time(self) -> float:
        return self._loop.time()

    async def pause(self) -> None:
        await asyncio.sleep(0)

    def failure(self, error: BaseException) -> Exception:
        # On asyncio, whoever awaits something cancelled is told so in the words of his own cancellation.
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling():
            stray = RuntimeError("it awaited something that was cancelled, and was not cancelled itself")
            stray.__cause__ = error
            return stray
        return super().failure(error)

    def _wake(self) -> None:
        self._loop.call_soon_threadsafe(self._run_posted)


_NOTHING = object()


class _TrioSlot:
    __slots__ = ("_lowlevel", "_task", "_value")

    def __init__(self, lowlevel: Any) -> None:
        self._lowlevel = lowlevel
        self._task: trio.lowlevel.Task | None = None
        self._value: object = _NOTHING

    def set(self, value: object) -> None:
        if self._value is _NOTHING:
            self._value = value
            if self._task is not None:
                self._lowlevel.reschedule(self._task)

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._value is _NOTHING:
            self._task = self._lowlevel.current_task()
            yield from self._lowlevel.wait_task_rescheduled(self._give_up).__await__()
        return self._value

    def _give_up(self, raise_cancel: object) -> Any:
        self._value = None
        return self._lowlevel.Abort.SUCCEEDED


class TrioLoop(Loop):
    """A run of trio. Tasks are system tasks, so Ctrl-C goes to the program's own task and not to an actor."""

    backend = "trio"

    def __init__(self) -> None:
        super().__init__()
        from trio import lowlevel  # optional: only who runs trio has it

        self._lowlevel = lowlevel
        self._token = lowlevel.current_trio_token()
        self._clock = lowlevel.current_clock()

    def is_running_here(self) -> bool:
        try:
            return self._lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        self._token.run_sync_soon(function, *args)

    def slot(self) -> Slot:
        return _TrioSlot(self._lowlevel)

    def start(
        self, function: Callable[[], Coroutine[Any, Any, None]], name: str, context: contextvars.Context
    ) -> object:
        return self._lowlevel.spawn_system_task(function, name=name, context=context)

    def time(self) -> float:
        return self._clock.current_time()

    async def pause(self) -> None:
        await self._lowlevel.checkpoint()

    def _wake(self) -> None:
        self._token.run_sync_soon(self._run_posted)


_here = threading.local()


def current() -> Loop:
    """Return the loop that the caller runs in; the same object for as long as the loop runs.

    Raises RuntimeError outside a loop.
    """
    loop: Loop | None = getattr(_here, "loop", None)
    if loop is None or not loop.is_running_here():
        loop = _here.loop = TrioLoop() if _in_trio() else _asyncio_loop()
    return loop


def is_any_running() -> bool:
    """Tell whether the caller runs inside an event loop."""
    return _in_trio() or asyncio._get_running_loop() is not None  # noqa: SLF001 (see `is_running_here`)


def _in_trio() -> bool:
    if "trio" not in sys.modules:
        return False
    from trio import lowlevel  # optional: only who runs trio has it

    return lowlevel.in_trio_run()


def _asyncio_loop() -> AsyncioLoop:
    try:
        return AsyncioLoop()
    except RuntimeError:
        raise RuntimeError(
            "actors need a running event loop: call this inside `anyio.run(main)`, or `await` it in a notebook cell"
        ) from None
