"""`lightactors run`: a user's script under the environment that the options describe."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from lightactors.cli.exits import CommandError
from lightactors.cli.targets import missing_module, stand_in

PREFIX = "LIGHTACTORS_"


def run_script(program: str, arguments: Sequence[str], settings: Mapping[str, object], *, is_module: bool) -> NoReturn:
    """Become the Python that runs a script, or a module; its exit code is then this program's.

    A fresh interpreter, and not `runpy` in this one: its `__main__`, `sys.path`, signals and tracebacks are what they
    are without us, and nothing that this command has imported is in it.
    """
    (_check_module if is_module else _check_file)(program)
    os.environ |= {PREFIX + name: str(value) for name, value in settings.items() if value is not None}
    sys.stdout.flush()
    sys.stderr.flush()
    what = ["-m", program] if is_module else [program]
    os.execv(sys.executable, [sys.executable, *interpreter_options(sys.orig_argv, sys.argv), *what, *arguments])


def interpreter_options(original: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the options that this interpreter was given, such as `-X dev`: all that stands before the program."""
    options = list(original[1 : max(1, len(original) - len(arguments))])
    return options[:-1] if options[-1:] == ["-m"] else options


def _check_file(path: str) -> None:
    if Path(path).is_dir() and not (Path(path) / "__main__.py").exists():
        raise CommandError(f"{path!r} is a directory without a __main__.py; name the script in it")
    if not Path(path).exists():
        as_module = f", or say -m {path}" if all(part.isidentifier() for part in path.split(".")) else ""
        raise CommandError(f"there is no file {path!r} in {os.getcwd()}; give the path of a script{as_module}")


def _check_module(name: str) -> None:
    stand_in(os.getcwd())
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        raise missing_module(error.name or name) from None
    except ValueError:
        found = None  # a name that no module can have
    if found is None:
        raise missing_module(name)
