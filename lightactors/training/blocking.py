"""Users' plain functions, run beside the loop: they may block, and be given up but never be killed."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from lightactors.actors.stopping import frame_of, readable_stack

T = TypeVar("T")

logger = logging.getLogger("lightactors")


async def run_blocking(function: Callable[[], T], *, who: str) -> T:
    """Run a plain function in a worker thread, in the caller's context.

    Inside it, `anyio.from_thread.run(store.enqueue_rollout, task)` reaches the loop. When the caller is
    cancelled, the thread is left behind and reported, as `who` and with its stack: Python can't end a thread.
    """
    thread: list[int] = []

    def run() -> T:
        thread.append(threading.get_ident())
        return function()

    try:
        return await anyio.to_thread.run_sync(run, abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        frame = frame_of(thread[0]) if thread else None
        if frame is not None:
            stack = readable_stack(traceback.extract_stack(frame))
            logger.error("%s was cancelled but still runs in its thread, which is left behind, at:\n%s", who, stack)
        raise
