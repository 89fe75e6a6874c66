"""The tree of actors as it looks at one moment: facts, and their drawing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from lightactors.errors import ActorFailed, text_of

Seen = Literal["inside", "outside", "silent"]
"""Where an actor's facts come from: from where it runs; from its parent, as it runs in a process of its own; from
its parent, because that process was asked and did not answer in time."""

_COLUMN = 48
"""Characters of branch, name and kind up to which the facts of all actors begin below each other."""

_ERROR = 60
"""Characters that a line shows of an error."""

_SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@dataclass(frozen=True)
class ProcessFigures:
    """What an actor's process uses."""

    pid: int
    started: float  # seconds since the epoch
    cpu: float  # seconds of processor time so far
    memory: int  # bytes of it in memory, those shared with its siblings too
    exit: str | None = None  # how it ended

    def __str__(self) -> str:
        if self.exit is not None:
            return f"process {self.pid} {self.exit}"
        return f"process {self.pid} ({self.cpu:.1f} s CPU, {self.memory / 2**20:.0f} MiB)"


@dataclass(frozen=True)
class Statistics:
    """What one actor has done and has before it."""

    name: str
    state: str
    place: str
    mailbox: int  # messages queued
    capacity: float
    senders_waiting: int
    interleaved: int  # handlers and streams that wait outside the mailbox
    handled: int  # messages handled, with or without an error; seen from outside its process: sent there
    failed: int  # of those, how many raised
    restarts: int
    children: int
    process: ProcessFigures | None = None


@dataclass(frozen=True)
class Tree:
    """A snapshot of an actor, or a system, and what it has spawned; printing it draws it."""

    name: str
    kind: str
    statistics: Statistics | None
    last_error: BaseException | None
    children: list[Tree]
    seen: Seen = "inside"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__  # so that a notebook or a prompt draws it too

    def lines(self) -> list[str]:
        """Return the drawing, a line for each actor."""
        rows = list(_rows(self))
        column = max((len(label) for label, facts in rows if facts and len(label) <= _COLUMN), default=0)
        return [f"{label:<{column}}  {facts}" if facts else label for label, facts in rows]


def _rows(tree: Tree) -> Iterator[tuple[str, str]]:
    yield printable(f"{tree.name} ({tree.kind})"), printable(", ".join(_facts(tree)))
    for child in tree.children:
        last = child is tree.children[-1]
        branch = "└── " if last else "├── "
        for label, facts in _rows(child):
            yield branch + label, facts
            branch = "    " if last else "│   "


def _facts(tree: Tree) -> Iterator[str]:
    has = tree.statistics
    if has is None:
        return
    yield "does not answer" if tree.seen == "silent" else has.state
    if has.process is not None:
        yield str(has.process)
    elif has.place != "task":
        yield has.place
    if has.mailbox:
        yield f"{has.mailbox:,} queued"
    if has.senders_waiting:
        yield f"{counted(has.senders_waiting, 'sender')} waiting"
    if has.interleaved:
        yield f"{has.interleaved:,} interleaved"
    yield f"{has.handled:,} {'handled' if tree.seen == 'inside' else 'sent'}"
    if has.failed:
        yield f"{has.failed:,} failed"
    if has.restarts:
        yield f"restarted {times(has.restarts)}"
    if tree.last_error is not None:
        yield f"last error {_short(in_a_line(tree.last_error))}"


def joined(outside: Tree, inside: Tree | None) -> Tree:
    """Return what is known of an actor in a process, seen from its parent and from that process; None: it is silent.

    Its parent knows the process and its restarts, and what waits to be sent there, which is queued too.
    """
    if inside is None:
        return replace(outside, seen="silent")
    ours, theirs = outside.statistics, inside.statistics
    assert ours is not None
    assert theirs is not None
    statistics = replace(
        theirs,
        name=ours.name,
        place=ours.place,
        mailbox=ours.mailbox + theirs.mailbox,
        capacity=ours.capacity,
        senders_waiting=ours.senders_waiting + theirs.senders_waiting,
        restarts=ours.restarts,
        process=ours.process,
    )
    last_error = outside.last_error if inside.last_error is None else inside.last_error
    return Tree(outside.name, outside.kind, statistics, last_error, inside.children)


def in_a_line(error: BaseException) -> str:
    """Return an error in one line: its type, and the first line of its text."""
    text = text_of(error)
    # One that came from another process and has no class here has its type in its text.
    full = text if isinstance(error, ActorFailed) else f"{type(error).__name__}: {text}"
    return full.partition("\n")[0].removesuffix(": ")


def times(count: int) -> str:
    """Return how often something was, in words."""
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def counted(count: int, what: str) -> str:
    """Return so many of something, in words."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def size(count: int) -> str:
    """Return a number of bytes in words."""
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count:,} bytes"


def printable(text: str) -> str:
    """Return a text that neither moves the cursor nor begins a line, wherever it came from."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "�" for char in text)


def _short(text: str) -> str:
    return text if len(text) <= _ERROR else f"{text[: _ERROR - 1]}…"
