"""Peers, measured beside us: each in an environment of its own, which is made here when it is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parents[1] / ".tox" / "peers"
PACKAGES = ("agentlightning==0.3.0", "xoscar")


def measure(script: str) -> dict[str, float]:
    """Run a peer's script in the peers' environment and return the figures that it prints."""
    done = subprocess.run(
        [_python(), HERE / script],
        capture_output=True,
        text=True,
        check=True,
        # Without it, Agent-Lightning's proxy library looks for a price list on the network.
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _python() -> Path:
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        print(f"making {ENVIRONMENT} for {', '.join(PACKAGES)} (about a gigabyte) ...", file=sys.stderr)
        venv.create(ENVIRONMENT, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python
