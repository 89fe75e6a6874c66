"""A runner at work beside its test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio

from lightactors.training.events import ExecutionEvent
from lightactors.training.runners.runner import Runner


@asynccontextmanager
async def running(runner: Runner, event: ExecutionEvent) -> AsyncGenerator[None]:
    """Run a runner during the block, and ask it to stop at the end."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run, event)
        yield
        event.set()
