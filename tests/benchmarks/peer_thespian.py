"""thespian's actors in its simplest system, which runs them in their caller; runs in the peers' environment."""

import json
import time
import tracemalloc

from thespian.actors import Actor, ActorExitRequest, ActorSystem  # type: ignore[import-not-found]


class Counter(Actor):  # type: ignore[misc]
    def receiveMessage(self, message: object, sender: object) -> None:
        """Take it."""


def main(count: int = 10_000) -> None:
    system = ActorSystem("simpleSystemBase")
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [system.createActor(Counter) for _ in range(count // 10)]
    memory = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    tracemalloc.stop()
    start = time.perf_counter()
    kept = [system.createActor(Counter) for _ in range(count)]
    spawned = time.perf_counter()
    for actor in kept:
        system.tell(actor, ActorExitRequest())
    system.shutdown()
    print(json.dumps({"spawn": spawned - start, "stop": time.perf_counter() - spawned, "memory": memory}))


main()
