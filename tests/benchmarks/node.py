"""The other node: a process whose actors others reach by their names: `echo`, `other_echo` and `store`."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE

import anyio
import anyio.to_thread

import lightactors as la
from lightactors.training.stores.memory import MemoryStore
from tests.benchmarks.messages import Echo


@dataclass(frozen=True)
class Addresses:
    """Where it listens."""

    tcp: str
    unix: str

    def actor(self, name: str) -> str:
        return f"{self.unix}#{name}"

    def actor_over_tcp(self, name: str) -> str:
        return f"{self.tcp}/{name}"


@asynccontextmanager
async def other_node(backend: str) -> AsyncGenerator[Addresses]:
    """Run it, on the same backend as we."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", __name__, backend, str(Path(folder, "node.sock"))]
        async with await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            line = await process.stdout.receive()
            yield Addresses(*json.loads(line))
            await process.stdin.aclose()  # which ends it
            await process.wait()


async def serve(socket: str) -> None:
    """Be it, until the standard input ends."""
    async with la.open_system("other", listen=["grpc://127.0.0.1:0", f"unix:{socket}"]) as system:
        await la.options(name="echo").spawn(Echo)
        await la.options(name="other_echo").spawn(Echo)
        await la.options(name="store").spawn(MemoryStore)
        print(json.dumps(system.addresses), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(serve, sys.argv[2], backend=sys.argv[1])
