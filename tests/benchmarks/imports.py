"""What `import lightactors` costs over bare Python."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.benchmarks.measure import ROUNDS, Row


def rows() -> list[Row]:
    """Measure in fresh interpreters."""
    bare, imported = _start("pass"), _start("import lightactors")
    row = Row("import lightactors, over bare Python", "ms", (imported - bare) * 1e3, more_is_better=False)
    row.beside["import anyio, asyncio"] = (_start("import anyio, asyncio") - bare) * 1e3
    return [row]


def _start(program: str) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        best = min(best, time.perf_counter() - start)
    return best
