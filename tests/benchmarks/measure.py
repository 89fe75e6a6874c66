"""How a figure is measured: the best of several short runs, because whatever disturbs only ever slows down."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

ROUNDS = 5


@dataclass
class Row:
    """One line of the table: our figure, and what was measured beside it in the same run."""

    what: str
    unit: str
    ours: float
    beside: dict[str, float] = field(default_factory=dict)
    more_is_better: bool = True

    def ratio(self, peer: str) -> float:
        """Return how many times better ours is."""
        return self.ours / self.beside[peer] if self.more_is_better else self.beside[peer] / self.ours


async def per_second(work: Callable[[int], Awaitable[object]], count: int) -> float:
    """Return how many operations per second `await work(count)` does."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        await work(count)
        best = min(best, time.perf_counter() - start)
    return count / best
