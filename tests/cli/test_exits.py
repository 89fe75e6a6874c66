"""An error becomes an exit code and one line."""

from __future__ import annotations

import pytest

from lightactors.cli.exits import CommandError, Exit, exit_of, line_of, table
from lightactors.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectFailed,
    ContractError,
    LinkLost,
    RestartsExhausted,
)


@pytest.mark.parametrize(
    ("error", "exit"),
    [
        (CommandError("no such module"), Exit.USAGE),
        (CommandError("it differs", Exit.FAILED), Exit.FAILED),
        (ConfigurationError("wrong"), Exit.USAGE),
        (ContractError("no agent"), Exit.USAGE),
        (ConnectFailed("refused"), Exit.UNREACHABLE),
        (LinkLost("gone"), Exit.UNREACHABLE),
        (AccessDenied("no token"), Exit.DENIED),
        (RestartsExhausted("too often"), Exit.FAILED),
        (RestartsExhausted("too often", [ValueError(), AccessDenied("other tokens")]), Exit.DENIED),
        (OSError(98, "in use"), Exit.FAILED),
        (BaseExceptionGroup("several", [ExceptionGroup("inner", [AccessDenied("no")]), ValueError()]), Exit.DENIED),
    ],
)
def test_errors_have_exit_codes(error: BaseException, exit: Exit) -> None:
    assert exit_of(error) is exit


def test_own_errors_speak_for_themselves() -> None:
    assert line_of(ConnectFailed("nobody listens at grpc://x:1")) == "nobody listens at grpc://x:1"


def test_other_errors_are_named() -> None:
    assert line_of(ZeroDivisionError("division by zero")) == "ZeroDivisionError: division by zero"
    assert line_of(AssertionError()) == "AssertionError"


def test_an_error_is_one_line() -> None:
    assert line_of(ValueError("first\n  second\r\nthird")) == "ValueError: first second third"


def test_of_a_group_the_first_error_is_told_and_the_others_counted() -> None:
    group = ExceptionGroup("several", [ConnectFailed("refused"), ValueError("a"), ValueError("b")])
    assert line_of(group) == "refused (and 2 more; --debug shows all)"


def test_table_has_every_code() -> None:
    assert [int(line.split()[0]) for line in table().splitlines()] == [0, 1, 2, 3, 4, 130, 143]
    assert all(exit.meaning in table() for exit in Exit)
