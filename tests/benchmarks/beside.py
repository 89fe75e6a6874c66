"""Which figures of which peer stand beside our rows; each peer is measured when it is first wanted."""

from __future__ import annotations

import subprocess
from functools import cache

from tests.benchmarks import peers, runners
from tests.benchmarks.measure import Row
from tests.benchmarks.peers import PEERS, RAY, TRACTOR, Environment

Rows = dict[str, Row]

AGENT_LIGHTNING = "Agent-Lightning 0.3.0"


@cache
def _figures(script: str, environment: Environment = PEERS) -> dict[str, float]:
    return peers.measure(script, environment)


def actors(rows: Rows) -> None:
    xoscar = _figures("peer_xoscar.py")
    rows["ask, idle actor, plain handler"].beside["xoscar"] = xoscar["asks"]
    rows["tell"].beside["xoscar"] = xoscar["tells"]
    for peer, script in IN_PROCESS.items():
        for what, ours in LIVES.items():
            rows[ours].beside[peer] = _figures(script)[what]


IN_PROCESS = {
    "pykka (threads)": "peer_pykka.py",
    "xoscar": "peer_xoscar_processes.py",
    "thespian (simple)": "peer_thespian.py",
}
"""Peers with actors in their own process; tractor has none: see its processes."""

LIVES = {"spawn": "spawn 10,000 actors", "stop": "stop 10,000 actors", "memory": "memory of an actor"}


def rollouts(rows: Rows) -> None:
    rows["rollouts through a mailbox"].beside[AGENT_LIGHTNING] = _figures("peer_agentlightning.py")["rollouts"]


def processes(rows: Rows) -> None:
    by_peer = {"xoscar": _figures("peer_xoscar_processes.py"), "tractor 0.1.0a5": _figures("peer_tractor.py", TRACTOR)}
    rows["ask, one at a time"].beside["tractor 0.1.0a5"] = by_peer["tractor 0.1.0a5"]["asks"]
    for count, noun in ((1, "process"), (4, "processes")):
        for do in ("spawn", "stop"):
            for peer, figures in by_peer.items():
                rows[f"{do} {count} {noun}"].beside[peer] = figures[f"{do} {count}"]
    _add_same(rows, "xoscar", by_peer["xoscar"])


def links(rows: Rows) -> None:
    _add_same(rows, "xoscar", _figures("peer_xoscar_processes.py"))
    _add_ray(rows, "peer_ray.py")


def objects(rows: Rows) -> None:
    _add_ray(rows, "peer_ray_objects.py")
    _add_same(rows, f"{AGENT_LIGHTNING} over HTTP", _figures("peer_agentlightning_weights.py"))


def _add_ray(rows: Rows, script: str) -> None:
    try:
        _add_same(rows, "Ray", _figures(script, RAY))
    except subprocess.CalledProcessError as error:
        print(f"Ray is left out: it can't be installed, or does not run here: {error}\n{error.stderr or ''}")


def durable(rows: Rows) -> None:
    rows["durable rollouts"].beside[f"{AGENT_LIGHTNING} over HTTP"] = _figures("peer_agentlightning_http.py")["32"]


def nothing(rows: Rows) -> None:
    """No peer has such a thing."""


def store(rows: Rows) -> None:
    figures = _figures("peer_agentlightning_http.py")
    for count in runners.COUNTS:
        rows[runners.name(count)].beside[f"{AGENT_LIGHTNING} over HTTP"] = figures[str(count)]


def _add_same(rows: Rows, peer: str, figures: dict[str, float]) -> None:
    """Add the figures that have the names of rows."""
    for what in rows.keys() & figures.keys():
        rows[what].beside[peer] = figures[what]
