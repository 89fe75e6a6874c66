"""What the tests of typed services share: the calls of the zoo."""

from __future__ import annotations

import pytest

from lightactors.services.calls import Call, Calls
from lightactors.services.schema import file_of
from tests.services.zoo import Zoo


@pytest.fixture(scope="session")
def zoo() -> dict[str, Call]:
    calls = Calls(file_of(Zoo, package="zoo.v1"))
    return {call.method.name: call for call in calls.by_name.values()}
