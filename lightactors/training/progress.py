"""A line of progress for a run of rollouts, fed by the store's completions."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from lightactors.errors import ConfigurationError, raise_together
from lightactors.training.stores.contract import Store

if TYPE_CHECKING:
    from rich.progress import Progress


@asynccontextmanager
async def showing_progress(store: Store, wanted: bool | None) -> AsyncGenerator[None]:
    """Show how many rollouts are finished, during the block; None: if standard error is a terminal."""
    bar = _bar(required=bool(wanted)) if wanted or (wanted is None and sys.stderr.isatty()) else None
    if bar is None:
        yield
        return
    line = _Line(store, bar)
    await line.skip()
    with bar:
        errors: list[Exception] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(line.follow)
            try:
                yield
            except Exception as error:
                errors.append(error)
            tasks.cancel_scope.cancel()
        raise_together("the line of progress failed too", errors)
        await line.advance(timeout=0)


def _bar(*, required: bool) -> Progress | None:
    try:
        # Imported here: rich is optional, and only who looks at a terminal needs it.
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    except ImportError as error:
        if required:
            raise ConfigurationError("progress=True needs rich; install lightactors[cli]") from error
        return None
    columns = (SpinnerColumn(), TextColumn("{task.completed:.0f} rollouts finished"), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


class _Line:
    """The line, and how far it has read the store's completions."""

    def __init__(self, store: Store, bar: Progress) -> None:
        self._store = store
        self._bar = bar
        self._task = bar.add_task("rollouts", total=None)
        self._cursor = 0

    async def skip(self) -> None:
        """Leave out what had finished before."""
        self._cursor = (await self._store.query_completions(0, -1)).cursor

    async def follow(self) -> None:
        while True:
            await self.advance(timeout=None)

    async def advance(self, timeout: float | None) -> None:
        """Show what has finished since; wait for something, if there is nothing."""
        completions = await self._store.query_completions(self._cursor, -1, timeout)
        self._cursor = completions.cursor
        self._bar.advance(self._task, len(completions.rollouts))
