"""A gate that holds whoever comes to it until the test opens it: tests use it instead of sleeping."""

from __future__ import annotations

import anyio


class Gate:
    """Hold the actor here, look, let it go on.

    It belongs to one event loop: an actor in a thread can't wait at a gate of the test's loop.
    """

    def __init__(self) -> None:
        self._arrival = anyio.Event()
        self._opening = anyio.Event()

    async def wait(self) -> None:
        """Stay here until the gate is opened; once it is, only pass a checkpoint."""
        self._arrival.set()
        await self._opening.wait()

    async def reached(self) -> None:
        """Wait until somebody has come to the gate."""
        await self._arrival.wait()

    def open(self) -> None:
        """Let everybody through, now and from now on."""
        self._opening.set()
