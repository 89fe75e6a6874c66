"""What can't be a limit is refused where it is written."""

from __future__ import annotations

from typing import Any

import pytest

from lightactors.errors import ConfigurationError
from lightactors.processes import Limits


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": 0},
        {"memory": 1.5},
        {"memory": True},
        {"open_files": 3},
        {"niceness": 20},
        {"niceness": -21},
        {"environment": ["A=1"]},
        {"environment": {"A": 1}},
        {"environment": {"A=B": "1"}},
        {"environment": {"": "1"}},
        {"environment": {"A": "\0"}},
        {"user": ""},
        {"user": 0},
    ],
    ids=repr,
)
def test_wrong_limit_is_refused_with_its_value_and_the_cure(wrong: dict[str, Any]) -> None:
    name, _ = next(iter(wrong.items()))
    with pytest.raises(ConfigurationError, match=rf"{name}.*give"):
        Limits(**wrong)


def test_no_limit_needs_no_word() -> None:
    assert Limits() == Limits(memory=None, open_files=None, niceness=None, environment={}, user=None)
