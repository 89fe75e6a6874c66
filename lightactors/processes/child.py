"""The child's side of a process place: it becomes what it is handed over, and ends when it is told to, or with it."""

from __future__ import annotations

import _thread
import contextvars
import signal
import socket
import sys
import time
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import anyio

from lightactors.actors import owner as owners
from lightactors.actors.asides import Asides
from lightactors.actors.behaviours import BehaviourCell
from lightactors.actors.cell import Cell
from lightactors.actors.flag import Flag
from lightactors.actors.loops import Interruption
from lightactors.actors.ref import cell_of
from lightactors.actors.starting import start
from lightactors.actors.stopping import stop_all
from lightactors.actors.system import System
from lightactors.actors.terminated import Reason, Terminated
from lightactors.processes import host
from lightactors.processes.handover import read_preamble, unpack
from lightactors.remote import failures, frames
from lightactors.remote.link import ROOT, Link, Listener
from lightactors.remote.node import node_of
from lightactors.remote.serve import Port
from lightactors.supervision.ladder import Ladder

if TYPE_CHECKING:
    from lightactors.errors import LinkLost


def main(link: socket.socket, control: socket.socket) -> None:
    """Be the process of one actor, from its birth to its end; the forkserver calls this in a new child."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is a life, there is nothing to be ended in order
    host.inherit(control)
    backend = read_preamble(link)
    if backend:
        sys.exit(anyio.run(_live, link, backend=backend))


async def _live(sock: socket.socket) -> int:
    """Return the exit code."""
    system = System("process", Ladder())
    owners.current.set(system)
    system.context = contextvars.copy_context()
    life = _Life(system)
    # No monitor: to keep a processor busy is what a process is for, and nobody else's loop waits for it.
    await life.open(sock)
    try:
        await life.begin()
        await life.last()
        return await life.end()
    finally:
        life.close()


class _Life(Listener):
    """The life of this process, as its parent's words and its actor's end shape it."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._node = node_of(system)
        self._payload = b""
        self._handed_over = Flag()
        self._over = Flag()  # it is to end, or has
        self._lost = Flag()
        self._grace: float | None = None
        self._starting: anyio.CancelScope | None = None
        self._cell: Cell | None = None
        self._terminated: Terminated | None = None
        self._failure: Exception | None = None
        self._is_interrupted = False
        self._link: Link
        signal.signal(signal.SIGINT, self._interrupted)

    # What the parent says

    def hand_over(self, link: Link, payload: bytes) -> None:
        self._payload = payload
        self._handed_over.set()

    def stop(self, link: Link, grace: float) -> None:
        self._grace = grace
        self._finish()

    def lost(self, link: Link, error: LinkLost) -> None:
        self._lost.set()
        self._handed_over.set()
        self._finish()

    def _finish(self) -> None:
        self._over.set()
        if self._starting is not None:
            self._starting.cancel()

    # The life

    async def open(self, sock: socket.socket) -> None:
        """Open the link to the parent."""
        self._link = await self._node.open(sock, self, label="its parent")
        self._link.on_home = self._node.join_store

    def close(self) -> None:
        """Close the link, which would keep the loop from ending."""
        self._link.shut()

    async def begin(self) -> None:
        """Become what is handed over, and tell the parent how that went."""
        await self._handed_over.wait()
        if self._over.is_set():
            return  # the parent thought better of it, or is gone
        try:
            with anyio.CancelScope() as self._starting:
                await self._start()
        except Exception as error:
            self._failure = error
            self._node.fail(self._link, error)
            self._over.set()
        self._starting = None

    async def _start(self) -> None:
        what = unpack(self._payload, partial(self._node.persistent_load, self._link))
        self._system.name = what.owner
        self._system.ladder = what.ladder
        ref = await start(self._system, what.spec())
        self._cell = cell_of(ref, "a process")
        self._node.export_root(self._link, ref)
        self._cell.when_ended(self._has_ended)
        self._link.ready()

    def _has_ended(self, terminated: Terminated) -> None:
        self._terminated = terminated
        self._over.set()

    async def last(self) -> None:
        """Live until the parent, or the actor, makes an end of it; then stop all that is left."""
        await self._over.wait()
        if self._cell is not None and self._grace is not None:
            ladder = self._system.ladder
            await stop_all([self._cell], Ladder(self._grace, ladder.interrupt, ladder.terminate, ladder.kill))
        await self._system.stop()

    async def end(self) -> int:
        """Tell the parent how the actor ended, say goodbye, and return the exit code."""
        terminated = self._terminated
        if terminated is not None:
            cause = failures.encode_cause(terminated.error)
            self._link.send(frames.Terminated(ROOT, terminated.reason.name, cause))
        self._link.goodbye()
        with anyio.move_on_after(1):
            await self._lost.wait()
        return 1 if self._failure or (terminated and terminated.reason is Reason.FAILED) else 0

    # SIGINT

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        """Cancel what runs: by the loop if it turns, else by an exception in the handler that keeps it."""
        if self._is_interrupted and _is_in_turn(frame):
            raise Interruption
        self._is_interrupted = True
        self._system.loop.post(self._cancel)
        # By the bare thread: a lock of `threading` may be held by the very code that the signal has interrupted.
        _thread.start_new_thread(self._insist, (_thread.get_ident(),))

    def _insist(self, main: int) -> None:
        time.sleep(_TURNS_WITHIN)
        if self._is_interrupted:
            signal.pthread_kill(main, signal.SIGINT)

    def _cancel(self) -> None:
        self._is_interrupted = False
        self._grace = 0
        self._system.hurry.set()
        if self._cell is not None:
            self._cell.interrupt()
        self._finish()


_TURNS_WITHIN = 0.05
"""Seconds after which a loop that has not looked at an interruption is taken to be kept by a handler."""

_TURNS = {
    function.__code__
    for function in (
        Cell._take_turns,  # noqa: SLF001
        Cell._take_signal,  # noqa: SLF001
        Cell._open,  # noqa: SLF001
        Asides.run,
        Cell._run_on_stop,  # noqa: SLF001
        BehaviourCell._work,  # noqa: SLF001
        Port.run,
    )
}


def _is_in_turn(frame: FrameType | None) -> bool:
    """Tell whether the code under way is an actor's, called by one of those that know what to do with an exception."""
    frame = frame and frame.f_back
    while frame is not None:
        if frame.f_code in _TURNS:
            return True
        frame = frame.f_back
    return False
