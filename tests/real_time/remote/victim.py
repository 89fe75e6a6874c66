"""The target's process, as a test sees it: where it is, what it weighs, and whether it ends as it should."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from lightactors.security import Tokens

ROOT = Path(__file__).parents[3]


@dataclass
class Target:
    """A node in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    tokens: Tokens

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def end(self) -> None:
        """It must still be able to end as it should."""
        said, errors = self.process.communicate(timeout=10)
        assert (self.process.returncode, said) == (0, "ended\n")
        assert "lightactors" not in errors, errors  # gRPC complains of what it was sent; we need not


@contextmanager
def open_target(backend: str, folder: Path) -> Generator[Target]:
    tokens = Tokens.new()
    tokens.save(folder / "tokens")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.real_time.remote.target", backend, str(folder / "tokens")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield Target(process, process.stdout.readline().strip(), tokens)
        finally:
            process.kill()
