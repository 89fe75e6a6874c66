"""Memory that processes share, without a name: the kernel frees it with the last process that uses it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
from typing import IO


def new_memory(size: int) -> int:
    """Return the descriptor of so much memory, which is taken as it is written to."""
    if _has_no_memfd():
        with tempfile.TemporaryFile(dir=_roomy(size)) as file:
            os.ftruncate(file.fileno(), size)
            return os.dup(file.fileno())
    import fcntl

    descriptor = os.memfd_create("lightactors objects", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    # Nobody can cut off what others have mapped, and so make them crash.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def _has_no_memfd() -> bool:
    return not hasattr(os, "memfd_create")


def _roomy(size: int) -> str | None:
    """Return where files are memory, if so much is free there: else who writes there is killed; None: on the disk."""
    with contextlib.suppress(OSError):
        facts = os.statvfs("/dev/shm")
        if facts.f_bavail * facts.f_frsize >= size:
            return "/dev/shm"
    return None


def passing_file() -> IO[bytes]:
    """Return a file whose descriptor is to be passed on, with what is written to it."""
    return tempfile.TemporaryFile() if _has_no_memfd() else open(os.memfd_create("statistics"), "w+b")


def user_of(end: socket.socket) -> int:
    """Return who is, or listens, at the other end of a unix socket."""
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
