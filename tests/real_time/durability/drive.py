"""A drive that forgets, when its power goes, what it was not told to sync: all of it, some of it, half a write.

`Drive` is SQLite's view of the disk: it notes every write, sync and deletion. `images` then gives, for any moment of
that record, what a drive may hold after a loss of power: what was synced is there for certain; each 512 bytes that
were not may have arrived or not, whatever their order was, and the last of a write may be torn. The files on the real
disk are those that the running program sees.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import apsw

SECTOR = 512

Chance = Literal["nothing", "everything", "some", "torn"]
CHANCES: tuple[Chance, ...] = ("nothing", "everything", "some", "torn")
"""What of the unsynced arrives: none, all, each sector or not, or all up to a moment in the midst of a write."""


@dataclass(frozen=True, slots=True)
class Write:
    file: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncation:
    file: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    file: str


@dataclass(frozen=True, slots=True)
class Deletion:
    file: str
    is_synced: bool


@dataclass(frozen=True, slots=True)
class Creation:
    file: str


Change = Write | Truncation | Creation
Note = Change | Sync | Deletion


class Drive(apsw.VFS):
    """A VFS of SQLite that writes down what is written, and syncs nothing in truth."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.record: list[Note] = []
        super().__init__(name, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        is_new = text is not None and not os.path.exists(text)
        file = _File(self, name, flags, None if text is None else os.path.basename(text))
        if is_new and text is not None and os.path.exists(text):
            self.record.append(Creation(os.path.basename(text)))
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.record.append(Deletion(os.path.basename(filename), syncdir))

    @property
    def now(self) -> int:
        """The moment, as far as the record goes."""
        return len(self.record)


class _File(apsw.VFSFile):
    def __init__(
        self, drive: Drive, name: str | apsw.URIFilename | None, flags: list[int], basename: str | None
    ) -> None:
        self._record = drive.record
        self._name = basename
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        if self._name is not None:
            self._record.append(Write(self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        if self._name is not None:
            self._record.append(Truncation(self._name, newsize))

    def xSync(self, flags: int) -> None:
        if self._name is not None:
            self._record.append(Sync(self._name))


@dataclass
class _Disk:
    """What is there for certain, and what may be."""

    synced: dict[str, bytearray] = field(default_factory=dict)
    pending: defaultdict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    deleted: dict[str, bytearray] = field(default_factory=dict)  # and may come back: the folder is not synced yet
    created: set[str] = field(default_factory=set)  # and never synced

    def note(self, note: Note) -> None:
        match note:
            case Sync(file):
                self._sync(file)
            case Deletion(file, is_synced):
                self.pending.pop(file, None)
                if file in self.synced:
                    self.deleted[file] = self.synced.pop(file)
                if is_synced:
                    self.deleted.clear()
            case Creation(file):
                self.created.add(file)
                self.pending[file].append(note)
            case _:
                self.pending[note.file].append(note)

    def _sync(self, file: str) -> None:
        if file in self.created and file.endswith(("-journal", "-wal")):
            self.deleted.clear()  # SQLite syncs the folder with a log that is new
        self.created.discard(file)
        content = self.synced.get(file, bytearray())
        for change in self.pending.pop(file, []):
            _apply(content, change)
        self.synced[file] = content

    def after_power_loss(self, chance: Chance, random: random.Random) -> dict[str, bytes]:
        contents = {file: bytearray(content) for file, content in self.synced.items()}
        for file, changes in self.pending.items():
            for change in _arrived(changes, chance, random):
                _apply(contents.setdefault(file, bytearray()), change)
        if chance != "everything":
            contents |= {file: content for file, content in self.deleted.items() if random.random() < 0.5}
        return {file: bytes(content) for file, content in contents.items()}


def _apply(content: bytearray, change: Change) -> None:
    match change:
        case Write(_, offset, data):
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        case Truncation(_, size):
            del content[size:]


def _arrived(changes: list[Change], chance: Chance, random: random.Random) -> Iterable[Change]:
    match chance:
        case "nothing":
            return []
        case "everything":
            return changes
        case "some":
            return [sector for change in changes for sector in _sectors(change) if random.random() < 0.5]
        case "torn":
            whole = changes[: random.randrange(len(changes) + 1)]
            torn = changes[len(whole) : len(whole) + 1]
            return [*whole, *(_torn(change, random) for change in torn)]


def _sectors(change: Change) -> Iterator[Change]:
    if not isinstance(change, Write):
        yield change
        return
    start = change.offset
    end = start + len(change.data)
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        yield Write(change.file, start, change.data[start - change.offset : stop - change.offset])
        start = stop


def _torn(change: Change, random: random.Random) -> Change:
    if not isinstance(change, Write):
        return change
    return Write(change.file, change.offset, change.data[: random.randrange(len(change.data) + 1)])


def images(
    record: Iterable[Note], moments: Iterable[int], random: random.Random
) -> Iterator[tuple[int, Chance, dict[str, bytes]]]:
    """Yield, for moments in rising order, what a drive may hold whose power went then."""
    disk, notes, reached = _Disk(), iter(record), 0
    for moment in moments:
        while reached < moment:
            disk.note(next(notes))
            reached += 1
        chance = random.choice(CHANCES)
        yield moment, chance, disk.after_power_loss(chance, random)


def restore(image: dict[str, bytes], folder: Path) -> Path:
    """Write an image to a folder that is empty then but for it."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file, content in image.items():
        if not file.endswith("-shm"):  # memory that processes share; it is made anew
            (folder / file).write_bytes(content)
    return folder


def connect_to(drive: Drive, path: str, **settings: Any) -> apsw.Connection:
    """Open a database on the drive."""
    connection = apsw.Connection(path, vfs=drive.name)
    for name, value in settings.items():
        connection.execute(f"PRAGMA {name} = {value}")
    return connection
