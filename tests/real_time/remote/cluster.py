"""A store and its runners in processes of their own, and what they say while a test troubles the network."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[3]

Said = dict[str, Any]


class Host:
    """One program of `hosts`, or of another module that says what happens in the same way."""

    def __init__(self, command: Sequence[str], *args: str, module: str = "tests.real_time.remote.hosts") -> None:
        self.process = subprocess.Popen(
            [*command, sys.executable, "-m", module, *args],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.errors: list[str] = []
        self._said = queue.Queue[Said]()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._take)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors.append)),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream: IO[str], take: Callable[[str], object]) -> None:
        with stream:
            for line in stream:
                take(line)

    def _take(self, line: str) -> None:
        self._said.put(json.loads(line))

    def hear(self, what: str, *, after: float = 0.0, within: float = 20.0) -> Said:
        """Wait until it says such a thing, at a time after that one."""
        deadline = time.monotonic() + within
        while True:
            try:
                said = self._said.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"it did not say {what!r} within {within} s:\n{''.join(self.errors)}") from None
            if what in said and said["at"] > after:
                return said

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self, within: float = 20.0) -> None:
        """Tell it to end, and wait until it has, as it should."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(timeout=within) == 0, "".join(self.errors)

    def close(self) -> None:
        """Leave nothing behind, however it went."""
        assert self.process.stdin is not None
        self.process.kill()
        self.process.stdin.close()
        self.process.wait()
        for thread in self._threads:
            thread.join()


class Cluster:
    """A store and its runners at work."""

    def __init__(self, store: Host, runners: Host) -> None:
        self.store = store
        self.runners = runners

    def works(self, *, after: float, within: float) -> float:
        """Return how long after that moment a rollout was finished; one that began after it as well."""
        began = self.runners.hear("began", after=after, within=within)["at"]
        return float(self.store.hear("done", after=began, within=within)["at"]) - after

    def finish(self) -> Said:
        """Let it finish what there is, and return the store's sum of it."""
        self.store.tell("sum up")
        summary = self.store.hear("rollouts", within=70)
        self.runners.end()
        self.store.end()
        return summary


@contextmanager
def open_cluster(
    backend: str,
    listen: str,
    reach: Callable[[str], str] = str,
    *,
    on_store: Sequence[str] = (),
    on_runners: Sequence[str] = (),
) -> Generator[Cluster]:
    """Give a store that listens, and four runners that reach it at another address perhaps."""
    hosts: list[Host] = []
    try:
        hosts.append(Host(on_store, "store", backend, listen))
        address = hosts[0].hear("address")["address"]
        hosts.append(Host(on_runners, "runners", backend, f"{reach(address)}/store", "4"))
        cluster = Cluster(*hosts)
        hosts[1].hear("running")
        cluster.works(after=0.0, within=20)
        yield cluster
    finally:
        for host in hosts:
            host.close()
