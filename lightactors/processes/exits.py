"""How a process ended, in words."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

_WORDS: dict[int, str] = {
    signal.SIGKILL: "was killed by SIGKILL (out of memory, or somebody killed it)",
    signal.SIGTERM: "was terminated by SIGTERM",
    signal.SIGINT: "was interrupted by SIGINT",
    signal.SIGSEGV: "ended with a segmentation fault (SIGSEGV)",
    signal.SIGABRT: "aborted (SIGABRT)",
    signal.SIGBUS: "ended with a bus error (SIGBUS)",
    signal.SIGFPE: "ended with an arithmetic error (SIGFPE)",
    signal.SIGILL: "ended with an illegal instruction (SIGILL)",
}


@dataclass(frozen=True)
class Exit:
    """The end of a process: its exit code, or the signal that ended it, or neither if nobody saw it end.

    `survivors` are the pids, its own maybe among them, that SIGKILL did not end in time.
    """

    code: int | None = None
    signal: int | None = None
    survivors: tuple[int, ...] = ()

    @classmethod
    def from_status(cls, status: int | None, survivors: tuple[int, ...] = ()) -> Exit:
        """Read a status of `os.waitpid`; None is of a process that has not ended."""
        if status is None:
            return cls(survivors=survivors)
        returncode = os.waitstatus_to_exitcode(status)
        return cls(returncode, None, survivors) if returncode >= 0 else cls(None, -returncode, survivors)

    @property
    def returncode(self) -> int | None:
        """The exit code, or the signal's number below zero, as `subprocess` has it."""
        return self.code if self.signal is None else -self.signal

    def __str__(self) -> str:
        if not self.survivors:
            return self._end()
        return f"{self._end()}; SIGKILL did not end {', '.join(f'pid {pid}' for pid in self.survivors)}"

    def _end(self) -> str:
        if self.code is not None:
            return f"exited with code {self.code}"
        if self.signal is None and self.survivors:
            return "has not ended"
        if self.signal is None:
            return "ended with its guardian, which was killed"
        return _WORDS.get(self.signal) or f"was ended by {_name(self.signal)}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # a real-time one
