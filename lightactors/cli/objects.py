"""What `lightactors objects` shows: a program's object store, its processes and its objects, as lines and as JSON."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

import lightactors as la
from lightactors.actors.tree import counted, printable, size
from lightactors.cli.access import Access
from lightactors.cli.drawing import columns
from lightactors.objects.figures import Figures, ObjectFigures, ProcessFigures

Order = Literal["size", "age"]

_AGES = ((86400, "d"), (3600, "h"), (60, "min"))
_PROCESS_HEADINGS = ("process", "pid", "in memory", "holds", "views", "since")
_OBJECT_HEADINGS = ("object", "size", "age", "put by", "held by", "viewed by", "")
_LABEL = 20
"""Characters of a process's name that are shown in the narrowest of terminals."""

_PIDS_WIDTH = 70
"""Characters of a line of an object that are there before the second process that holds or views it."""


@dataclass(frozen=True)
class Shelves:
    """What is known of a program's object store at one moment."""

    address: str
    figures: Figures | None  # None: the program has no store
    now: float  # seconds since the epoch
    order: Order = "size"
    limit: int = 20
    width: int = 80  # characters of a line

    def lines(self) -> list[str]:
        """Return the drawing, for a terminal or a log."""
        if self.figures is None:
            return [self.address, "", "no object store: nothing was put into one yet, nor sent through it"]
        parts = [_totals(self.figures), list(self._processes(self.figures)), list(self._objects(self.figures))]
        return [self.address, *(line for part in parts if part for line in ["", *part])]

    def json(self) -> str:
        """Return the same as JSON, with every figure there is."""
        facts = {"address": self.address, "time": self.now, "object_store": msgspec.to_builtins(self.figures)}
        return json.dumps(facts, indent=2)

    def _processes(self, figures: Figures) -> Iterator[str]:
        processes = sorted(figures.processes, key=_weight)
        rows = [_PROCESS_HEADINGS, *(self._process_row(process, figures) for process in processes)]
        _, *others = zip(*rows, strict=True)
        room = self.width - sum(2 + max(map(len, column)) for column in others)
        yield from columns([(_cut(label, max(room, _LABEL)), *rest) for label, *rest in rows])

    def _process_row(self, process: ProcessFigures, figures: Figures) -> tuple[str, ...]:
        held = sum(found.size for found in figures.objects if process.number in found.holders)
        viewed = sum(found.size for found in figures.objects if process.number in found.viewers)
        return (
            process.label,
            f"{process.pid}",
            size(process.used),
            f"{process.held:,} ({size(held)})" if process.held else "",
            f"{process.viewed:,} ({size(viewed)})" if process.viewed else "",
            f"{self._age(process.joined)} ago",
        )

    def _objects(self, figures: Figures) -> Iterator[str]:
        pids = {process.number: process.pid for process in figures.processes}
        if self.order == "age":
            chosen = sorted(figures.objects, key=lambda found: found.sealed)
        else:
            chosen = sorted(figures.objects, key=lambda found: -found.size)
        rows = [self._object_row(found, pids) for found in chosen[: self.limit]]
        if rows:
            yield from columns([_OBJECT_HEADINGS, *rows])
        if figures.total_objects > len(rows):
            yield f"and {figures.total_objects - len(rows):,} more; --limit shows them, --json all"

    def _object_row(self, found: ObjectFigures, pids: dict[int, int]) -> tuple[str, ...]:
        states = {
            "on disk": found.is_spilled,
            "deleted": found.is_deleted,
            f"{found.in_flight:,} in flight": found.in_flight,
        }
        return (
            found.id,
            size(found.size),
            self._age(found.sealed),
            "gone" if found.maker is None else f"{pids.get(found.maker, 'gone')}",
            self._named(pids.get(number, 0) for number in found.holders),
            self._named(pids.get(number, 0) for number in found.viewers),
            ", ".join(state for state, applies in states.items() if applies),
        )

    def _named(self, pids: Iterable[int]) -> str:
        """Return as many processes as a line has room for, and the number of the others."""
        known = sorted(pids)
        room = max(1, (self.width - _PIDS_WIDTH) // 14)
        more = f" +{len(known) - room}" if len(known) > room else ""
        return " ".join(map(str, known[:room])) + more

    def _age(self, moment: float) -> str:
        seconds = max(0.0, self.now - moment)
        for unit, name in _AGES:
            if seconds >= unit:
                return f"{seconds // unit:.0f} {name}"
        return f"{seconds:.0f} s"


def _totals(has: Figures) -> list[str]:
    did = has.counters
    free = has.capacity - has.used
    disk = f"nothing goes to {has.spill}: {has.disk_error}" if has.disk_error else f"spilling to {has.spill}"
    lines = [
        f"{counted(has.total_objects, 'object')}, {size(has.used)} of {size(has.capacity)} used, "
        f"{size(has.leased)} of it for new objects",
        f"{size(free)} free, {size(has.largest_free)} in one piece (fragmentation {has.fragmentation:.0%})",
        f"{size(has.spilled_bytes)} on disk, {disk if has.spill else 'nothing is spilled (spill=None)'}",
        f"{counted(did.puts, 'put')} ({size(did.put_bytes)}), {counted(did.gets, 'get')}, "
        f"{did.restored:,} of them from disk, {did.lost:,} lost",
        f"{did.spilled:,} spilled ({size(did.spilled_bytes)}), {did.evicted:,} evicted, "
        f"{size(did.reclaimed_bytes)} reclaimed from the dead",
        f"{counted(has.waiting, 'put')} waiting for memory, {counted(did.refused, 'request')} refused",
    ]
    return [printable(f"{'object store: ' if line is lines[0] else '':14}{line}") for line in lines]


def _weight(process: ProcessFigures) -> tuple[int, int]:
    return -process.used, -process.held


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


async def look(access: Access, node: la.RemoteNode, order: Order, limit: int) -> Shelves:
    """Ask a node for what is in its object store."""
    text = await node.objects()
    figures = None if text is None else Figures.read(text)
    return Shelves(access.address, figures, time.time(), order, limit, shutil.get_terminal_size().columns)
