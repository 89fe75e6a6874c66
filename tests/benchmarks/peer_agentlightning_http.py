"""Agent-Lightning 0.3's store over HTTP: its server in a process, its clients in another; runs in the peers' one."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time

from agentlightning import (  # type: ignore[import-not-found]
    InMemoryLightningStore,
    LightningStoreClient,
    LightningStoreServer,
)

logging.disable(logging.CRITICAL)

COUNTS = {1: 30, 8: 120, 32: 160}
"""How many rollouts so many runners do in a round."""


async def serve(port: int) -> None:
    # As its own `agl store` does it, which is faster than the thread of its client-server strategy.
    server = LightningStoreServer(InMemoryLightningStore(thread_safe=True), "127.0.0.1", port, launch_mode="asyncio")
    await server.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()


async def run(store: LightningStoreClient, count: int, worker_id: str) -> None:
    for number in range(count):
        await store.enqueue_rollout({"task": number})
        claimed = None
        while claimed is None:
            claimed = await store.dequeue_rollout(worker_id=worker_id)
        await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")


async def rollouts(port: int, runners: int, count: int) -> float:
    clients = [LightningStoreClient(f"http://127.0.0.1:{port}") for _ in range(runners)]
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        await asyncio.gather(*[run(client, count // runners, f"w{n}") for n, client in enumerate(clients)])
        best = max(best, count / (time.perf_counter() - start))
    for client in clients:
        await client.close()
    return best


async def measure(port: int) -> dict[int, float]:
    return {runners: await rollouts(port, runners, count) for runners, count in COUNTS.items()}


def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, "serve", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        while server.stdout.readline() != b"ready\n":
            pass
        figures = asyncio.run(measure(port))
        server.stdin.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(serve(int(sys.argv[2])))
    else:
        main()
