"""Peers, measured beside us: each in an environment of its own, which is made here when it is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".tox"


@dataclass(frozen=True)
class Environment:
    """What is installed for a peer."""

    name: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()  # installed without what they depend on


PEERS = Environment("peers", ("agentlightning==0.3.0", "xoscar", "pykka", "thespian"))
TRACTOR = Environment(
    "tractor",
    ("trio<0.23", "tricycle", "colorlog", "wrapt", "msgspec", "async_generator", "trio_typing", "pdbpp"),
    # The newest that a package index has; what its debugger depends on is on none.
    alone=("tractor==0.1.0a5",),
)
RAY = Environment("ray", ("ray", "numpy"))


def measure(script: str, environment: Environment = PEERS) -> dict[str, float]:
    """Run a peer's script in its environment and return the figures that it prints."""
    done = subprocess.run(
        [_python(environment), HERE / script],
        capture_output=True,
        text=True,
        check=True,
        # Without it, Agent-Lightning's proxy library looks for a price list on the network.
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _python(environment: Environment) -> Path:
    home = ENVIRONMENTS / environment.name
    python = home / "bin" / "python"
    installed = home / "installed.txt"
    wanted = repr(environment)
    if not installed.exists() or installed.read_text() != wanted:
        print(f"making {home} for {', '.join(environment.packages)} ...", file=sys.stderr)
        venv.create(home, with_pip=True)
        install: list[str | Path] = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *environment.packages], check=True)
        if environment.alone:
            subprocess.run([*install, "--no-deps", *environment.alone], check=True)
        installed.write_text(wanted)
    return python
