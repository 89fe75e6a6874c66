"""The options that several commands have, with their help and the environment variables behind them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from lightactors.address import PORT
from lightactors.training import environment

DEBUG = "LIGHTACTORS_DEBUG"
"""The variable that asks for tracebacks; the option sets it, so that the processes of a command see it too."""


def _set_debug(wanted: bool) -> bool:
    if wanted:
        os.environ[DEBUG] = "1"
    return wanted


def is_debugging() -> bool:
    """Tell whether errors are to be shown with their tracebacks."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def listen_default() -> list[str]:
    """Return where a store listens: what the environment says, or this host alone."""
    return [_address("127.0.0.1")]


def store_default() -> str:
    """Return where a store is looked for: what the environment says, or this host."""
    return environment.text("STORE", None, default=_address("127.0.0.1"))


def _address(host: str) -> str:
    host = environment.text("SERVER_HOST", None, default=host)
    port = environment.port("SERVER_PORT", None, default=PORT)
    return f"grpc://[{host}]:{port}" if ":" in host else f"grpc://{host}:{port}"


Debug: TypeAlias = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, envvar=DEBUG, help="Show an error with its traceback.")
]

NodeAddress: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="ADDRESS",
        envvar="LIGHTACTORS_STORE",
        show_default=False,
        help="The node: grpc://HOST:PORT, grpcs:// or unix:PATH. Default: as for a runner's --store.",
    ),
]

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print it as JSON, with every figure.")]

Watch: TypeAlias = Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")]

Interval: TypeAlias = Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often with --watch.")]

TokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        envvar="LIGHTACTORS_TOKEN_FILE",
        metavar="FILE",
        help="File that holds the token, readable by its owner only (chmod 600).",
    ),
]

TlsCa: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Certificate that grpcs:// is to be signed by; default: those the system trusts."
    ),
]

TlsCert: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="This side's own certificate, for mutual TLS.")
]

TlsKey: TypeAlias = Annotated[Path | None, typer.Option(metavar="FILE", help="The key of --tls-cert.")]
