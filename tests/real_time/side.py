"""One side of an execution, as a program: `python -m tests.real_time.side ROLE ALGORITHM RUNNER N_RUNNERS BACKEND`."""

from __future__ import annotations

import logging
import sys
from typing import Any, cast

from lightactors.training.stores.memory import MemoryStore
from lightactors.training.strategies import ClientServerExecutionStrategy
from tests.real_time import plays


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    role, algorithm, runner, n_runners, backend = sys.argv[1:]
    strategy = ClientServerExecutionStrategy(
        cast("Any", role),
        n_runners=int(n_runners),
        graceful_timeout=2,
        terminate_timeout=1,
        backend=cast("Any", backend),
    )
    strategy.execute(getattr(plays, algorithm), getattr(plays, runner), MemoryStore())


if __name__ == "__main__":
    main()
