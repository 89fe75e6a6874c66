"""How a command runs its loop: what it logs, and how signals end it."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio
import typer

from lightactors.cli.options import is_debugging

_ASKED_TO_STOP = [128 + number for number in (signal.SIGTERM, signal.SIGHUP)]


def prepare() -> None:
    """Set up what is logged, before gRPC is imported: of what its core writes, we say the gist in one line."""
    level = logging.INFO if is_debugging() else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR" if is_debugging() else "NONE")


def until_stopped(main: Callable[[], Awaitable[None]], backend: Literal["asyncio", "trio"] = "asyncio") -> None:
    """Run until asked to stop, by Ctrl-C or SIGTERM: the way to end what would run for ever, and no failure."""
    try:
        anyio.run(main, backend=backend)
    except KeyboardInterrupt:
        pass
    except SystemExit as asked:
        if asked.code not in _ASKED_TO_STOP:
            raise
    finally:
        # All is done; while Python takes itself apart, another Ctrl-C would only spoil the exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def say(line: str) -> None:
    """Tell who has typed the command what it does."""
    typer.echo(f"lightactors: {line}", err=True)
