"""How the program's signals become a stop: one asks for it, a second Ctrl-C hurries it, a third ends the program.

While a system is open on the main thread, signals come here, and only here: no handler of ours raises, so no
stop is torn by one. A handler that the user has installed stays, and so does every one under a host, such as a
notebook, that has its own idea of Ctrl-C. The present state is found in the program's table of signal handlers;
there is none in this module.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import functools
import logging
import math
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from lightactors.actors.system import System

logger = logging.getLogger("lightactors")

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]
"""What asks for a stop. Ctrl-C is the last, since what of it may come in between is Python's own."""

_LOOPS_OWN = {"asyncio.runners", "trio._core._ki"}
"""The modules whose handlers of Ctrl-C we replace: theirs would tear a stop at its first await."""

_FLUSH = 0.2
"""Seconds that the standard streams have to be flushed before the program is killed."""


class Interrupts:
    """What signals have asked of this program since a system was opened on its main thread."""

    def __init__(self) -> None:
        self.cause: signal.Signals | None = None  # the first signal
        self._hearers: list[System] = []
        self._told: list[System] = []  # those that were open when the first signal came
        self._before: dict[signal.Signals, Any] = {}
        self._pressed = 0
        self._passed_on = False  # was Ctrl-C handed to the loop, which makes a KeyboardInterrupt of its own?
        self._error: BaseException | None = None
        self._process = os.getpid()
        self._hook: Callable[[type[BaseException], BaseException, TracebackType | None], object] = sys.excepthook

    # Taking the signals, and giving them back

    def join(self, system: System) -> None:
        self._hearers.append(system)
        if self._pressed > 1:
            system.hurry.set_from_signal()
        if not self._before:
            for number in SIGNALS:
                before = signal.getsignal(number)
                if _is_free(number, before):
                    self._before[number] = before
                    signal.signal(number, self.handle)

    def leave(self, system: System) -> None:
        self._hearers.remove(system)
        if not self._hearers:
            for number, before in self._before.items():
                if signal.getsignal(number) == self.handle:  # the user may have put his own in its place
                    signal.signal(number, _still_good(before))

    # What a signal does

    def handle(self, number: int, _: FrameType | None) -> None:
        """Take one more step towards the end. Runs between any two instructions of the main thread."""
        if os.getpid() != self._process:
            self._fall_back(number)  # a fork of this program runs none of our loops
        elif not self._is_under_way():
            self._pressed = 1
            self._ask(signal.Signals(number))
        elif number == signal.SIGINT:
            # Only Ctrl-C hurries: a closing terminal sends SIGHUP twice, and means no more by it than by one.
            self._pressed += 1
            (self._hurry if self._pressed == 2 else self._kill)()

    def _is_under_way(self) -> bool:
        """Tell whether the stop that was asked for goes on; if not, whoever caught the interruption starts anew."""
        return bool(self._told) and any(system in self._told or system.refusal() for system in self._hearers)

    def _fall_back(self, number: int) -> None:
        """Do what the program would do without us."""
        for taken, before in self._before.items():
            signal.signal(taken, before if before is signal.SIG_DFL else signal.default_int_handler)
        signal.raise_signal(signal.Signals(number))

    def _ask(self, cause: signal.Signals) -> None:
        self.cause = cause
        self._error = _outcome(cause)
        self._watch_the_end()
        self._announce(cause)
        blocks = {system: system.on_interrupt for system in self._hearers if system.on_interrupt is not None}
        # A root stays open when the block of a system ends, and the program goes on if it catches what leaves that.
        self._told = list(blocks or self._hearers)
        for interrupt in blocks.values():
            interrupt()
        if not blocks and not self._pass_on() and _main_task(self._before.get(signal.SIGINT)) is None:
            self._fall_back(cause)  # nobody runs this loop who could end it; asyncio's runner is ending it already

    def _announce(self, cause: signal.Signals) -> None:
        grace = max(system.ladder.drain for system in self._hearers)
        within = f"stopping within {grace:g} s" if grace < math.inf else "stopping"
        is_ctrl_c = cause is signal.SIGINT
        _say(f"{within}; press Ctrl-C again to hurry" if is_ctrl_c else f"{within}, because of {cause.name}")
        # A log's locks may be held by the very code that this handler interrupts.
        self._hearers[0].loop.post(logger.info, "%s asks for a stop", cause.name)

    def _hurry(self) -> None:
        _say("hurrying: what still runs is cancelled; press Ctrl-C again to kill the program")
        for system in self._hearers:
            system.hurry.set_from_signal()

    def _kill(self) -> None:
        # Elsewhere: who holds a stream may be the code that this signal has interrupted. And by the bare thread:
        # the same may hold a lock of `threading`.
        flushed = _thread.allocate_lock()
        flushed.acquire()
        _thread.start_new_thread(_flush, (flushed,))
        flushed.acquire(timeout=_FLUSH)
        _restore_terminal()
        _say("killed by the third Ctrl-C")
        os._exit(128 + signal.SIGINT)

    def _pass_on(self) -> bool:
        """Let the loop cancel the program's own task, as it does without us; False: it can't (any more)."""
        handler = _still_good(self._before.get(signal.SIGINT))
        if not callable(handler) or handler is signal.default_int_handler:
            return False
        if not self._passed_on:
            self._passed_on = True
            # Once: asyncio's raises from its second call. And without a frame: trio's would raise in the midst of that,
            # between the call of a coroutine function and the await, say; so it waits for a checkpoint.
            handler(signal.SIGINT, None)
        return True

    # What comes of it

    def raise_from(self, system: System, error: BaseException | None) -> None:
        """Raise the interruption from a system's block, if there was one; it takes the place of `error`."""
        if system not in self._told or self._error is None:
            return
        rest = _without(error, self._error)
        if isinstance(rest, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            return  # the user's own way out
        if rest is not None:
            logger.error("raised while system %s was interrupted", system.name, exc_info=rest)
        if _in_side_task(self._before.get(signal.SIGINT)) and self._pass_on():
            # asyncio would report a KeyboardInterrupt there as a crash; the program's own task raises it.
            raise anyio.get_cancelled_exc_class()()
        raise self._error from None

    def raise_again(self, root: System) -> None:
        """Send a signal that came when `root` was stopping already once more, to whom it would have gone."""
        if root in self._told and not self._passed_on and not self._hearers:
            assert self.cause is not None
            self._passed_on = True
            signal.raise_signal(self.cause)

    def _watch_the_end(self) -> None:
        """Have the program end without a traceback, if our interruption is what ends it."""
        if sys.excepthook != self._report:
            self._hook, sys.excepthook = sys.excepthook, self._report

    def _report(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not self._is_ours(error):
            self._hook(kind, error, trace)
            return
        assert self.cause is not None
        word = "Ctrl-C" if self.cause is signal.SIGINT else self.cause.name
        _say(f"stopped by {word}")
        if self.cause is not signal.SIGINT or type(error) is not KeyboardInterrupt:
            raise SystemExit(128 + self.cause)
        # A plain KeyboardInterrupt: Python ends itself by SIGINT, so that a shell's loop ends as well.

    def _is_ours(self, error: BaseException) -> bool:
        if isinstance(error, BaseExceptionGroup):
            return all(self._is_ours(one) for one in error.exceptions)
        return error is self._error or (self._passed_on and type(error) is KeyboardInterrupt)


@contextmanager
def heard_by(system: System) -> Generator[None]:
    """Have signals stop `system` during the block, which they leave as KeyboardInterrupt or SystemExit."""
    interrupts = _present()
    if interrupts is None:
        yield
        return
    error: BaseException | None = None
    interrupts.join(system)
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        interrupts.leave(system)
        interrupts.raise_from(system, error)


@contextmanager
def passed_on_by(root: System) -> Generator[None]:
    """Have signals end the loop, as Ctrl-C does without us, and `root` with it, without tearing its stop."""
    if not _is_run_by_its_maker() or (interrupts := _present()) is None:
        yield
        return
    interrupts.join(root)
    try:
        yield
    finally:
        interrupts.leave(root)
        root.loop.post(interrupts.raise_again, root)


def _is_run_by_its_maker() -> bool:
    """Tell whether Ctrl-C is answered by asyncio's runner, by trio or by us, so that it ends the loop in order."""
    before = signal.getsignal(signal.SIGINT)
    return before is not signal.default_int_handler


def _present() -> Interrupts | None:
    """Return what takes the program's signals now, or could; None: we are not the ones to do that."""
    if threading.current_thread() is not threading.main_thread():
        return None
    for number in SIGNALS:
        owner = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(owner, Interrupts):
            return owner
    # Where somebody else answers Ctrl-C, the program is his.
    before = signal.getsignal(signal.SIGINT)
    is_ours = _is_free(signal.SIGINT, before) or before in (signal.SIG_IGN, signal.SIG_DFL)
    return Interrupts() if is_ours else None


def _is_free(number: signal.Signals, handler: Any) -> bool:
    """Tell whether a handler is the one that Python or the loop has put there, and nobody's choice."""
    if number != signal.SIGINT:
        return handler is signal.SIG_DFL
    if handler is signal.default_int_handler:
        return True
    return getattr(getattr(handler, "func", handler), "__module__", None) in _LOOPS_OWN


def _main_task(handler: Any) -> asyncio.Task[Any] | None:
    """Return the task that asyncio's handler of Ctrl-C cancels."""
    return handler.keywords.get("main_task") if isinstance(handler, functools.partial) else None


def _still_good(handler: Any) -> Any:
    """Return a handler to go back to: Python's own in place of one that cancels a task which has ended."""
    task = _main_task(handler)
    return signal.default_int_handler if task is not None and task.done() else handler


def _in_side_task(handler: Any) -> bool:
    main = _main_task(handler)
    return main is not None and main is not asyncio.current_task()


def _outcome(cause: signal.Signals) -> BaseException:
    return KeyboardInterrupt() if cause is signal.SIGINT else SystemExit(128 + cause)


def _without(error: BaseException | None, ours: BaseException) -> BaseException | None:
    """Return what is left of `error` when our interruption and cancellations are taken out of it."""
    cancelled = anyio.get_cancelled_exc_class()

    def is_expected(one: BaseException) -> bool:
        return one is ours or isinstance(one, cancelled)

    if isinstance(error, BaseExceptionGroup):
        return error.split(is_expected)[1]
    return None if error is None or is_expected(error) else error


# The terminal: all of this may run in the middle of somebody's print


def _say(line: str) -> None:
    """Write a line to standard error, past its buffer, if it takes one just now."""
    with contextlib.suppress(OSError, ValueError):  # closed, or none: there is nobody to tell
        if select.select([], [2], [], 0)[1]:
            start = "\n" if os.isatty(2) else ""  # the terminal has echoed ^C, or a line of progress is open
            os.write(2, f"{start}lightactors: {line}\n".encode())


def _restore_terminal() -> None:
    for descriptor in (1, 2):
        with contextlib.suppress(OSError, ValueError):
            if os.isatty(descriptor) and select.select([], [descriptor], [], 0)[1]:
                os.write(descriptor, b"\x1b[0m\x1b[?25h")  # plain letters, and the cursor to be seen


def _flush(flushed: _thread.LockType) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, broken or None: nothing is lost by us
            stream.flush()
    flushed.release()
