"""The cell of an actor that was started on another node: a child here, which lives there.

It ends with its link: the node there stops what was started over one that is gone, and here it has failed. Who keeps
it starts it again over the next link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from lightactors.actors.ref import cell_of
from lightactors.actors.starting import Starting, begin_on
from lightactors.actors.terminated import Reason
from lightactors.contract import maker
from lightactors.errors import LightActorsError, LinkLost
from lightactors.remote import failures, frames
from lightactors.remote.directory import kind_name
from lightactors.remote.standin import ChildElsewhere, StandIn

if TYPE_CHECKING:
    from msgspec import Raw

    from lightactors.actors.owner import Owner
    from lightactors.remote.dialer import Dialer
    from lightactors.supervision.spec import ChildSpec


class Lodger(ChildElsewhere):
    """Private: users hold a ref. Its mailbox is the outbox, kept over a restart."""

    __slots__ = ("_dialer", "_spec")

    def __init__(self, name: str, owner: Owner, spec: ChildSpec, dialer: Dialer) -> None:
        super().__init__(name, owner, spec, dialer.node)
        self._dialer = dialer
        self._spec = spec
        self._on_start = self._spawn
        self._on_stop = self._see_it_end

    @property
    def place(self) -> str:
        return str(self._dialer.address)

    async def _spawn(self) -> None:
        """Have the other node start it."""
        directory: Any = await self._dialer.directory()  # its call arrives as another class than it leaves
        link = self._dialer.link
        if link is None:
            raise LinkLost(f"the link to {self._dialer.address} ended")
        refs = self.node.refs_of(link)
        call = refs.method(maker(self._spec.kind)).encode_call(self._spec.args, dict(self._spec.kwargs))
        arrived = await directory.spawn(kind_name(self._spec.kind), call, self.options.name, self.options.mailbox)
        lives = cell_of(refs.meet(arrived, self.stood_for), "spawn()")
        assert isinstance(lives, StandIn)
        self.refs = refs
        self.attach(link, lives.target)
        link.send(frames.Watch(lives.target))

    def failed_to_start(self, error: Exception) -> LightActorsError:
        if isinstance(error, LightActorsError):
            return error  # in the other node's words
        return super().failed_to_start(error)

    # What the link tells

    def has_ended(self, reason: str, error: Raw) -> None:
        self._is_over(Reason.__members__.get(reason, Reason.FAILED), failures.decode_cause(error, self.known))

    def link_lost(self, error: Exception) -> None:
        self._is_over(Reason.FAILED, error)

    def _is_over(self, reason: Reason, error: Exception | None) -> None:
        if self._verdict is None:
            self._verdict = reason, error
            self.hold_back()
            self._gone.set()
            self.go_on()
            self.mailbox.nudge()

    def _must_leave(self) -> bool:
        return self._gone.is_set() or super()._must_leave()

    # Ending

    def interrupt(self) -> None:
        """Have it cancelled there, and give up what has not been sent yet."""
        super().interrupt()
        self._stop_there(0)

    def why_it_stays(self) -> str:
        return f"at {self.place} does not end, and is left behind"

    def abandoned(self) -> None:
        super().abandoned()
        self._gone.set()

    def _stop_there(self, grace: float) -> None:
        if self.link is not None:
            self.link.stop(self._target, grace)

    async def _run_on_stop(self) -> None:
        await self._see_it_end()
        reason, error = self._verdict or (Reason.STOPPED, None)
        if reason is Reason.FAILED and error is not None and not (self._asked or self._suspended):
            self.last_error = error
            self.fail(error)
        stopped = self.stopped("stopped before it replied")
        stopped.__cause__ = stopped.__cause__ or error
        self.detach(stopped)

    async def _see_it_end(self) -> None:
        if self.link is None:
            return
        self._stop_there(self.ladder.drain)
        # The node there climbs the same ladder; what it leaves behind is its to report.
        with anyio.move_on_after(self.ladder.drain + self.ladder.interrupt):
            await self._gone.wait()


async def begin_at(dialer: Dialer, owner: Owner, name: str, spec: ChildSpec) -> Starting:
    """Begin an actor on another node; its cell lives on the loop of the system here."""

    def make() -> Lodger:
        cell = Lodger(name, owner, spec, dialer)
        owner.enter(cell)
        return cell

    return await begin_on(owner.system.loop, make)
