"""An end in words."""

from __future__ import annotations

import signal

import pytest

from lightactors.processes import Exit


@pytest.mark.parametrize(
    ("status", "returncode", "words"),
    [
        (0, 0, "exited with code 0"),
        (3 << 8, 3, "exited with code 3"),
        (signal.SIGKILL, -9, "was killed by SIGKILL (out of memory, or somebody killed it)"),
        (signal.SIGTERM, -15, "was terminated by SIGTERM"),
        (signal.SIGINT, -2, "was interrupted by SIGINT"),
        (signal.SIGSEGV | 0x80, -11, "ended with a segmentation fault (SIGSEGV)"),
        (signal.SIGUSR1, -10, "was ended by SIGUSR1"),
        (40, -40, "was ended by signal 40"),
    ],
)
def test_wait_status_is_told_in_words(status: int, returncode: int, words: str) -> None:
    exit = Exit.from_status(status)
    assert str(exit) == words
    assert exit.returncode == returncode


def test_end_that_nobody_saw_has_no_returncode() -> None:
    assert Exit().returncode is None
    assert str(Exit()) == "ended with its guardian, which was killed"


def test_survivors_are_named() -> None:
    assert str(Exit(code=1, survivors=(7, 8))) == "exited with code 1; SIGKILL did not end pid 7, pid 8"
    assert str(Exit.from_status(None, (7,))) == "has not ended; SIGKILL did not end pid 7"
