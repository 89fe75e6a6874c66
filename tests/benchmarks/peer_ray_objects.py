"""Ray's object store: the same arrays put here and got in an actor's process; runs in an environment of its own.

Prints figures under the names of our rows, in their units (see `objects`).
"""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")

import numpy as np
import ray  # type: ignore[import-not-found]

ROUNDS = 10
SIZES = {"1 KB": 1_000, "1 MB": 1_000_000, "100 MB": 100_000_000}
PUTS = {"1 KB": 500, "1 MB": 25, "100 MB": 1}
GETS = {"1 KB": 500, "1 MB": 25, "100 MB": 5}
"""How many objects of a size are put or got in a round."""
READERS = 8
WEIGHTS = {"100 MB": 100, "1 GB": 1_000}


class Reader:
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def get(self, refs: list[Any]) -> float:
        start = time.perf_counter()
        arrays = [ray.get(ref) for ref in refs]
        took = time.perf_counter() - start
        assert all(array[-1] == 7 for array in arrays)
        return took / len(refs)

    def size(self, array: Any) -> int:
        return int(array.nbytes)

    def hold(self, refs: list[Any]) -> int:
        (weights,) = [ray.get(ref) for ref in refs]
        self.kept.append(weights)
        return sum(int(array[-1]) for array in weights.values())


def best(work: Callable[[], float]) -> float:
    return min(work() for _ in range(ROUNDS))


def put(size: int, count: int) -> float:
    array = np.full(size, 7, np.uint8)
    start = time.perf_counter()
    for _ in range(count):
        ray.put(array)
    return (time.perf_counter() - start) / count


def put_once(size: int) -> float:
    array = np.full(size, 7, np.uint8)
    start = time.perf_counter()
    ref = ray.put(array)
    took = time.perf_counter() - start
    del ref
    return took


def get(reader: Any, size: int, count: int) -> float:
    array = np.full(size, 7, np.uint8)
    took: float = ray.get(reader.get.remote([ray.put(array) for _ in range(count)]))
    return took


def message(reader: Any) -> float:
    array = np.full(100_000_000, 7, np.uint8)
    start = time.perf_counter()
    assert ray.get(reader.size.remote(array)) == array.nbytes
    return time.perf_counter() - start


def shmem() -> int:
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Shmem:"))


def weights_to(readers: list[Any], megabytes: int) -> tuple[float, float]:
    """Return the seconds it takes, and the memory in GB; to memory that nobody has touched yet."""
    weights = {f"layer {number}": np.full(megabytes * 250_000 // 16, 7, np.float32) for number in range(16)}
    before = shmem()
    start = time.perf_counter()
    ref = ray.put(weights)
    assert ray.get([reader.hold.remote([ref]) for reader in readers]) == [16 * 7] * len(readers)
    took = time.perf_counter() - start
    return took, (shmem() - before) / 1e9


def main() -> None:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=3 * 10**9,
    )
    actor = ray.remote(Reader).options(num_cpus=0)
    readers = [actor.remote() for _ in range(READERS)]
    ray.get([reader.get.remote([ray.put(np.full(8, 7, np.uint8))]) for reader in readers])
    found = {}
    for name, megabytes in WEIGHTS.items():
        found[f"{name} of weights to {READERS} processes"], found[f"memory of {name} there"] = weights_to(
            readers, megabytes
        )
    found["put 100 MB, fresh"] = put_once(100_000_000) * 1e6  # nobody has let go of anything yet
    reader = readers[0]
    for name, size in SIZES.items():
        found[f"put {name}"] = best(partial(put, size, PUTS[name])) * 1e6
        found[f"get {name}"] = best(partial(get, reader, size, GETS[name])) * 1e6
    found["small objects put"] = 1e6 / found["put 1 KB"]
    found["small objects got"] = 1e6 / found["get 1 KB"]
    found["message of 100 MB and its ack"] = best(partial(message, reader)) * 1e6
    ray.shutdown()
    print(json.dumps(found))


main()
