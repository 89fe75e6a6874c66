"""Print the table of figures: ours, and beside each what was measured in the same run.

Compare within one run, never between machines or days. `--peers` adds the peers, in an environment that it
makes (about a gigabyte).
"""

from __future__ import annotations

import argparse

import anyio
from rich.console import Console
from rich.table import Table

from tests.benchmarks import actors, imports, links, peers, rollouts
from tests.benchmarks.measure import Row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", action="store_true", help="measure xoscar and Agent-Lightning 0.3.0 too")
    with_peers = parser.parse_args().peers

    for backend in ("asyncio", "trio"):
        found = anyio.run(actors.rows, backend, backend=backend) + anyio.run(rollouts.rows, backend=backend)
        if with_peers and backend == "asyncio":
            _add_peers({row.what: row for row in found})
        _print(f"{backend}, one process", found)
        _print(f"{backend}, two processes", anyio.run(links.rows, backend, backend=backend))
    _print("start", imports.rows())


def _add_peers(by_what: dict[str, Row]) -> None:
    xoscar = peers.measure("peer_xoscar.py")
    by_what["ask, idle actor, plain handler"].beside["xoscar"] = xoscar["asks"]
    by_what["tell"].beside["xoscar"] = xoscar["tells"]
    lightning = peers.measure("peer_agentlightning.py")
    by_what["rollouts through a mailbox"].beside["Agent-Lightning 0.3.0"] = lightning["rollouts"]


def _print(title: str, found: list[Row]) -> None:
    table = Table("what", "ours", "beside it (how many times better ours is)", title=title, title_justify="left")
    for row in found:
        beside = [f"{peer} {_figure(row.beside[peer])} ({row.ratio(peer):.2g}×)" for peer in row.beside]
        table.add_row(row.what, f"{_figure(row.ours)} {row.unit}", "\n".join(beside))
    Console(width=118).print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


main()
