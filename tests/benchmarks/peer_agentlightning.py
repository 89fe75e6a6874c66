"""Agent-Lightning 0.3's in-memory store doing our rollouts; runs in the peers' environment."""

import asyncio
import json
import logging
import time

from agentlightning import InMemoryLightningStore  # type: ignore[import-not-found]

logging.disable(logging.CRITICAL)


async def main() -> None:
    best = 0.0
    for _ in range(3):
        store = InMemoryLightningStore()
        start = time.perf_counter()
        for number in range(300):
            await store.enqueue_rollout({"task": number})
            claimed = await store.dequeue_rollout(worker_id="w")
            await store.update_attempt(claimed.rollout_id, claimed.attempt.attempt_id, status="succeeded")
        best = max(best, 300 / (time.perf_counter() - start))
    print(json.dumps({"rollouts": best}))


asyncio.run(main())
