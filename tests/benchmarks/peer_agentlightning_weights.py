"""Weights given to runners as Agent-Lightning 0.3 can: a resource over HTTP; runs in the peers' environment.

A resource is a prompt template, an LLM's address or the like, and travels as JSON. So weights have to be text: they
are pickled and base64-encoded, the way its users send bytes. A tenth of a gigabyte is enough: a
whole one would take its server and clients minutes, and memory for each of their copies.
"""

import asyncio
import base64
import json
import logging
import multiprocessing
import pickle
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np
import psutil
from agentlightning import (  # type: ignore[import-not-found]
    InMemoryLightningStore,
    LightningStoreClient,
    LightningStoreServer,
    PromptTemplate,
)

logging.disable(logging.CRITICAL)

READERS = 8
LAYERS = 16


async def serve(port: int) -> None:
    server = LightningStoreServer(InMemoryLightningStore(thread_safe=True), "127.0.0.1", port, launch_mode="asyncio")
    await server.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop()


def client_of(port: int) -> Any:
    return LightningStoreClient(f"http://127.0.0.1:{port}", request_timeout=600.0, connection_timeout=60.0)


def hold(port: int, go: Any, done: Any, end: Any) -> None:
    """Be a runner: fetch the weights and keep them."""
    done.put(0)
    go.wait()
    weights = asyncio.run(fetch(port))
    done.put(sum(int(array[-1]) for array in weights.values()))
    end.wait()


async def fetch(port: int) -> dict[str, Any]:
    client = client_of(port)
    update = await client.get_latest_resources()
    await client.close()
    weights: dict[str, Any] = pickle.loads(base64.b64decode(update.resources["weights"].template))
    return weights


async def publish(port: int, weights: dict[str, Any]) -> None:
    client = client_of(port)
    text = base64.b64encode(pickle.dumps(weights)).decode()
    await client.add_resources({"weights": PromptTemplate(template=text, engine="f-string")})
    await client.close()


def memory(processes: list[psutil.Process]) -> int:
    return sum(process.memory_full_info().uss for process in processes)


def measure(port: int, megabytes: int) -> dict[str, float]:
    weights = {f"layer {number}": np.full(megabytes * 250_000 // LAYERS, 7, np.float32) for number in range(LAYERS)}
    context = multiprocessing.get_context("fork")  # to import all that once takes ten seconds
    go, end, done = context.Event(), context.Event(), context.SimpleQueue()
    readers = [context.Process(target=hold, args=(port, go, done, end)) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    for _ in readers:
        done.get()
    processes = [psutil.Process(reader.pid) for reader in readers]
    before = memory(processes)
    start = time.perf_counter()
    asyncio.run(publish(port, weights))
    go.set()
    for _ in readers:
        assert done.get() == LAYERS * 7
    took = time.perf_counter() - start
    held = memory(processes) - before
    end.set()
    for reader in readers:
        reader.join()
    name = f"{megabytes} MB"
    return {f"{name} of weights to {READERS} processes": took, f"memory of {name} there": held / 1e9}


def main() -> None:
    megabytes = int(sys.argv[1]) if sys.argv[1:] else 100
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, "serve", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        while server.stdout.readline() != b"ready\n":
            pass
        try:
            print(json.dumps(measure(port, megabytes)))
        finally:
            server.stdin.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(int(sys.argv[2])))
    else:
        main()
