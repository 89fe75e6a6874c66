"""What tests of nodes on a network share."""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from contextlib import ExitStack

import pytest

from tests.real_time.remote.networks import Networks, open_networks, skip_reason


@pytest.fixture
def networks() -> Generator[Networks]:
    """Give two hosts and their router; skip the test where the system allows none."""
    with ExitStack() as stack:
        try:
            networks = stack.enter_context(open_networks())
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(skip_reason(error))
        yield networks
