"""Print the table of figures: ours, and beside each what was measured in the same run.

Compare within one run, never between machines or days. `--peers` adds the peers, in environments that it makes
(about a gigabyte).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from rich.console import Console
from rich.table import Table

from tests.benchmarks import (
    actors,
    beside,
    durable,
    imports,
    links,
    objects,
    postgres,
    processes,
    queues,
    rollouts,
    runners,
)
from tests.benchmarks.measure import Row


@dataclass(frozen=True)
class Room:
    """What is measured together."""

    title: str
    rows: Callable[[str], Awaitable[list[Row]]]
    add_peers: Callable[[dict[str, Row]], None]


ROOMS = {
    "actors": Room("one process", actors.rows, beside.actors),
    "rollouts": Room("a store in the same process", rollouts.rows, beside.rollouts),
    "durable": Room("a store on a disk", durable.rows, beside.durable),
    "postgres": Room("a store in PostgreSQL", postgres.rows, beside.nothing),
    "processes": Room("a process for each actor", processes.rows, beside.processes),
    "queues": Room("a queue of tasks for another process", queues.rows, beside.nothing),
    "objects": Room("large values for other processes", objects.rows, beside.objects),
    "links": Room("an actor of another node", links.rows, beside.links),
    "runners": Room("runners of another node's store", runners.rows, beside.store),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", action="store_true", help="measure other frameworks too")
    parser.add_argument("--only", choices=[*ROOMS, "imports"], help="measure only this")
    asked = parser.parse_args()

    for name, room in ROOMS.items():
        if asked.only in (name, None):
            _measure(room, with_peers=asked.peers)
    if asked.only in ("imports", None):
        _print("start", imports.rows())


def _measure(room: Room, *, with_peers: bool) -> None:
    found = {row.what: row for row in anyio.run(room.rows, "asyncio")}
    if with_peers:
        room.add_peers(found)
    _print(f"asyncio, {room.title}", [*found.values()])
    on_trio = anyio.run(room.rows, "trio", backend="trio")
    for row in on_trio:
        row.beside["asyncio"] = found[row.what].ours
    _print(f"trio, {room.title}", on_trio)


def _print(title: str, found: list[Row]) -> None:
    title += f" (the machine's load now: {os.getloadavg()[0]:.1f})"
    table = Table("what", "ours", "beside it (how many times better ours is)", title=title, title_justify="left")
    for row in found:
        figures = [f"{peer} {_figure(row.beside[peer])} ({row.ratio(peer):.2g}×)" for peer in row.beside]
        table.add_row(row.what, f"{_figure(row.ours)} {row.unit}", "\n".join(figures))
    Console(width=118).print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
