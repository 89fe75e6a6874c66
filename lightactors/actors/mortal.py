"""Who is told of an actor's end: its owner, its watchers, and whoever waits for an incarnation to be over."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from lightactors.actors.owner import Owner, State
from lightactors.actors.terminated import Reason, Terminated

if TYPE_CHECKING:
    from lightactors.actors.mailbox import Mailbox
    from lightactors.actors.ref import AnyRef


class Mortal(Owner):
    """What ends once, perhaps after several incarnations, and tells of it."""

    __slots__ = ("_resting", "_terminated", "_watchers")

    owner: Owner
    ref: AnyRef
    mailbox: Mailbox
    state: State
    error: BaseException | None

    def __init__(self) -> None:
        self._terminated: Terminated | None = None  # how it ended, once that was announced
        self._watchers: list[Callable[[Terminated], object]] | None = []
        self._resting: list[Callable[[], object]] | None = None  # who is told that this incarnation has ended

    @abstractmethod
    def leave_the_tree(self) -> None:
        """Be no child any more; on the owner's loop."""

    @abstractmethod
    def _reason(self) -> Reason:
        """Return why it has ended."""

    def announce(self, reason: Reason | None = None) -> None:
        """Leave the tree and tell the watchers, once; from any thread."""
        self.owner.order(self.leave_the_tree)
        with self.mailbox.lock:
            watchers, self._watchers = self._watchers or [], None
            if self._terminated is None:
                self._terminated = Terminated(self.ref, reason or self._reason(), self.error)
        for tell in watchers:
            tell(self._terminated)
        self._tell_who_waits_for_rest()

    def when_ended(self, tell: Callable[[Terminated], object]) -> None:
        """Have `tell` called when the actor has ended, or can't be reached; on its loop or thread, from any thread."""
        self.when_ended_for_good(tell)

    def when_ended_for_good(self, tell: Callable[[Terminated], object]) -> None:
        """Have `tell` called when the actor has ended: of one elsewhere, when its link is lost too, but not at once."""
        with self.mailbox.lock:
            if self._watchers is not None:
                self._watchers.append(tell)
                return
        assert self._terminated is not None
        tell(self._terminated)

    def forget(self, tell: Callable[[Terminated], object]) -> None:
        """Have `tell` called no more; from any thread."""
        with self.mailbox.lock:
            if self._watchers is not None and tell in self._watchers:
                self._watchers.remove(tell)

    # Between two incarnations

    def when_at_rest(self, tell: Callable[[], object]) -> None:
        """Have `tell` called when this incarnation, or the actor, has ended; from any thread."""
        self.order(self._rests_or_tells, tell)

    def _rests_or_tells(self, tell: Callable[[], object]) -> None:
        if self.state >= State.RESTARTING:
            tell()
        else:
            self._resting = [*(self._resting or ()), tell]

    def _tell_who_waits_for_rest(self) -> None:
        resting, self._resting = self._resting or (), None
        for tell in resting:
            tell()
