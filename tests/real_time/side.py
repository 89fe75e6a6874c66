"""One side of an execution, as a program: `python -m tests.real_time.side ROLE ALGORITHM RUNNER N_RUNNERS BACKEND`."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, cast

from lightactors.remote import dialer
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.strategies import ClientServerExecutionStrategy
from tests.real_time import plays


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if "HASTY" in os.environ:
        dialer._COMES_BACK_WITHIN = 0.5  # noqa: SLF001 (less patience than users have)
    role, algorithm, runner, n_runners, backend = sys.argv[1:]
    strategy = ClientServerExecutionStrategy(
        cast("Any", role),
        n_runners=int(n_runners),
        graceful_timeout=1,
        terminate_timeout=0.5,
        backend=cast("Any", backend),
    )
    strategy.execute(getattr(plays, algorithm), getattr(plays, runner), MemoryStore())


if __name__ == "__main__":
    main()
