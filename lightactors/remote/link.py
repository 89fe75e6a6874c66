"""The link between two nodes, without its connection: frames in, calls out; calls in, frames out.

A plain object on one loop's thread; the carrier feeds it with what came and fetches what is to be written. Whatever
was sent when the loop comes round leaves as one batch.
"""

from __future__ import annotations

import itertools
import logging
import math
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Raw

from lightactors.codec import Parcel
from lightactors.errors import LinkError, LinkLost
from lightactors.remote import frames
from lightactors.remote.frames import BATCH, LIMIT, AnyFrame
from lightactors.remote.lane import Assembly, Lane

if TYPE_CHECKING:
    from lightactors.remote.parcels import Sharing
    from lightactors.remote.standin import StandIn

logger = logging.getLogger("lightactors")


def _no_sharing() -> Sharing:
    raise LinkError("objects came over a link of no node")


ROOT = 0
"""The target that a link was opened for: the actor in a process of its own, or a node's directory."""

SHELF = 1
"""The target that the objects which a node lends are got from."""

WINDOW = 1024
"""Messages that may be under way to one target, or wait in its mailbox, before their sender waits."""

SMALL = 4096
"""Bytes that every link takes."""

UNIT = 64 * 1024
"""Bytes of a body that cost as much of the window as a message."""


ANSWER = 512
"""Bytes that a small answer costs while it waits to be written."""


class Waiter(Protocol):
    """Who waits for what comes back under an id."""

    def replied(self, body: Raw) -> None: ...
    def failed(self, error: Raw) -> None: ...
    def brought(self, body: Raw) -> None:
        """Take an item."""
        ...

    def ended(self) -> None: ...
    def lost(self, error: Exception) -> None: ...

    standin: StandIn


class Service(Protocol):
    """What the other end may reach here."""

    def asked(self, frame: frames.Ask) -> None: ...
    def told(self, frame: frames.Tell) -> None: ...
    def opened(self, frame: frames.Open) -> None: ...
    def granted(self, frame: frames.Grant) -> None: ...
    def cancelled(self, frame: frames.Cancel) -> None: ...
    def watched(self, frame: frames.Watch) -> None: ...
    def stopped(self, frame: frames.Stop) -> None: ...
    def surveyed(self, frame: frames.Survey) -> None: ...
    def settle(self) -> None:
        """A whole read has been handled."""
        ...

    def lost(self) -> None: ...


class Listener:
    """What a link tells of its own life; override what you care for. Called on the link's loop."""

    def hand_over(self, link: Link, payload: bytes) -> None:
        """The other end says what is to be done here."""

    def ready(self, link: Link) -> None:
        """What was handed over has started."""

    def failed(self, link: Link, error: Raw) -> None:
        """What was handed over could not start; `Node.failure(error)` rebuilds the error."""

    def stop(self, link: Link, grace: float) -> None:
        """The other end wants the root target stopped."""

    def goodbye(self, link: Link) -> None:
        """The other end leaves in peace; `lost` follows."""

    def lost(self, link: Link, error: LinkLost) -> None:
        """The link has ended, however: called once."""


class Redials(Protocol):
    """Who makes another link in place of one that was lost."""

    def strand(self, standin: StandIn) -> None:
        """Keep a stand-in, which has lost its link, for the next one."""
        ...

    def is_needed_by(self, standin: StandIn) -> None:
        """Keep the link for as long as somebody has this stand-in."""
        ...


class Window:
    """How many messages one target takes before it must have said that there is room for more."""

    __slots__ = ("_size", "credit")

    def __init__(self, size: int) -> None:
        self._size = size
        self.credit: float = size

    def grant(self, messages: int) -> None:
        self.credit = min(self._size, self.credit + max(0, messages))

    def is_open(self) -> bool:
        """Tell whether nothing of it is used."""
        return self.credit >= self._size


_LITTLE = 256 * 1024
"""Bytes that wait to be written, with which the other end may still ask for more."""

_PURGE_AT = 64
"""Targets that a link knows before it looks for those that can be forgotten."""


class Link:
    """One end of the conversation of two nodes."""

    def __init__(
        self,
        label: str,
        service: Callable[[Link], Service],
        listener: Listener,
        limit: int = LIMIT,
        *,
        piece: float = math.inf,
        role: str = "admin",
    ) -> None:
        """Make one end: messages may have `limit` bytes, larger ones than `piece` go in pieces beside the others."""
        self.label = label
        self.limit = limit
        self.listener = listener
        self.role = role  # what the other end may do here
        self.role_there = "admin"  # and this one at the other
        self.knows: set[int] | None = None  # the actors here that the other end was given refs of; None: any it names
        self.error: LinkLost | None = None  # why it has ended
        self.redials: Redials | None = None
        self.sharing: Callable[[], Sharing] = _no_sharing
        self.on_home: Callable[[frames.Home], object] | None = None  # set where the other end is this process's parent
        self.is_near = False  # the other end reads this program's objects where they lie
        self.is_writable = True  # it is open, and its carrier keeps up
        self.owed = 0  # bytes of answers that no window bounds and the carrier has not taken yet, and more
        self.wake: Callable[[], object] = lambda: None  # the carrier's: something is to be written
        self.shut: Callable[[], object] = lambda: None  # the carrier's: close the socket, after writing
        self._lane = Lane(piece)
        self._assembly = Assembly(limit)
        self._ids = itertools.count()
        self._waiters: dict[int, Waiter] = {}
        self._left: defaultdict[StandIn, list[int]] = defaultdict(list)  # unanswered when the link ended
        self._windows: dict[int, Window] = {}  # by target
        self._purge_at = _PURGE_AT
        self._on_clear: list[Callable[[], object]] = []
        # Weakly: a ref that nobody holds any more needs no word of its target.
        self._standins: dict[int, weakref.WeakSet[StandIn]] = {}
        self._batch: list[AnyFrame] = []
        self._batches: list[list[AnyFrame]] = []
        self._size = 0
        self.service = service(self)
        self._actions = self._table()

    def _table(self) -> dict[type[AnyFrame], Callable[[Any], None]]:
        """Return what is done about each kind of frame."""
        listener = self.listener
        return {
            frames.Ask: self.service.asked,
            frames.Tell: self.service.told,
            frames.Open: self.service.opened,
            frames.Grant: self.service.granted,
            frames.Cancel: self.service.cancelled,
            frames.Watch: self.service.watched,
            frames.Stop: self.service.stopped,
            frames.Survey: self.service.surveyed,
            frames.Reply: self._replied,
            frames.Error: self._errored,
            frames.Item: self._brought,
            frames.End: self._ended,
            frames.Credit: self._credited,
            frames.Terminated: self._terminated,
            frames.HandOver: lambda frame: listener.hand_over(self, frame.payload),
            frames.Ready: lambda _: listener.ready(self),
            frames.Failed: lambda frame: listener.failed(self, frame.error),
            frames.Goodbye: lambda _: listener.goodbye(self),
            frames.Ping: lambda frame: self.answer(frames.Pong(frame.id)),
            frames.Pong: lambda _: None,
            frames.Piece: self._pieced,
            frames.Laden: self._came_laden,
            frames.Home: self._found_home,
            frames.Inbox: lambda frame: self.sharing().found_inbox(self, frame),
            frames.Reached: lambda frame: self.sharing().was_reached(self, frame),
            frames.LetGo: lambda frame: self.sharing().let_go(self, frame),
        }

    # Out

    @property
    def unanswered(self) -> int:
        """Return how many asks and streams are under way at the other end."""
        return len(self._waiters)

    def send(self, frame: AnyFrame, size: int = 0) -> None:
        """Have a frame, whose body is of `size` bytes, leave with the next batch; an ended link drops it."""
        if self.error is not None:
            return
        if not self._batch:
            self.wake()
        if self._lane.takes(frame, size):
            return
        self._batch.append(frame)
        self._size += size
        if self._size > BATCH:
            self._cut()
            self.is_writable = False  # until the carrier has taken it

    def post(self, frame: frames.Bodied, body: bytes) -> None:
        """Send a frame with its body, and the objects that go with that."""
        if type(body) is Parcel and self.error is None:
            body.settle()
            self.send(frames.Laden(*self.sharing().ship(self, body.contents), frame), len(body))
        else:
            self.send(frame, len(body))

    def answer(self, frame: AnyFrame) -> None:
        """Send what the other end may have any number of: its carrier reads no more before they are taken."""
        self.owed += ANSWER
        self.send(frame, ANSWER)

    def _cut(self) -> None:
        self._batches.append(self._batch)
        self._batch = []
        self._size = 0

    def take(self) -> list[list[AnyFrame]]:
        """Return the batches to be written now; while large messages are on their way, the next call has more."""
        self._batch.extend(self._lane.next_frames())
        if self._batch:
            self._cut()
        batches, self._batches = self._batches, []
        return batches

    def ask(self, target: int, method: str, body: bytes, waiter: Waiter, trace: str = "") -> int:
        """Send an ask; return its id."""
        number = next(self._ids)
        self._waiters[number] = waiter
        self.post(frames.Ask(number, target, method, trace, Raw(body)), body)
        return number

    def tell(self, target: int, method: str, body: bytes, trace: str = "") -> None:
        self.post(frames.Tell(target, method, trace, Raw(body)), body)

    def open(self, target: int, method: str, body: bytes, waiter: Waiter) -> int:
        """Start a stream; return its id."""
        number = next(self._ids)
        self._waiters[number] = waiter
        self.post(frames.Open(number, target, method, Raw(body)), body)
        return number

    def survey(self, target: int, within: float, waiter: Waiter) -> int:
        """Ask for a target's branch of the tree; return the id."""
        number = next(self._ids)
        self._waiters[number] = waiter
        self.send(frames.Survey(number, target, within))
        return number

    def cancel(self, number: int) -> None:
        """Give up an ask, a stream or a survey."""
        if self._waiters.pop(number, None) is not None:
            self.send(frames.Cancel(number))

    def hand_over(self, payload: bytes) -> None:
        """Say what the other end is to do."""
        self.send(frames.HandOver(payload), len(payload))

    def ready(self) -> None:
        """Say that what was handed over has started."""
        self.send(frames.Ready())

    def failed(self, error: bytes) -> None:
        """Say that what was handed over could not start."""
        self.send(frames.Failed(Raw(error)), len(error))

    def stop(self, target: int, grace: float) -> None:
        """Have a target stopped."""
        self.send(frames.Stop(target, grace))

    def goodbye(self) -> None:
        """End the link in peace, after what was sent before."""
        self.send(frames.Goodbye())
        self.shut()

    # In

    def receive(self, batches: list[list[AnyFrame]]) -> None:
        """Act on what has come. What makes no sense ends the link, and nothing else."""
        try:
            for batch in batches:
                for frame in batch:
                    self._actions[type(frame)](frame)
        except LinkError as error:
            self.lose(f"the other end broke the protocol: {error}")
        except Exception as error:  # of ours, but it must end no more than this link
            logger.exception("a frame of %r could not be dealt with", self)
            self.lose(f"{error!r} was raised by a frame of the other end")
        else:
            self.service.settle()

    def _replied(self, frame: frames.Reply) -> None:
        waiter = self._waiters.pop(frame.id, None)
        if waiter is not None:  # else it was cancelled, and the reply already on its way
            waiter.replied(frame.body)

    def _errored(self, frame: frames.Error) -> None:
        waiter = self._waiters.pop(frame.id, None)
        if waiter is not None:
            waiter.failed(frame.error)

    def _brought(self, frame: frames.Item) -> None:
        waiter = self._waiters.get(frame.id)
        if waiter is not None:
            waiter.brought(frame.body)

    def _ended(self, frame: frames.End) -> None:
        waiter = self._waiters.pop(frame.id, None)
        if waiter is not None:
            waiter.ended()

    def _pieced(self, frame: frames.Piece) -> None:
        whole = self._assembly.add(frame)
        if whole is not None:
            self._actions[type(whole)](whole)

    def _found_home(self, frame: frames.Home) -> None:
        if self.on_home is None:
            raise LinkError("a store was named by who is not this process's parent")
        self.on_home(frame)
        self.is_near = True

    def _came_laden(self, frame: frames.Laden) -> None:
        sharing = self.sharing()
        try:
            sharing.came(self, frame)
            self._actions[type(frame.frame)](frame.frame)
        finally:
            sharing.unpacked()

    # Stand-ins

    def join(self, standin: StandIn, target: int, size: int) -> Window:
        """Tell a stand-in of its target's end, and of the link's; return the target's window, of `size` at first."""
        if len(self._standins) >= self._purge_at:
            self._purge()
        self._standins.setdefault(target, weakref.WeakSet()).add(standin)
        return self._windows.setdefault(target, Window(size))

    def _purge(self) -> None:
        """Forget the targets that nothing stands for any more and that owe no credit."""
        for target, standins in list(self._standins.items()):
            if not standins and self._windows[target].is_open():
                del self._standins[target], self._windows[target]
        self._purge_at = max(_PURGE_AT, 2 * len(self._standins))

    def leave(self, standin: StandIn, target: int, error: Exception) -> None:
        """Tell it no more; its unanswered asks fail with `error`."""
        self.standins(target).discard(standin)
        for number in self._unanswered_of(standin):
            waiter = self._waiters.pop(number, None)
            if waiter is not None:  # else it was given up meanwhile
                waiter.lost(error)

    def _unanswered_of(self, standin: StandIn) -> list[int]:
        if self.error is not None:
            return self._left.pop(standin, [])
        return [number for number, waiter in self._waiters.items() if waiter.standin is standin]

    def standins(self, target: int) -> weakref.WeakSet[StandIn]:
        return self._standins.get(target) or weakref.WeakSet()

    def _credited(self, frame: frames.Credit) -> None:
        window = self._windows.get(frame.target)
        if window is not None:
            window.grant(frame.messages)
            for standin in list(self.standins(frame.target)):
                standin.go_on()

    def _terminated(self, frame: frames.Terminated) -> None:
        for standin in list(self.standins(frame.target)):
            standin.has_ended(frame.reason, frame.error)

    @property
    def is_clear(self) -> bool:
        """Tell whether hardly anything waits to be written, large messages included."""
        return self.is_writable and not self._batches and self._size + self._lane.size <= _LITTLE

    def when_clear(self, tell: Callable[[], object]) -> None:
        """Have `tell` called when hardly anything waits to be written; perhaps at once, and not if the link ends."""
        if self.is_clear:
            self.owed = 0
            tell()
        else:
            self._on_clear.append(tell)

    @property
    def is_waited_for(self) -> bool:
        """Tell whether somebody is to hear that the carrier keeps up again."""
        return not self.is_writable or bool(self._on_clear)

    def resume(self) -> None:
        """Go on: the carrier keeps up again."""
        self.is_writable = self.error is None
        self.owed = 0
        waiting, self._on_clear = self._on_clear, []
        for tell in waiting:
            tell()
        for standins in list(self._standins.values()):
            for standin in list(standins):
                standin.go_on()

    # The end

    def lose(self, reason: str) -> None:
        """End: nothing comes any more. The stand-ins decide about what is unanswered."""
        if self.error is not None:
            return
        self.error = LinkLost(f"the link to {self.label} ended: {reason}")
        self.is_writable = False
        self._batch, self._batches = [], []
        self._lane.clear()
        self._on_clear.clear()
        self.service.lost()
        for number, waiter in self._waiters.items():  # once, and not again for each stand-in
            self._left[waiter.standin].append(number)
        for standins in list(self._standins.values()):
            for standin in list(standins):
                standin.link_lost(self.error)
        self.shut()
        self.listener.lost(self, self.error)

    def __repr__(self) -> str:
        return f"<link to {self.label} {'ended' if self.error else 'open'}>"
