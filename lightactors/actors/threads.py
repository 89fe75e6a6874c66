"""Threads with an event loop of their own, each the place of one actor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from lightactors.actors import loops
from lightactors.actors.mailbox import Ask

if TYPE_CHECKING:
    from lightactors.actors.loops import Loop, Slot


class LoopThread:
    """A thread that runs an event loop until it is released."""

    def __init__(self, name: str, backend: str) -> None:
        self.loop: Loop
        self.at_end: Callable[[], object] | None = None  # called as the thread's last act
        self._backend = backend
        self._is_over = False
        self._release: Slot
        # A daemon: one that blocks for ever is reported when it is stopped, and must not hold the program up.
        self.thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._opened: Ask

    async def open(self) -> Loop:
        """Start the thread and return its loop."""
        self._opened = Ask()
        self.thread.start()
        with anyio.CancelScope(shield=True):  # a few milliseconds; given up in between, the thread would be nobody's
            await self._opened.reply()
        return self.loop

    def release(self) -> None:
        """Let the loop, and with it the thread, end; from any thread."""
        self.loop.post(self._release.set, None)

    def join(self) -> None:
        """Wait for the thread if it has nothing left to do but to vanish; not if it was left behind."""
        if self._is_over:
            self.thread.join()

    def _main(self) -> None:
        try:
            anyio.run(self._run, backend=self._backend)
        except BaseException as error:
            if self._opened.answered:
                raise
            self._opened.fail(error)  # no loop could be made: out of file descriptors, say
        finally:
            self._is_over = True
            if self.at_end is not None:
                self.at_end()

    async def _run(self) -> None:
        self.loop = loops.current()
        self._release = self.loop.slot()
        self._opened.answer(None)
        await self._release
