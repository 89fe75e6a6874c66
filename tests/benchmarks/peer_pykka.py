"""pykka's actors, which are threads: ten thousand spawned and stopped; runs in the peers' environment."""

import json
import time
import tracemalloc

import pykka  # type: ignore[import-not-found]


class Counter(pykka.ThreadingActor):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.value = 0


def main(count: int = 10_000) -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [Counter.start() for _ in range(count // 10)]
    memory = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    pykka.ActorRegistry.stop_all()
    tracemalloc.stop()
    start = time.perf_counter()
    kept = [Counter.start() for _ in range(count)]
    spawned = time.perf_counter()
    pykka.ActorRegistry.stop_all()
    print(json.dumps({"spawn": spawned - start, "stop": time.perf_counter() - spawned, "memory": memory}))


main()
