"""A part in an execution: the algorithm's bundle or a runner's, as an actor that lives anywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from lightactors.contract import actor, handler
from lightactors.training.events import ExecutionEvent
from lightactors.training.runners.workers import process_id


@actor
class Part:
    """Runs a bundle. `given` is what the bundle gets before the event; without an event it has one of its own."""

    def __init__(
        self, bundle: Callable[..., Awaitable[None]], *given: Any, event: ExecutionEvent | None = None
    ) -> None:
        self._bundle = bundle
        self._given = given
        self._event = ExecutionEvent() if event is None else event

    @handler
    def process_id(self) -> str:
        """Return the id that workers of this process announce themselves with."""
        return process_id()

    @handler(interleaved=True)
    async def run(self) -> None:
        """Run the bundle; its failure asks everybody to stop at once, even while the main thread is busy."""
        try:
            await self._bundle(*self._given, self._event)
        except BaseException:
            self._event.set()
            raise

    def on_drain(self) -> None:
        """Ask the bundle to stop, because its actor is to."""
        self._event.set()
