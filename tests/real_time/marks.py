"""Marks of tests in real time."""

from __future__ import annotations

import pytest


def chiefly_on(loop: str, fixture: str = "anyio_backend") -> pytest.MarkDecorator:
    """Leave the other loop to `-m stress`: for what takes long, and does not differ much between them."""
    (other,) = {"asyncio", "trio"} - {loop}
    return pytest.mark.parametrize(fixture, [loop, pytest.param(other, marks=pytest.mark.stress)], indirect=True)
