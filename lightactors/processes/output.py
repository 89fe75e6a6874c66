"""What a child process prints: shown here line by line, with its name before it, and its last lines kept."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, TextIO

import anyio

if TYPE_CHECKING:
    from lightactors.actors.system import System

KEPT = 50
"""Lines that are kept of a process's output, to be shown when it dies."""

_READ = 64 * 1024


class Output:
    """The two streams of one process."""

    def __init__(self, label: str, system: System, stdout: int, stderr: int) -> None:
        self.last = deque[str](maxlen=KEPT)
        self._label = label
        self._pipes = [_Pipe(self, stdout, "stdout"), _Pipe(self, stderr, "stderr")]
        for pipe in self._pipes:
            system.loop.start(pipe.run, f"{pipe.stream} of {label}", system.context.copy())

    def show(self, line: str, stream: str) -> None:
        """Keep a line and write it to the program's own stream of that name."""
        self.last.append(line)
        target: TextIO | None = getattr(sys, stream)
        if target is not None:
            with contextlib.suppress(ValueError, OSError):  # closed, or nobody reads it any more
                target.write(f"[{self._label}] {line}\n")
                target.flush()

    def finish(self) -> None:
        """Take what is left in the pipes and close them: the process, and whatever could write to them, is gone."""
        for pipe in self._pipes:
            pipe.finish()

    def tail(self, lines: int) -> str:
        """Return the last lines."""
        return "\n".join(list(self.last)[-lines:])


class _Pipe:
    """The reading end of one stream, which its task closes."""

    def __init__(self, output: Output, descriptor: int, stream: str) -> None:
        self.stream = stream
        self._output = output
        self._descriptor = descriptor
        self._rest = b""
        self._is_open = True
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        """Show what comes, until nothing more can."""
        try:
            await self._show_what_comes()
        finally:
            # The end of the loop cancels this task, and the process is still to be stopped, and has more to say.
            self._scope = anyio.CancelScope(shield=True)
            await self._show_what_comes()
            os.close(self._descriptor)

    async def _show_what_comes(self) -> None:
        with self._scope:
            while self._is_open:
                await anyio.wait_readable(self._descriptor)
                self._take()

    def _take(self) -> bool:
        """Show what is in the pipe; tell whether there was something."""
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return False
        if not data:
            self._is_open = False
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._show(line)
        if len(self._rest) > _READ:  # a line without end would be kept for ever
            self._flush()
        return True

    def finish(self) -> None:
        """Take what is left, and have the task close."""
        while self._is_open and self._take():
            pass
        self._is_open = False
        self._flush()
        self._scope.cancel()

    def _flush(self) -> None:
        if self._rest:
            self._show(self._rest)
            self._rest = b""

    def _show(self, line: bytes) -> None:
        self._output.show(line.decode(errors="backslashreplace").rstrip("\r"), self.stream)
