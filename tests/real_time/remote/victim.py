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
    errors: Path

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def tidy(self) -> None:
        """Have it give back to the system what it no longer holds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("tidy up\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "tidy\n"

    def end(self) -> None:
        """It must still be able to end as it should."""
        said, _ = self.process.communicate(timeout=10)
        errors = self.errors.read_text()
        assert (self.process.returncode, said) == (0, "ended\n")
        assert "lightactors" not in errors, errors  # gRPC complains of what it was sent; we need not


@contextmanager
def open_target(backend: str, folder: Path) -> Generator[Target]:
    tokens = Tokens.new()
    tokens.save(folder / "tokens")
    errors = folder / "errors"  # a file: nobody reads a pipe meanwhile, and who writes to a full one stands still
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.real_time.remote.target", backend, str(folder / "tokens")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    with process:
        try:
            assert process.stdout is not None
            yield Target(process, process.stdout.readline().strip(), tokens, errors)
        finally:
            process.kill()
