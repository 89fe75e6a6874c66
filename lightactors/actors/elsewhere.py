"""Running a coroutine on another loop, and waiting for it here."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

from lightactors.actors.loops import Loop
from lightactors.actors.mailbox import Ask, Failure

T = TypeVar("T")


async def run_on(loop: Loop, function: Callable[[], Coroutine[Any, Any, T]], context: contextvars.Context) -> T:
    """Run a coroutine on a loop, in a context like this one; who is cancelled here cancels it there."""
    if loop.is_running_here():
        return await function()
    answer = Ask()
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            try:
                answer.answer(await function())
            except Exception as error:
                answer.answer(Failure(error))

    loop.post(loop.start, run, f"{function!r} for another loop", context.copy())
    try:
        value: T = await answer.reply()
    except BaseException:
        if not answer.answered:
            loop.post(scope.cancel)
        raise
    return value
