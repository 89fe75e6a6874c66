"""Children of a program that has imported what they need: each is at work within milliseconds."""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def fork(main: Callable[[], object]) -> int:
    """Have a child run `main`, which dies with this process; return its pid. There may be no other thread."""
    parent = os.getpid()
    gc.freeze()  # what the child never collects it need not copy
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            main()
            status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Orders:
    """What this program is told, a line each, while it does something else."""

    def __init__(self) -> None:
        self._rest = b""

    def next(self, seconds: float) -> str | None:
        """Return what has been told within so many seconds, "" at the end; None if nothing has."""
        while b"\n" not in self._rest:
            if not select.select([0], [], [], max(0.0, seconds))[0]:
                return None
            came = os.read(0, 65536)
            if not came:
                return ""
            self._rest += came
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()
