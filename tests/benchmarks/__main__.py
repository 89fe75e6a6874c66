"""Print the table of figures: ours, and beside each what was measured in the same run.

Compare within one run, never between machines or days. `--peers` adds the peers, in an environment that it
makes (about a gigabyte).
"""

from __future__ import annotations

import argparse

import anyio
from rich.console import Console
from rich.table import Table

from tests.benchmarks import actors, imports, peers, processes, rollouts
from tests.benchmarks.measure import Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", action="store_true", help="measure other frameworks too")
    with_peers = parser.parse_args().peers

    for backend in ("asyncio", "trio"):
        here = anyio.run(actors.rows, backend, backend=backend) + anyio.run(rollouts.rows, backend=backend)
        there = anyio.run(processes.rows, backend, backend=backend)
        if with_peers and backend == "asyncio":
            _add_peers({row.what: row for row in here + there})
        _print(f"{backend}, one process", here)
        _print(f"{backend}, a process for each actor", there)
    _print("start", imports.rows())


def _add_peers(by_what: dict[str, Row]) -> None:
    xoscar = peers.measure("peer_xoscar.py")
    by_what["ask, idle actor, plain handler"].beside["xoscar"] = xoscar["asks"]
    by_what["tell"].beside["xoscar"] = xoscar["tells"]
    lightning = peers.measure("peer_agentlightning.py")
    by_what["rollouts through a mailbox"].beside["Agent-Lightning 0.3.0"] = lightning["rollouts"]
    xoscar = peers.measure("peer_xoscar_processes.py")
    tractor = peers.measure("peer_tractor.py", peers.TRACTOR)
    for what in processes.COUNTS:
        by_what[what].beside["xoscar"] = xoscar[what]
    by_what["ask a process, one at a time"].beside["tractor 0.1.0a5"] = tractor["asks"]
    _add_lives(by_what, {"xoscar": xoscar, "tractor 0.1.0a5": tractor})
    threads = {"pykka (threads)": peers.measure("peer_pykka.py")}
    for peer, figures in {**threads, "xoscar": xoscar, "thespian (simple)": peers.measure("peer_thespian.py")}.items():
        for what, ours in IN_PROCESS.items():
            by_what[ours].beside[peer] = figures[what]


IN_PROCESS = {"spawn": "spawn 10,000 actors", "stop": "stop 10,000 actors", "memory": "memory of an actor"}
"""What a peer with actors in its process has a figure of, and our row of it. tractor has none: see its processes."""


def _add_lives(by_what: dict[str, Row], figures_by_peer: dict[str, dict[str, float]]) -> None:
    for count, noun in ((1, "process"), (4, "processes")):
        for do in ("spawn", "stop"):
            for peer, figures in figures_by_peer.items():
                by_what[f"{do} {count} {noun}"].beside[peer] = figures[f"{do} {count}"]


def _print(title: str, found: list[Row]) -> None:
    table = Table("what", "ours", "beside it (how many times better ours is)", title=title, title_justify="left")
    for row in found:
        beside = [f"{peer} {_figure(row.beside[peer])} ({row.ratio(peer):.2g}×)" for peer in row.beside]
        table.add_row(row.what, f"{_figure(row.ours)} {row.unit}", "\n".join(beside))
    Console(width=118).print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
