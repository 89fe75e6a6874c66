"""Errors go over a link as data, and are errors again there."""

from __future__ import annotations

from typing import Any

import pytest

from lightactors.remote import failures


def there(error: BaseException) -> Exception:
    return failures.decode(failures.encode(error), None)


@pytest.mark.parametrize("argument", [object(), [object()], 2**70])
def test_text_arrives_though_the_arguments_can_not(argument: Any) -> None:
    error = there(ValueError(argument))
    assert isinstance(error, ValueError)
    assert str(error) == str(argument)


def test_text_that_is_no_unicode_arrives_as_far_as_it_is() -> None:
    error = FileNotFoundError("caf\udce9")
    error.add_note("near caf\udce9")
    assert str(there(error)) == "caf?"
    assert there(error).__notes__ == ["near caf?"]
