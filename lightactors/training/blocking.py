"""Users' plain functions, run beside the loop: they may block, and be given up but never be killed."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

from lightactors.actors.mailbox import Ask
from lightactors.actors.stopping import frame_of, readable_stack
from lightactors.errors import ConfigurationError

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("lightactors")

_token: contextvars.ContextVar[anyio.lowlevel.EventLoopToken] = contextvars.ContextVar("lightactors_loop_token")


async def run_blocking(function: Callable[[], T], *, who: str) -> T:
    """Run a plain function in a thread of its own, called `who`, in the caller's context.

    When the caller is cancelled, the thread is left behind and reported with its stack: Python can't end one.
    """
    outcome = Ask()
    context = contextvars.copy_context()
    context.run(_token.set, anyio.lowlevel.current_token())
    if "sniffio" in sys.modules:
        # In the thread no loop runs, whatever the context says: the function may run one of its own.
        context.run(sys.modules["sniffio"].current_async_library_cvar.set, None)

    def run() -> None:
        try:
            outcome.answer(context.run(function))
        except BaseException as error:  # an outcome like any other, raised where it is waited for
            outcome.fail(error)

    # No thread of anyio's: those are joined when the program ends, which one that never returns would prevent.
    thread = threading.Thread(target=run, name=who, daemon=True)
    thread.start()
    try:
        value: T = await outcome.reply()
        return value
    except anyio.get_cancelled_exc_class():
        _report(thread)
        raise


def _report(thread: threading.Thread) -> None:
    frame = frame_of(thread.ident) if thread.ident is not None else None
    if frame is not None and thread.is_alive():
        stack = readable_stack(traceback.extract_stack(frame))
        logger.error("%s was cancelled but still runs in its thread, which is left behind, at:\n%s", thread.name, stack)


def from_thread(function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call an async function or a store's method from a plain agent or algorithm, and wait for its result.

    It runs on the loop that the plain function was started from. Raises `ConfigurationError` elsewhere.
    """
    if not callable(function):
        raise ConfigurationError(
            f"from_thread() got {function!r}; give the function and its arguments, without calling it"
        )
    token = _token.get(None)
    if token is None:
        raise ConfigurationError("from_thread() works inside a plain agent or algorithm; elsewhere, use await")

    async def call() -> T:
        return await function(*args, **kwargs)

    return anyio.from_thread.run(call, token=token)
