"""Founding the store: its owner's process is started when it is wanted, and another one when that was killed."""

from __future__ import annotations

import json
import logging
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import asdict
from pathlib import Path

import psutil

from lightactors.errors import ObjectError
from lightactors.objects.owner import Settings
from lightactors.supervision.limits import ObjectLimits

logger = logging.getLogger("lightactors")

PREFIX = "lightactors-objects-"
"""What the name of every store begins with."""

_SHARE = 0.3
"""Of the memory that there is: what the store may take, unless it is told."""

_LIVED = 1.0
"""Seconds that an owner which ends by itself must have lived for another one to be started in its place."""

_RESTS = 0.5
"""Seconds until it is tried again to start an owner, if the system did not let it."""

_GRACE = 2.0
"""Seconds that the owner's process has to end."""

_OWNER = (
    # Without the package's own `__init__`, which pulls anyio: the owner needs the standard library alone, and so is
    # there in a few hundredths of a second.
    "import sys, types; package = sys.modules['lightactors'] = types.ModuleType('lightactors'); "
    "package.__path__ = [sys.argv.pop(1)]; from lightactors.objects.owner import main; main()"
)


class Founder:
    """A store's founder. Clients come to `name`; the first one to come has the owner started."""

    def __init__(self, limits: ObjectLimits) -> None:
        check_platform()
        self.name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        self._settings = settings_of(limits)
        self._pid = os.getpid()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(f"\0{self.name}")
        self._listener.listen(1024)
        self._lock = threading.Lock()
        self._closing, self._close = socket.socketpair()
        self._line: socket.socket | None = None
        self._owner: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="lightactors objects", daemon=True)
        self._thread.start()
        _founders.add(self)

    @property
    def pid(self) -> int | None:
        """The id of the owner's process; None: nobody has come yet."""
        return None if self._owner is None else self._owner.pid

    def _watch(self) -> None:
        """Start an owner when somebody comes, and another one when that was killed; on a thread of its own."""
        with self._listener:  # whoever comes afterwards hears at once that there is no store
            while self._somebody_comes():
                started = time.monotonic()
                try:
                    status = self._start().wait()
                except OSError as error:  # it has no process, or descriptor, for it now
                    logger.error("the object store's process can't be started yet: %s", error)
                    self._is_closing(_RESTS)
                    continue
                if self._is_closing():
                    return
                # It can't do its work here; one that was killed can.
                is_last = status >= 0 and time.monotonic() - started < _LIVED
                then = f"; there is none any more, for it has lived less than {_LIVED:g} s" if is_last else ""
                logger.error(
                    "the object store's process ended with %s: all objects are lost, their views stay%s", status, then
                )
                if is_last:
                    return

    def _somebody_comes(self) -> bool:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._closing, select.POLLIN)
        return self._closing.fileno() not in dict(poll.poll())

    def _is_closing(self, within: float = 0.0) -> bool:
        poll = select.poll()  # `select` knows no descriptor above 1023
        poll.register(self._closing, select.POLLIN)
        return bool(poll.poll(within * 1000))

    def _start(self) -> subprocess.Popen[bytes]:
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            if self._line is not None:
                self._line.close()
            self._line = ours
            self._owner = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _OWNER, str(Path(__file__).parent.parent)),
                    *(str(self._listener.fileno()), str(theirs.fileno()), json.dumps(asdict(self._settings))),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[self._listener.fileno(), theirs.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C is for the program
            )
            if self._is_closing():
                ours.close()
            return self._owner

    def close(self) -> None:
        """End the store; views stay as they are."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._close.close()  # which the other end is told of
            if self._line is not None:
                self._line.close()  # and the owner
        self._thread.join(_GRACE)
        if self._owner is not None and self._thread.is_alive():  # it was stopped, or writes to a disk that is
            self._owner.kill()
        self._thread.join()
        self._closing.close()

    def abandon(self) -> None:
        """Let go of what another process has founded: this is a fork of it, and must not keep its store alive."""
        for end in (self._listener, self._line, self._close, self._closing):
            if end is not None:
                end.close()
        if self._owner is not None:
            self._owner.returncode = 0  # no child of this process


_founders: weakref.WeakSet[Founder] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for founder in list(_founders):
        founder.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_leave_to_parent)


def check_platform() -> None:
    """Raise `ObjectError` where memory can't be shared in this way."""
    if sys.platform != "linux":
        raise ObjectError(f"the object store needs Linux, and this is {sys.platform}; send the value in a message")


def settings_of(limits: ObjectLimits) -> Settings:
    """Return what the owner is told."""
    spill = None if limits.spill is None else os.path.abspath(limits.spill)
    return Settings(limits.capacity or default_capacity(), limits.quota, spill, limits.spill_limit)


def default_capacity() -> int:
    """Return how many bytes the store may take here: its share of what is free, or of what the container may have."""
    free = psutil.virtual_memory().available
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            free = min(free, int(Path(path).read_text()))
        except (OSError, ValueError):  # no such file, or no limit
            continue
    return max(int(_SHARE * free), 64 * 2**20)
