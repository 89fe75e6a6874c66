"""Streams: a handler that yields, and a consumer that sets the pace.

The consumer grants credit for a few items ahead; the producer takes a step, from one `yield` to the next,
only while it has credit. Each step is a turn of the actor, so a slow consumer holds nobody up.
"""

from __future__ import annotations

import inspect
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Protocol

import anyio.lowlevel

from lightactors.actors import cycles, loops
from lightactors.actors.mailbox import Envelope, Failure
from lightactors.contract import Kind, Method
from lightactors.errors import ActorStopped

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.loops import Loop, Slot

AHEAD = 16
"""Items that a producer may be ahead of its consumer."""

END = object()
"""What a consumer gets after the last item."""


class Outlet(Protocol):
    """Where a production's items go; one at the other end of a link looks the same."""

    loop: Loop

    def push(self, item: object) -> None:
        """Take an item, `END` or a `Failure`; on `loop`."""
        ...


class _Outlet:
    """The consumer's end of the pipe; used on the consumer's loop only."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.items: deque[Any] = deque()
        self._slot: Slot | None = None

    def push(self, item: object) -> None:
        self.items.append(item)
        if self._slot is not None:
            self._slot.set(None)

    async def wait(self) -> None:
        if self._slot is not None:
            raise RuntimeError("another task waits for the next item of this stream; give each task its own stream")
        self._slot = self.loop.slot()
        try:
            await self._slot
        finally:
            self._slot = None


class Production:
    """The producer's end of the pipe; used on the actor's loop only."""

    def __init__(self, cell: Cell, method: Method, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        self._cell = cell
        self._method = method
        self._arguments = arguments
        self._items: AsyncGenerator[Any, None] | None = None  # None: not started yet, or over
        self._credit = AHEAD
        self._stepping = False  # a turn is queued or under way
        self._closed = False
        self.outlet: Outlet
        self.abandoned = False
        self.give_up: Callable[[], object] | None = None

    # What the consumer does

    def turn(self) -> Envelope:
        """Return the message that has the next steps taken."""
        self._stepping = True
        return _STEPS[self._method.interleaved], (self,), {}, self

    def grant(self, items: int) -> None:
        """Let the producer take so many more steps."""
        self._credit += items
        self._continue()

    def end(self) -> None:
        """The consumer has gone: cancel the step under way, then clean up."""
        self._closed = True
        if self.give_up is not None and self._stepping:
            self.give_up()
        elif not self._cell.cancels_turn_of(self):
            self._continue()

    # Steps

    def _continue(self) -> None:
        """Have the next turn taken, past the bound of the mailbox: it belongs to a message long accepted."""
        if not self._stepping and self._items is not None:
            if self._cell.mailbox.closed:
                return  # the actor closes what it still produces
            self._cell.mailbox.open_queue().append(self.turn())
            self._cell.mailbox.nudge()

    async def step(self, actor: object) -> None:
        """Produce while there is credit and nobody else wants the actor."""
        try:
            if not self._closed:
                await self._produce(actor)
        except BaseException:
            self._over(self._stopped("was cut"))
            raise
        finally:
            self._stepping = False
        if self._closed:
            await self.close()
        elif self._credit:
            self._continue()

    def answer(self, value: object) -> None:
        """Hear of the outcome of a turn; a failure ends the stream."""
        if type(value) is Failure:
            self._finish(value)

    def answer_from_afar(self, value: object, _: Loop) -> None:
        """End the stream in place of an actor that can't; from any thread."""
        self.answer(value)

    def _open(self, actor: object) -> AsyncGenerator[Any, None]:
        if self._items is None:
            args, kwargs = self._arguments
            items: AsyncGenerator[Any, None] = self._method.function(actor, *args, **kwargs)
            self._items = items
            self._cell.produces(self)
            return items
        return self._items

    async def _produce(self, actor: object) -> None:
        items = self._open(actor)
        while self._credit and not self._closed:
            try:
                item = await anext(items)
            except StopAsyncIteration:
                self._over(END)
            except Exception as error:
                self._over(self._failure(error))
            else:
                self._credit -= 1
                self._deliver(item)
                if self._cell.mailbox.queue:
                    return

    async def close(self) -> None:
        """Run the handler's clean-up and end the consumer's stream."""
        if self._items is not None:
            items, self._items = self._items, None
            how = self._stopped("ended before it was finished")
            try:
                await items.aclose()
            except Exception as error:
                how = self._failure(error)
            finally:
                self._over(how)

    def _stopped(self, how: str) -> Failure:
        stopped = ActorStopped(f"the stream {self._method} {how}")
        stopped.__cause__ = self._cell.error
        return Failure(stopped)

    def _failure(self, error: Exception) -> Failure:
        self._cell.note_failure(error)
        return Failure(error)

    def _over(self, how: object) -> None:
        """The handler has ended."""
        self._items = None
        self._cell.produced(self)
        self._finish(how)

    def _finish(self, how: object) -> None:
        """End the consumer's stream."""
        self._closed = True
        self._deliver(how)

    def _deliver(self, item: object) -> None:
        self.outlet.loop.order(self.outlet.push, item)

    def __str__(self) -> str:
        return self._method.call(*self._arguments)


async def _step(actor: object, production: Production) -> None:
    await production.step(actor)


def _step_method(interleaved: bool) -> Method:
    return Method(
        actor="stream",
        name="step",
        function=_step,
        kind=Kind.ASYNC,
        idempotent=False,
        interleaved=interleaved,
        roles=None,
        waits=True,
        signature=inspect.signature(_step),
        least=1,
        most=1,
    )


_STEPS = {interleaved: _step_method(interleaved) for interleaved in (False, True)}


class Stream(AsyncIterator[Any]):
    """What a stream handler returns at the caller. Leaving it, or `aclose()`, ends the handler."""

    def __init__(
        self,
        cell: Cell,
        method: Method,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        production: Any = None,  # one elsewhere, in place of one in this process
    ) -> None:
        method.check(args, kwargs)
        self._cell = cell
        self._production = production or Production(cell, method, (args, kwargs))
        self._outlet: _Outlet | None = None
        self._taken = 0
        self._ended = False
        self._name = str(method)
        # A `for` that is left by `break` tells nobody; its stream is then collected, and that does.
        self._finalizer = weakref.finalize(self, _end, cell, self._production)
        self._finalizer.atexit = False

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        outlet = self._outlet or await self._start()
        if not outlet.items:
            await self._wait(outlet)
        return self._take(outlet)

    async def _start(self) -> _Outlet:
        outlet = self._production.outlet = _Outlet(loops.current())
        await self._cell.mailbox.put(self._production.turn())
        self._outlet = outlet  # only now: who gives up waiting for room may begin again
        return outlet

    async def _wait(self, outlet: _Outlet) -> None:
        asker = cycles.holder.get()
        if asker is not None:
            cycles.enter(asker, self._cell, self._production)
        try:
            while not outlet.items:
                await outlet.wait()
        finally:
            if asker is not None:
                cycles.leave(asker, self._cell, self._production)

    def _take(self, outlet: _Outlet) -> Any:
        item = outlet.items.popleft()
        if item is END:
            self._ended = True
            raise StopAsyncIteration
        if type(item) is Failure:
            self._ended = True
            raise item.error
        self._taken += 1
        if self._taken * 2 >= AHEAD:
            self._cell.order(self._production.grant, self._taken)
            self._taken = 0
        return item

    async def aclose(self) -> None:
        """End the stream now; what was produced ahead is dropped."""
        self._ended = True
        self._finalizer()
        await anyio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return f"<stream {self._name}>"


def _end(cell: Cell, production: Any) -> None:
    cell.loop.post(production.end)
