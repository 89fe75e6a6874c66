"""Joining: a runner that reaches its execution over the network."""

from __future__ import annotations

import logging
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio

from lightactors.actors import Flag
from lightactors.address import Address
from lightactors.errors import ActorNotRunning, ConnectFailed, ExecutionError, SendError, raise_together
from lightactors.remote.connect import connect
from lightactors.security import Tls, read_token
from lightactors.training.events import ExecutionEvent
from lightactors.training.patience import insist
from lightactors.training.stores.contract import Store
from lightactors.training.strategies.meeting import MEETING, STORE, Meeting
from lightactors.training.strategies.strategy import RunnerBundle

logger = logging.getLogger("lightactors")

C = TypeVar("C")

_GOODBYE = 1.0
"""Seconds that saying goodbye may take, and hearing that nobody is there to say it to."""


@dataclass(frozen=True)
class Way:
    """How to reach an execution: where it listens, and what it wants to see."""

    address: Address
    token_file: Path | None
    tls: Tls | None

    async def store(self) -> Store:
        """Return the store of the execution, when it is there."""
        return await self._reach(Store, STORE)

    async def meeting(self) -> Meeting:
        return await self._reach(Meeting, MEETING)

    async def _reach(self, kind: type[C], name: str) -> C:
        return await insist(self._connect, kind, str(self.address.at(name)))

    async def _connect(self, kind: type[C], address: str) -> C:
        if self.token_file is not None and not self.token_file.exists():
            raise ConnectFailed(f"there is no token file {self.token_file} yet; the algorithm's side writes it")
        try:
            return await connect(kind, address, token=read_token(self.token_file, "runner"), tls=self.tls)
        except ActorNotRunning as error:
            # It listens already, and is about to have one.
            raise ConnectFailed(str(error)) from error


@dataclass(frozen=True)
class Joined:
    """A runner's bundle with the way to its store: it is asked to stop when the execution there ends.

    It may then finish for `grace` seconds, and is cancelled after that: nobody may be left there to report to. One
    whose execution is gone without a word, not only out of reach, ends with an `ExecutionError`.
    """

    bundle: RunnerBundle
    way: Way
    grace: float

    async def __call__(self, number: int, event: ExecutionEvent) -> None:
        reached = await self._reach(event)
        if reached is not None:
            await self._take_part(number, event, *reached)

    async def _reach(self, event: ExecutionEvent) -> tuple[Store, Meeting] | None:
        """Reach the execution, however long that takes; None if the event comes first."""
        with anyio.CancelScope() as waiting, event.cancelling(waiting):
            return await self.way.store(), await self.way.meeting()
        return None

    async def _take_part(self, number: int, event: ExecutionEvent, store: Store, meeting: Meeting) -> None:
        name = f"{socket.gethostname()}-{secrets.token_hex(3)}"
        errors: list[Exception] = []
        async with anyio.create_task_group() as tasks:
            attended = Flag()

            async def attend() -> None:
                try:
                    await self._attend(meeting, name)
                except ExecutionError as gone:
                    errors.append(gone)
                event.set()
                attended.set()
                tasks.cancel_scope.deadline = anyio.current_time() + self.grace

            tasks.start_soon(attend)
            try:
                await self.bundle(store, number, event)
            except Exception as error:
                if _is_loss(error):  # then the meeting is about to be missed too, and that says more
                    with anyio.move_on_after(_GOODBYE):
                        await attended.wait()
                if not (errors and _is_loss(error)):
                    errors.append(error)
            tasks.cancel_scope.cancel()
        with anyio.move_on_after(_GOODBYE):
            await _say_goodbye(meeting, name)
        raise_together(f"runner {number} failed more than once", errors)

    async def _attend(self, meeting: Meeting, name: str) -> None:
        """Wait until the execution is to end. Raises `ExecutionError` if it is gone instead."""
        try:
            await insist(meeting.attend, name)
        except SendError as error:
            why = error.__cause__ or error
            raise ExecutionError(
                f"the execution at {self.way.address} is gone: {why}; start the runner again when there is another one"
            ) from error
        logger.info("the execution at %s ends", self.way.address)


def _is_loss(error: Exception) -> bool:
    """Tell whether nothing but messages that were not delivered is what went wrong."""
    return isinstance(error, SendError) or (isinstance(error, ExceptionGroup) and error.split(SendError)[1] is None)


async def _say_goodbye(meeting: Meeting, name: str) -> None:
    try:
        await meeting.leave(name)
    except SendError as error:
        logger.debug("%s left without a word: %s", name, error)
