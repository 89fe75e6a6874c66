"""The owner's way to the disk: a thread that writes objects into files which no name leads to.

A file is read in place (mapped) by whoever wants what is in it, and so never brought back: nothing is spilled twice. It
is gone when its last object is, or when the last process that has it open ends, however that happens.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass

from lightactors.objects.arena import PAGE
from lightactors.objects.books import Object

MADV_REMOVE = 9


class SpillFile:
    """Objects on the disk."""

    def __init__(self, directory: str) -> None:
        self.descriptor = _open_nameless(directory)
        self.size = 0
        self._living = 0

    def write(self, data: memoryview) -> int:
        """Write an object; return where it lies. Raises OSError."""
        offset = self.size
        done = 0
        while done < len(data):
            done += os.pwrite(self.descriptor, data[done:], offset + done)
        self.size += rounded(len(data))
        os.ftruncate(self.descriptor, self.size)  # whole pages, to be mapped and given back
        self._living += rounded(len(data))
        return offset

    def let_go(self, offset: int, size: int) -> None:
        """Give back what an object takes: all that the file does, if it was the last one."""
        self._living -= size
        if self._living <= 0:
            os.close(self.descriptor)
            return
        # Not every file system can, nor where pages are larger.
        with contextlib.suppress(OSError, ValueError), mmap.mmap(self.descriptor, size, offset=offset) as room:
            room.madvise(MADV_REMOVE)


def rounded(size: int) -> int:
    """Return what an object takes of a file, where only a whole page can be mapped."""
    return -(-size // PAGE) * PAGE


def _open_nameless(directory: str) -> int:
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # not every file system can
        descriptor, path = tempfile.mkstemp(prefix="lightactors-", dir=directory)
        os.unlink(path)
        return descriptor


@dataclass(frozen=True)
class Written:
    """What has become of a batch: for each object the file and where in it, and what went wrong with the rest."""

    placed: list[tuple[Object, SpillFile, int]]
    left: list[Object]
    error: OSError | None


class Spiller:
    """Writes batches one after the other; `tell` is called on its thread when there is something in `done`."""

    def __init__(self, arena: memoryview, directory: str, tell: Callable[[], object]) -> None:
        self.done: queue.SimpleQueue[Written] = queue.SimpleQueue()
        self.under_way = 0  # bytes
        self._arena = arena
        self._directory = directory
        self._tell = tell
        self._batches: queue.SimpleQueue[list[Object]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="spiller", daemon=True).start()

    def write(self, batch: list[Object]) -> None:
        """Have a batch written."""
        self.under_way += sum(found.room for found in batch)
        self._batches.put(batch)

    def _run(self) -> None:
        while True:
            batch = self._batches.get()
            self.done.put(self._written(batch))
            self._tell()

    def _written(self, batch: list[Object]) -> Written:
        placed: list[tuple[Object, SpillFile, int]] = []
        file: SpillFile | None = None
        try:
            file = SpillFile(self._directory)
            for found in batch:
                offset = file.write(self._arena[found.offset : found.offset + found.size])
                placed.append((found, file, offset))
        except OSError as error:
            if file is not None and not placed:
                os.close(file.descriptor)
            return Written(placed, batch[len(placed) :], error)
        return Written(placed, [], None)
