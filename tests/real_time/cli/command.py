"""The command line as it is typed: `lightactors ...` in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightactors.cli.exits import Exit
from tests.real_time.programs import ROOT, TAG, kill_what_is_left_of

LIGHTACTORS = [sys.executable, "-W", "error", "-m", "lightactors"]

_HASTY = """
import os
os.environ["GRPC_VERBOSITY"] = "NONE"
from lightactors.cli import joining, main, session
joining._GRACE = session._OPENS_WITHIN = 0.3
main()
"""

HASTY = [sys.executable, "-W", "error", "-c", _HASTY]
"""The same, with less patience than users have: for tests that see it come to its end."""


def surroundings(tag: str = "", more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which nothing is set up yet."""
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("LIGHTACTORS_", "AGL_", "GRPC_"))
    }
    return {**plain, "PYTHONPATH": str(ROOT), "COLUMNS": "80", TAG: tag, **(more or {})}


def lightactors(
    *arguments: str | Path,
    cwd: Path,
    seconds: float = 30,
    variables: Mapping[str, str] | None = None,
    program: Sequence[str] = LIGHTACTORS,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*program, *map(str, arguments)],
        cwd=cwd,
        env=surroundings(more=variables),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def refusal(done: subprocess.CompletedProcess[str], exit: Exit) -> str:
    """Return the line that a command has ended with."""
    assert (done.returncode, done.stdout) == (exit, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("lightactors: ")
    return line.removeprefix("lightactors: ")


class Command:
    """A command that runs until it is stopped. What it prints goes to files, so that nobody has to read along."""

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path,
        variables: Mapping[str, str] | None = None,
        program: Sequence[str] = LIGHTACTORS,
    ) -> None:
        self.tag = f"{uuid.uuid4()}"
        self._output = cwd / f"{self.tag}.out"
        self._errors = cwd / f"{self.tag}.err"
        with self._output.open("w") as output, self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [*program, *map(str, arguments)],
                cwd=cwd,
                env=surroundings(self.tag, variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def says(self, pattern: str, seconds: float = 20, *, times: int = 1) -> re.Match[str]:
        """Wait until the pattern has been printed so many times; return the latest match."""
        end = time.monotonic() + seconds
        while len(found := list(re.finditer(pattern, self.output + self.errors, re.MULTILINE))) < times:
            assert self.process.poll() is None, f"it has ended: {self.output}{self.errors}"
            assert time.monotonic() < end, f"it does not say {pattern!r}: {self.output}{self.errors}"
            time.sleep(0.02)
        return found[-1]

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        """Send a signal; return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def running(
    *arguments: str | Path,
    cwd: Path,
    variables: Mapping[str, str] | None = None,
    program: Sequence[str] = LIGHTACTORS,
) -> Iterator[Command]:
    """Run a command during the block; kill what is left of it afterwards."""
    command = Command(*arguments, cwd=cwd, variables=variables, program=program)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.wait()
        kill_what_is_left_of(command.tag)
