"""Exit codes, and how an error becomes one of them and a line on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from lightactors.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectFailed,
    ContractError,
    LightActorsError,
    LinkLost,
    RestartsExhausted,
    SpawnError,
    StoreDamaged,
    StoreError,
    text_of,
)


class Exit(IntEnum):
    """How a command ends. The help's table of exit codes is this one."""

    meaning: str

    OK = 0, "done; a store or runner that was asked to stop has stopped"
    FAILED = 1, "something failed; standard error says what"
    USAGE = 2, "the command line, or a file that it names, is wrong"
    UNREACHABLE = 3, "no node of lightactors can be reached there"
    DENIED = 4, "no token, a wrong one, or its role may not do this"
    INTERRUPTED = 130, "Ctrl-C"
    TERMINATED = 143, "SIGTERM"

    def __new__(cls, code: int, meaning: str) -> Exit:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


class CommandError(Exception):
    """A command can't go on; the text says why, and what would help."""

    def __init__(self, text: str, exit: Exit = Exit.USAGE) -> None:
        super().__init__(text)
        self.exit = exit


_EXITS: tuple[tuple[type[BaseException], Exit], ...] = (
    (AccessDenied, Exit.DENIED),
    (ConnectFailed, Exit.UNREACHABLE),
    (LinkLost, Exit.UNREACHABLE),
    (ConfigurationError, Exit.USAGE),
    (ContractError, Exit.USAGE),
    (StoreDamaged, Exit.USAGE),
)

_OWN_WORDS = (CommandError, LightActorsError)
"""Errors whose text says it all: the name of the class adds nothing for who types commands."""


def exit_of(error: BaseException) -> Exit:
    """Return the exit code of an error; of a group, that of its first one."""
    first = next(leaves(error))
    if isinstance(first, CommandError):
        return first.exit
    if _is_usage_error(first):
        return Exit.USAGE
    if isinstance(first, RestartsExhausted) and first.failures:
        return exit_of(first.failures[-1])
    return next((exit for kind, exit in _EXITS if isinstance(first, kind)), Exit.FAILED)


def line_of(error: BaseException) -> str:
    """Return an error in one line; of a group, its first one and how many there are besides."""
    first, *others = leaves(error)
    if _is_usage_error(first):
        return _usage_line(first)
    text = " ".join(text_of(first).split())
    line = text if isinstance(first, _OWN_WORDS) and text else f"{type(first).__name__}: {text}".removesuffix(": ")
    return f"{line} (and {len(others)} more; --debug shows all)" if others else line


def _is_usage_error(error: BaseException) -> bool:
    # By what it can do: its class is click's or typer's, and moves from version to version.
    return hasattr(error, "format_message")


def _usage_line(error: Any) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = "lightactors" if context is None else context.command_path
    return f"{text[:1].lower()}{text[1:]}; see '{command} --help'"


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Return an error, or the members of a group."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    elif isinstance(error, SpawnError) and isinstance(error.__cause__, StoreError):
        yield error.__cause__  # what a store says of its file says it all
    else:
        yield error


def table() -> str:
    """Return the exit codes as the help shows them."""
    return "\n".join(f"{exit.value:>4}  {exit.meaning}" for exit in Exit)
