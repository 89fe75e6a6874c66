"""Disks that are full, fail or can't be written: real ones where this user may make them, else SQLite's view of one."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw


class TroubledDisk(apsw.VFS):
    """A VFS of SQLite whose files raise `trouble`, where there is one, at what is named in `at`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.trouble: type[apsw.Error] | None = None
        self.at = {"xWrite"}
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    def meet(self, call: str) -> None:
        if self.trouble is not None and call in self.at:
            raise self.trouble(f"the test's {call}")

    @contextmanager
    def troubled(self, trouble: type[apsw.Error], *at: str) -> Iterator[None]:
        """Have trouble for a while."""
        self.trouble, self.at = trouble, set(at)
        try:
            yield
        finally:
            self.trouble = None


class _File(apsw.VFSFile):
    def __init__(self, disk: TroubledDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.meet("xWrite")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.meet("xSync")
        super().xSync(flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.meet("xRead")
        return super().xRead(amount, offset)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of a size, such as `"1m"`; raise `PermissionError` for who may not."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        raise PermissionError("only root can mount a small file system, and not in every container")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write to the files of a folder, or make any; `folder` is a small disk's where this is root."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        try:
            yield
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        return
    paths = [folder, *folder.iterdir()]
    modes = [path.stat().st_mode for path in paths]
    for path, mode in zip(paths, modes, strict=True):
        path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        yield
    finally:
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)
