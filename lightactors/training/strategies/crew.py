"""Those who take part in an execution of several processes, each seen through to the end of its process."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from lightactors.actors import stop
from lightactors.actors.ref import cell_of
from lightactors.actors.spawn import Spawner
from lightactors.actors.stopping import stop_all
from lightactors.errors import ActorNotRunning, ActorStopped, ExecutionError, ProcessDied, raise_together
from lightactors.processes.cell import ProcessCell
from lightactors.supervision.ladder import Ladder
from lightactors.supervision.spec import Place
from lightactors.training.events import ExecutionEvent
from lightactors.training.strategies.part import Part

logger = logging.getLogger("lightactors")

ALGORITHM = "algorithm"


class Release(Protocol):
    """Gives up, in the store, the workers of a process that is gone; it gets the id that they announced."""

    def __call__(self, process: str, *, was_asked: bool) -> Awaitable[None]: ...


@dataclass(frozen=True)
class Member:
    """Who takes part: a name, a bundle, what it gets before the event, and where it lives."""

    name: str
    bundle: Callable[..., Awaitable[None]]
    given: tuple[Any, ...]
    place: Place


class Crew:
    """The members of one execution, from their start to the end of their processes.

    All are to end when the algorithm has, when a bundle raises, and when the last runner's process has died. One
    runner's process that dies is a loss that the others make good: its rollouts are released, and its exit
    code is an error at the end. The algorithm's process is one that nobody makes good, whatever its exit code.
    """

    def __init__(self, spawner: Spawner, ladder: Ladder, allowed_exit_codes: Collection[int], release: Release) -> None:
        self.event = ExecutionEvent()
        self._spawner = spawner
        self._ladder = ladder
        self._allowed_exit_codes = allowed_exit_codes
        self._release = release
        self._names: set[str] = set()
        self._playing: dict[str, Part] = {}
        self._deaths: list[str] = []
        self._errors: list[BaseException] = []

    async def play(self, members: Iterable[Member]) -> None:
        """Run all of them to the end; raise what went wrong."""
        members = list(members)
        self._names = {member.name for member in members}
        async with anyio.create_task_group() as everybody:
            for member in members:
                everybody.start_soon(self._see_through, member)
            await self.event
            cells = [cell_of(part, "stop") for part in self._playing.values()]
            await stop_all(cells, self._ladder, together=True)
        raise_together("several parts of the execution failed", self._errors)

    async def _see_through(self, member: Member) -> None:
        """See one member through from its start to the end of its process."""
        try:
            part = await self._start(member)
            if part is not None:
                await self._run(member, part)
        except Exception as error:
            self._errors.append(error)
            self.event.set()
        finally:
            self._names.discard(member.name)
            self._note_who_is_left(member)

    async def _start(self, member: Member) -> Part | None:
        """Start a member; None if the execution was to end meanwhile."""
        options = self._spawner.options(name=member.name, place=member.place, restart="temporary", grace=self._ladder)
        event = None if member.place == "process" else self.event
        with anyio.CancelScope() as scope, self.event.cancelling(scope):
            return await options.spawn(Part, member.bundle, *member.given, event=event)
        return None

    async def _run(self, member: Member, part: Part) -> None:
        cut_short: ActorStopped | ActorNotRunning | None = None
        process: str | None = None  # until it has told, nothing is under way in it
        try:
            if not self.event.is_set():
                self._playing[member.name] = part
                process = await part.process_id()
                await part.run()
        except (ActorStopped, ActorNotRunning) as stopped:  # the latter: all were told to stop before it began
            cut_short = stopped
            logger.info("%s was cut short: %s", member.name, stopped)
        finally:
            self._playing.pop(member.name, None)
            has_vanished = cut_short is not None and not self.event.is_set()
            await stop(part)
            cell = cell_of(part, "look")
            if isinstance(cell, ProcessCell):
                # Not by the code alone: an agent may leave with 0 in the middle of its rollout.
                if process is not None and (cell.exit is None or cell.exit.returncode != 0 or cut_short is not None):
                    await self._give_up(member, process, was_asked=not has_vanished)
                self._look_at_the_end(member, cell)
        if cut_short is not None and has_vanished:
            self._miss(member, cut_short)

    def _look_at_the_end(self, member: Member, cell: ProcessCell) -> None:
        """See whether a process may end as it did."""
        code = None if cell.exit is None else cell.exit.returncode
        if code not in self._allowed_exit_codes:
            error = ExecutionError(
                f"{member.name}: process {cell.pid} {cell.exit or 'has not ended'}; its exit code {code} is not among "
                f"allowed_exit_codes={tuple(self._allowed_exit_codes)}"
            )
            error.__cause__ = cell.error if isinstance(cell.error, ProcessDied) else None
            self._errors.append(error)

    def _miss(self, member: Member, stopped: ActorStopped | ActorNotRunning) -> None:
        """Note that a member has gone without a word, and not because it was asked to."""
        how = str(stopped.__cause__ or stopped)
        self._deaths.append(how)
        if member.name == ALGORITHM and not self._errors:
            self._errors.append(ExecutionError(f"{ALGORITHM}: {how}; it has ended before it returned"))

    async def _give_up(self, member: Member, process: str, *, was_asked: bool) -> None:
        """Release what the process was working on, if the store is still there."""
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + self._ladder.drain) as scope:
            await self._release(process, was_asked=was_asked)
        if scope.cancelled_caught:
            logger.error("the store could not be told in time that the process of %s is gone", member.name)

    def _note_who_is_left(self, member: Member) -> None:
        if member.name == ALGORITHM or not self._names:
            self.event.set()
        elif self._names == {ALGORITHM} and not self.event.is_set():
            self._leave_the_algorithm_alone()

    def _leave_the_algorithm_alone(self) -> None:
        if not self._deaths:
            logger.warning("every runner has ended; rollouts that the algorithm still waits for will not run")
            return
        if not self._errors:
            self._errors.append(ExecutionError(f"every runner has ended, the last of them so: {self._deaths[-1]}"))
        self.event.set()
