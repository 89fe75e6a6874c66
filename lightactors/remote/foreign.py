"""The stand-in of a ref that came over a link, from an actor that has its owner elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from lightactors.actors.owner import State
from lightactors.actors.terminated import Reason, Terminated
from lightactors.contract import Behaviour
from lightactors.errors import AccessDenied, ActorStopped, LinkLost
from lightactors.remote import failures, frames
from lightactors.remote.link import ROOT, Link
from lightactors.remote.standin import StandIn
from lightactors.supervision.spec import ChildOptions

if TYPE_CHECKING:
    from lightactors.actors.mailbox import Ask
    from lightactors.actors.owner import Owner
    from lightactors.remote.calls import Call, Posted
    from lightactors.remote.node import Node
    from lightactors.remote.serve import WireAsk


class Messages(Behaviour[Any, ...]):
    """A behaviour elsewhere, as much as is known of it: its name, and the classes that it takes."""

    def __init__(self, name: str, messages: tuple[type[Any], ...]) -> None:
        self.name = name
        self._messages = messages


_ELSEWHERE = ChildOptions()


class Foreign(StandIn):
    """The stand-in of a ref that came over a link: it lives and ends with its actor, or with the link.

    A link that somebody makes again is waited for: what nobody has handled yet is sent then, and with it once more
    what was asked of idempotent handlers and not answered; other asks fail. Who watches hears of the loss at once.
    """

    __slots__ = ("_again", "_is_watching", "_path", "sought")

    def __init__(self, path: str, owner: Owner, node: Node) -> None:
        super().__init__(path.rpartition("/")[2], owner, node.loop, _ELSEWHERE, node)
        self._path = path
        self._is_watching = False
        self._again: list[Any] | None = None  # while the link's loss is dealt with: what is to be sent again
        self.sought: str | None = None  # the path that it was asked for by: it may be looked for there again
        self.state = State.RUNNING
        self._opened = True
        self.mailbox.idle = True

    @property
    def place(self) -> str:
        return "elsewhere"

    @property
    def path(self) -> str:
        return self._path

    @property
    def address(self) -> str:
        return self._path

    def attach(self, link: Link, target: int = ROOT) -> None:
        super().attach(link, target)
        if self._watchers:
            self._watch()

    # Ends

    def when_ended(self, tell: Callable[[Terminated], object]) -> None:
        if self.link is None and self.state is not State.STOPPED:
            tell(Terminated(self.ref, Reason.FAILED, LinkLost(f"the link to {self.path} is lost at the moment")))
        else:
            self.when_ended_for_good(tell)

    def when_ended_for_good(self, tell: Callable[[Terminated], object]) -> None:
        super().when_ended_for_good(tell)
        self.order(self._watch)

    def _watch(self) -> None:
        if not self._is_watching and self.link is not None:
            self._is_watching = True
            self.link.send(frames.Watch(self._target))

    def close(self) -> None:
        self._stop(self.system.ladder.drain)

    def interrupt(self) -> None:
        self._stop(0)

    def see_it_may_be_stopped(self) -> None:
        link = self.link
        if link is None and self.state is not State.STOPPED:
            raise LinkLost(f"the link to {self.path} is lost at the moment, so it can't be stopped; try again later")
        if link is not None and link.role_there != "admin":
            raise AccessDenied(f"a {link.role_there} can't stop {self.path} at {link.label}; use an admin's token")

    def _stop(self, grace: float) -> None:
        self.mailbox.lock_up()
        self._watch()
        if self.link is not None:
            self.link.stop(self._target, grace)

    def has_ended(self, reason: str, error: Raw) -> None:
        self.end_with(Reason.__members__.get(reason, Reason.FAILED), failures.decode_cause(error, self.known))

    def end_with(self, reason: Reason, error: Exception | None) -> None:
        """End here: its actor has, or can't be reached any more."""
        if self.state is State.STOPPED:
            return
        self.state = State.STOPPED
        self.mailbox.lock_up()
        self.error = error
        self._refuse_what_is_queued()
        self.detach(error or ActorStopped(f"actor {self.path} ended before it replied"))
        self.go_on()
        self.mailbox.nudge()
        self.announce(reason)

    # The loss of the link

    def link_lost(self, error: Exception) -> None:
        redials = None if self.link is None else self.link.redials
        if redials is None or self.mailbox.closed:
            self.end_with(Reason.FAILED, error)
        else:
            self._hold_on(error)
            redials.strand(self)

    def _hold_on(self, error: Exception) -> None:
        self.hold_back()
        again = self._again = []
        self.detach(error)
        self._again = None
        if again:
            self.mailbox.open_queue().extendleft(reversed(again))
            self.mailbox.nudge()
        self._is_watching = False
        self._tell_of_loss(error)

    def sends_again(self, call: Call | Posted, ask: Ask | WireAsk) -> bool:
        if self._again is None or ask.abandoned:
            return False
        ask.give_up = None
        self._again.append((call, (), {}, ask))
        return True

    def _tell_of_loss(self, error: Exception) -> None:
        """Tell who watches, as of an end: whether the actor lives, nobody can say."""
        with self.mailbox.lock:
            watchers, self._watchers = self._watchers or [], []
        for tell in watchers:
            tell(Terminated(self.ref, Reason.FAILED, error))
