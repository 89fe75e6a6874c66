"""The command line: `lightactors store | runner | run | status | objects | stop | protogen`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

_NEEDED = {"typer", "rich"}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Do what the arguments say (default: the program's own) and exit."""
    try:
        # Imported late: typer and rich come with an extra, and who lacks them is to be told in one line.
        from lightactors.cli.app import run_command
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        sys.exit(f"lightactors: the command line needs {error.name}: pip install 'lightactors[cli]'")
    sys.exit(run_command(arguments))
