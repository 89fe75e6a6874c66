"""Whom tests are run as."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def nobody() -> Generator[None]:
    """Be a user who may not write everywhere, inside the block, if we are one who may."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
