"""Targets: what `package.module:attribute` stands for, and what is wrong where it stands for nothing."""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from lightactors.cli.exits import CommandError
from lightactors.errors import ContractError
from lightactors.training.runners.agent import as_agent


def load_agent(target: str) -> object:
    """Return the agent that a target names; raise `CommandError` that says what is wrong with it."""
    found = load(target, example="package.module:agent")
    try:
        as_agent(found)
    except ContractError as error:
        raise CommandError(f"{target}: {error}") from error
    return found


def load(target: str, *, example: str) -> Any:
    """Return what a target names, a module of the current directory before one that is installed."""
    module_name, colon, path = target.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module_name.split("."), *path.split(".")]):
        raise CommandError(f"{target!r} is not of the form {example}{_hint_about_file(target)}")
    found: Any = _module(module_name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(f"{_what(found)} has no {part!r}{_nearest(part, dir(found))}") from None
    return found


def stand_in(directory: str) -> None:
    """Let modules be imported from a directory, as `python -m` does for the current one."""
    if directory not in sys.path and "" not in sys.path:
        sys.path.insert(0, directory)


def _module(name: str) -> ModuleType:
    stand_in(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise missing_module(missing) from None
        raise CommandError(f"module {name!r} can't be imported: it imports {missing!r}, which is missing") from error
    except Exception as error:
        raise CommandError(f"module {name!r} can't be imported: {type(error).__name__}: {error}") from error


def missing_module(name: str) -> CommandError:
    """Return the error that says of a module that it is not there, with those that may have been meant."""
    return CommandError(
        f"there is no module {name!r} in {os.getcwd()} or among what is installed"
        f"{_nearest(name, _modules_beside(name))}"
    )


def _modules_beside(missing: str) -> list[str]:
    parent, _, _ = missing.rpartition(".")
    try:
        where = importlib.import_module(parent).__path__ if parent else sys.path
    except (ImportError, AttributeError):
        return []  # the parent is a plain module, and has nothing in it
    prefix = f"{parent}." if parent else ""
    return [prefix + module.name for module in pkgutil.iter_modules(where)]


def _hint_about_file(target: str) -> str:
    path, _, attribute = target.partition(":")
    if not path.endswith(".py"):
        return ""
    module = os.path.normpath(path).removesuffix(".py").replace(os.sep, ".")
    return f"; for that file it would be {module}:{attribute or 'agent'}"


def _what(found: Any) -> str:
    return f"module {found.__name__!r}" if isinstance(found, ModuleType) else repr(found)


def _nearest(name: str, names: Iterable[str]) -> str:
    known = [other for other in names if not other.startswith("_")]
    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
