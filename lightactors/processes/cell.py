"""The cell of an actor in a process of its own: it launches the process, speaks to it over a link, and sees it end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from signal import Signals
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import psutil

from lightactors.actors.flag import Flag
from lightactors.actors.owner import State
from lightactors.actors.terminated import Reason
from lightactors.actors.tree import ProcessFigures
from lightactors.errors import ActorStopped, LaunchFailed, LightActorsError, ProcessDied, SpawnError, WrongCall
from lightactors.processes import host
from lightactors.processes.exits import Exit
from lightactors.processes.handover import HandOver, pack, preamble
from lightactors.processes.output import Output
from lightactors.remote import failures
from lightactors.remote.link import ROOT, WINDOW, Link, Listener
from lightactors.remote.standin import ChildElsewhere
from lightactors.supervision.ladder import Rung
from lightactors.supervision.limits import Limits

if TYPE_CHECKING:
    from msgspec import Raw

    from lightactors.actors.owner import Owner
    from lightactors.errors import LinkLost
    from lightactors.processes.host import Process
    from lightactors.remote.node import Node
    from lightactors.supervision.spec import ChildSpec

logger = logging.getLogger("lightactors")

_SHOWN = 10
"""Lines of its last output that the error of a process shows."""


class ProcessCell(ChildElsewhere):
    """Private: users hold a ref. Its mailbox is the outbox, kept over a restart of the process."""

    __slots__ = (
        "_exit",
        "_is_pushed",
        "_kept",
        "_line",
        "_output",
        "_over",
        "_payload",
        "_process",
        "_said_goodbye",
        "_started",
    )

    RUNGS: ClassVar = {Rung.INTERRUPT: "interrupt", Rung.TERMINATE: "terminate", Rung.KILL: "kill"}

    def __init__(self, name: str, owner: Owner, spec: ChildSpec, node: Node) -> None:
        super().__init__(name, owner, spec, node)
        self._on_start = self._launch
        self._on_stop = self._see_it_end
        # What lies in the object store for the process, and for the next one if it is started again.
        self._kept: list[Any] | None = [] if self._has_our_store() else None
        self._payload = pack(
            HandOver(spec.kind, spec.args, spec.kwargs, name, owner.path, spec.options.mailbox, self.ladder),
            self.path,
            partial(node.persistent_id, kept=self._kept),
        )

    def _be_new(self) -> None:
        super()._be_new()
        self._process: Process | None = None
        self._output: Output | None = None
        self._exit: Exit | None = None
        self._started: Flag = Flag()  # raised when it is ready, or has failed
        self._is_pushed = False  # a signal of ours may be what ended it
        self._said_goodbye = False
        self._line: Link | None = None  # the link, from before the actor at its other end is ready
        self._over = False  # nothing can be sent any more: the actor, its process or the link has ended

    @property
    def pid(self) -> int | None:
        """The id of the process; None: it was never launched."""
        return None if self._process is None else self._process.pid

    @property
    def exit(self) -> Exit | None:
        """How the process ended; None: it has not, or could not be killed."""
        return self._exit

    def window_size(self) -> int:
        return int(min(WINDOW, self.mailbox.capacity))  # the mailbox there has the same capacity

    # Starting

    async def _launch(self) -> None:
        """Launch the process, hand over what it is to be, and wait until it is ready."""
        process = self._process = host.launch(self.path, self.options.limits or Limits())
        self._output = Output(self.path.partition("/")[2], self.system, process.stdout, process.stderr)
        process.when_exited(partial(self.loop.post, self._has_exited))
        pid = await self._pid_of(process)
        logger.debug("actor %s lives in process %s", self.path, pid)
        with contextlib.suppress(BrokenPipeError):  # it has died already; how, the guardian will say
            process.link.send(preamble(self.loop.backend))
        link = self._line = await self.node.open(process.link, _Voice(self), label=self.path)
        if self._has_our_store():
            self.node.sharing.welcome(link)
        link.hand_over(self._payload)
        await self._started.wait()
        if self._over:
            await self._see_it_end()
            raise self._how_it_died() or SpawnError(f"{self.kind} {self.path} ended while it started")
        self.attach(link, ROOT)

    def _has_our_store(self) -> bool:
        """Tell whether the process may read the program's objects: not if it is to be another user's."""
        return self.options.limits is None or self.options.limits.user is None

    async def _pid_of(self, process: Process) -> int:
        told = Flag()
        answers: list[int | LaunchFailed] = []

        def hear(answer: int | LaunchFailed) -> None:
            answers.append(answer)
            if isinstance(answer, LaunchFailed):  # its end is waited for even by a task that the loop's end cancelled
                self._has_exited(Exit())
            told.set()

        process.when_launched(partial(self.loop.post, hear))
        # The guardian always answers: in milliseconds, or for the first process when the forkserver is there.
        with anyio.CancelScope(shield=True):
            await told.wait()
        if isinstance(answers[0], LaunchFailed):
            raise answers[0]
        return answers[0]

    def failed_to_start(self, error: Exception) -> LightActorsError:
        if isinstance(error, WrongCall):
            return error
        if isinstance(error, SpawnError):
            return error if self.path in str(error) else SpawnError(f"{self.path}, in a process: {error}")
        if isinstance(error, ProcessDied):
            return SpawnError(f"{self.kind} {self.path} died before it was ready: {error}")
        if isinstance(error, TimeoutError):
            return SpawnError(f"{self.kind} {self.path} in {self._whereabouts()}: {error}")
        return super().failed_to_start(error)

    # What the link tells

    def ready(self) -> None:
        self._started.set()

    def start_failed(self, body: Raw) -> None:
        """Hear that what was handed over could not start."""
        self._verdict = Reason.FAILED, self.node.failure(body, self.known)
        self.link_lost(ActorStopped(f"{self.kind} {self.path} did not start"))

    def has_ended(self, reason: str, error: Raw) -> None:
        """Hear how the actor has ended; its process follows it."""
        self._verdict = Reason.__members__.get(reason, Reason.FAILED), failures.decode_cause(error, self.known)
        self.link_lost(ActorStopped(f"{self.kind} {self.path} has ended"))

    def said_goodbye(self) -> None:
        self._said_goodbye = True

    def link_lost(self, error: Exception) -> None:
        """Hear that nothing more can be sent; what is unanswered waits for the word of how the process ended."""
        self._over = True
        self.hold_back()
        self._started.set()
        if self.state < State.LEAVING:
            self.go_on()
            self.mailbox.nudge()

    def _must_leave(self) -> bool:
        return self._over or super()._must_leave()

    def _has_exited(self, exit: Exit) -> None:
        self._exit = exit
        if self._output is not None:
            self._output.finish()
        self._gone.set()
        self.link_lost(ProcessDied(f"{self._whereabouts()} {exit}", exit))

    # Ending

    def interrupt(self) -> None:
        """Send SIGINT, and give up what has not been sent yet."""
        super().interrupt()
        self._signal(Signals.SIGINT)

    def terminate(self) -> None:
        self._signal(Signals.SIGTERM)

    def kill(self) -> None:
        self._is_pushed = True
        if self._process is not None:
            self._process.kill()

    def _signal(self, number: Signals) -> None:
        self._is_pushed = True
        if self._process is not None and self._process.pid is not None:
            self._process.signal(number)

    def abandoned(self) -> None:
        super().abandoned()
        self.loop.order(self._let_go)

    def _let_go(self) -> None:
        """Keep nothing open that could keep the loop from ending."""
        if self._output is not None:
            self._output.finish()
        self.detach(self.stopped("was abandoned"))
        self._close_link()

    def why_it_stays(self) -> str:
        return f"in {self._whereabouts()} could not be killed, and is left behind"

    async def _run_on_stop(self) -> None:
        await self._see_it_end()
        self._conclude()

    async def _see_it_end(self) -> None:
        """Ask the process to end, and wait until it has; push it ourselves where nobody climbs the ladder for us."""
        if self._process is None or self._gone.is_set():
            return
        if self._was_told_to_end():
            self._ask_it_to_stop()
        elif not self._over:
            await self._stop_it()
        else:
            if self._said_goodbye or self._verdict is not None:
                with anyio.move_on_after(self.ladder.drain):
                    await self._gone.wait()
            # Not by `kill`: it has most likely died already, and if so, not of this.
            self._process.kill()
        await self._gone.wait()

    async def _stop_it(self) -> None:
        """Climb the ladder ourselves: the loop ends, and whoever else will have it climbed may be gone already."""
        self._ask_it_to_stop()
        rungs = (self.ladder.drain, self.ladder.interrupt, self.ladder.terminate)
        for seconds, (_, push) in zip(rungs, self.pushes(), strict=True):
            with anyio.move_on_after(seconds):
                await self._gone.wait()
                return
            push()

    def _ask_it_to_stop(self) -> None:
        if self._line is not None:
            self._line.stop(ROOT, self.ladder.drain)
        else:
            self.kill()  # there is nobody in it yet

    def _conclude(self) -> None:
        """Draw the conclusion from how the process ended."""
        died = self._how_it_died()
        # Its own death, of a signal of somebody else's or an error in `on_stop`, counts also while it is to stop.
        if died is not None and not (self._is_pushed and self._was_told_to_end()):
            self.last_error = died
            self.fail(died)
            self._tell_the_story()
        stopped = self.stopped("stopped before it replied")
        stopped.__cause__ = stopped.__cause__ or died
        self.detach(stopped)
        self._close_link()

    def _close_link(self) -> None:
        """Close our end; that the other one has gone, the loop may not have seen yet, and may never if it ends now."""
        if self._line is not None:
            self._line.shut()
        elif self._process is not None:
            self._process.link.close()

    def _tell_the_story(self) -> None:
        if self.death is not None and self.death.error is self.error:
            output = tuple(self._output.last)[-_SHOWN:] if self._output else ()
            self.death = replace(self.death, exit=str(self._exit) if self._exit else None, output=output)

    def _how_it_died(self) -> Exception | None:
        """Return the actor's own error, or that of its process; None: it has ended as it should."""
        if self._verdict is not None and self._verdict[0] is Reason.FAILED:
            return self._verdict[1]
        if self._verdict is not None and self._verdict[0] is Reason.INTERRUPTED and not self._was_told_to_end():
            return ProcessDied(f"{self._whereabouts()} was interrupted by SIGINT", self._exit)
        if self._exit is None or (self._exit.code == 0 and (self._verdict is not None or self._was_told_to_end())):
            return None
        output = self._output.tail(_SHOWN) if self._output else ""
        text = f"{self._whereabouts()} {self._exit}"
        return ProcessDied(f"{text}; its last output:\n{output}" if output else text, self._exit, output)

    def _was_told_to_end(self) -> bool:
        return self._asked or self._suspended

    def _whereabouts(self) -> str:
        pid = self._process.pid if self._process else None
        return f"process {pid} of {self.path}" if pid else f"the process of {self.path}"

    # Looking

    def process_figures(self) -> ProcessFigures | None:
        process = self._process
        if process is None or process.pid is None:
            return None
        if self._exit is not None:
            return ProcessFigures(process.pid, process.started, 0.0, 0, str(self._exit))
        try:
            cpu, memory = _usage(process.pid)
        except psutil.Error:  # it ends at this moment
            cpu, memory = 0.0, 0
        return ProcessFigures(process.pid, process.started, cpu, memory)


def _usage(pid: int) -> tuple[float, int]:
    of = psutil.Process(pid)
    times = of.cpu_times()
    return times.user + times.system, of.memory_info().rss


class _Voice(Listener):
    """What the link of a process tells its cell: this incarnation, and no later one, which has a link of its own."""

    def __init__(self, cell: ProcessCell) -> None:
        self._cell = cell
        self._incarnation = cell.incarnation

    def ready(self, link: Link) -> None:
        self._tell(self._cell.ready)

    def failed(self, link: Link, error: Raw) -> None:
        self._tell(self._cell.start_failed, error)

    def goodbye(self, link: Link) -> None:
        self._tell(self._cell.said_goodbye)

    def lost(self, link: Link, error: LinkLost) -> None:
        self._cell.node.forget(link)
        self._tell(self._cell.link_lost, error)

    def _tell(self, function: Callable[..., object], *args: Any) -> None:
        if self._cell.incarnation == self._incarnation:
            function(*args)
