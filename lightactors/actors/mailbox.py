"""The mailbox: what was sent to an actor and is not yet handled, in two lanes.

Signals overtake messages. Messages are bounded and FIFO per sender. One receiver takes out, on its own loop;
anybody puts in, from any thread. A sender that finds the mailbox full waits; all who wait are woken together
once half of the room is free, so that a fast sender costs a task switch per half mailbox and not per message.
"""

from __future__ import annotations

import itertools
import threading
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from operator import itemgetter
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from lightactors.actors import loops
from lightactors.errors import ActorNotRunning, MailboxFull

if TYPE_CHECKING:
    from lightactors.actors.loops import Loop, Slot
    from lightactors.actors.streams import Production
    from lightactors.contract import Method

_places = itertools.count()
"""Where in the line a sender stands who waits for room."""

_EMPTY: deque[Any] = deque(maxlen=0)
"""Stands for every lane that nothing has entered yet: an empty deque takes 600 bytes, and most actors need none."""

Envelope = tuple["Method", tuple[Any, ...], dict[str, Any], "Ask | Production | None"]
"""A message on its way: the method, its arguments, and who waits for the reply (None: it was told)."""


class Failure(NamedTuple):
    """A reply that is to be raised."""

    error: BaseException


class Ask:
    """Somebody waits for a reply, on some loop; he may give up."""

    __slots__ = ("_is_near", "abandoned", "answered", "give_up", "loop", "slot")

    def __init__(self, asker: Loop | None = None, receiver: Loop | None = None) -> None:
        self.loop = asker or loops.current()
        self.slot = self.loop.slot()
        self._is_near = self.loop is receiver
        self.abandoned = False
        self.answered = False
        self.give_up: Callable[[], object] | None = None  # how to cancel the handler, while it runs aside

    def answer(self, value: object) -> None:
        """Reply, from the receiver's loop; only the first reply counts."""
        self.answered = True
        if self._is_near:
            self.slot.set(value)
        else:
            self.loop.post(self.slot.set, value)

    def answer_from_afar(self, value: object, _: Loop) -> None:
        """Reply in place of a receiver that can't; from any thread."""
        self.answered = True
        self.loop.order(self.slot.set, value)

    def fail(self, error: BaseException) -> None:
        """Reply with an error."""
        self.answer(Failure(error))

    async def reply(self) -> Any:
        """Wait for the reply, on the asker's loop; raise it if it is a failure."""
        value = await self.slot
        if type(value) is Failure:
            raise value.error
        return value


def answer_together(answers: Iterable[tuple[Ask, object]]) -> None:
    """Reply to several at once, from a thread without a loop: each asker's loop is waked once."""
    by_loop: dict[Loop, list[tuple[Ask, object]]] = {}
    for ask, value in answers:
        by_loop.setdefault(ask.loop, []).append((ask, value))
    for loop, replies in by_loop.items():
        loop.post(_answer_all, replies)


def _answer_all(replies: list[tuple[Ask, object]]) -> None:
    for ask, value in replies:
        ask.answered = True
        ask.slot.set(value)


def sent(envelope: Any) -> object:
    """Return what the sender knows of an envelope: a behaviour's message itself, or the call as text."""
    if len(envelope) == 2:
        return envelope[0]
    method, args, kwargs, ask = envelope
    return method.call(args, kwargs) if ask is None or isinstance(ask, Ask) else str(ask)


class Mailbox:
    """Two lanes and one receiver."""

    __slots__ = (
        "_posted",
        "_senders",
        "_slot",
        "_start",
        "capacity",
        "closed",
        "idle",
        "lock",
        "loop",
        "name",
        "queue",
        "signals",
    )

    def __init__(self, name: str, loop: Loop, capacity: float, start: Callable[[], None]) -> None:
        self.name = name
        self.loop = loop
        self.capacity = capacity
        self.queue = _EMPTY
        self.signals = _EMPTY
        self.closed = False
        # True while the receiver waits (or has not been needed yet) and nothing is queued: then, and only
        # then, a handler that cannot wait may run in its caller, and one at a time and FIFO still hold.
        self.idle = False
        self._start = start
        self._slot: Slot | None = None
        self._senders = _EMPTY
        self._posted = False
        self.lock = threading.Lock()  # between threads only: putting in and closing must not cross

    # Senders

    def put_nowait(self, message: Any) -> None:
        """Put a message in, or raise `MailboxFull` or `ActorNotRunning`; from any thread."""
        if get_ident() != self.loop.ident:
            self._put_from_afar(message)
            return
        if self.closed or len(self.queue) >= self.capacity:
            raise self._refusal(message)
        if self.queue is _EMPTY:
            self.open_queue()
        self.queue.append(message)
        if self.idle:
            self.wake()

    async def put(self, message: Any) -> None:
        """Put a message in, after waiting for room; raise `ActorNotRunning` when the mailbox is closed."""
        place = next(_places)
        while True:
            while len(self.queue) >= self.capacity and not self.closed:
                await self._room(place)
            try:
                return self.put_nowait(message)
            except MailboxFull:  # another thread took the room in between
                continue

    def deliver(self, message: Any) -> None:
        """Put a message in past the bound, for a sender who counts for himself: see `when_room`. From any thread."""
        if get_ident() == self.loop.ident:
            if self.closed:
                raise self._refusal(message)
            self.open_queue().append(message)
            if self.idle:
                self.wake()
            return
        self.open_queue()
        with self.lock:
            if self.closed:
                raise self._refusal(message)
            self.queue.append(message)
        self._post_wake()

    def when_room(self, tell: Callable[[], object]) -> None:
        """Have `tell` called once half of the mailbox is free, or it is closed; perhaps at once. From any thread."""
        with self.lock:
            if not self.closed and len(self.queue) * 2 > self.capacity:
                if self._senders is _EMPTY:
                    self._senders = deque()
                insort(self._senders, (next(_places), tell), key=itemgetter(0))
                return
        tell()

    def _put_from_afar(self, message: Any) -> None:
        self.open_queue()
        with self.lock:
            if self.closed or len(self.queue) >= self.capacity:
                raise self._refusal(message)
            self.queue.append(message)
        self._post_wake()

    def signal(self, signal: Any) -> None:
        """Put a signal in: it has room always and is taken before any message; from any thread."""
        with self.lock:
            if self.signals is _EMPTY:
                self.signals = deque()
            self.signals.append(signal)
        if get_ident() == self.loop.ident:
            self.nudge()
        else:
            self._post_wake()

    def _post_wake(self) -> None:
        if not self._posted:
            self._posted = True
            self.loop.post(self._arrive)

    def _arrive(self) -> None:
        self._posted = False
        self.nudge()

    def _refusal(self, message: Any) -> ActorNotRunning | MailboxFull:
        if self.closed:
            text = f"actor {self.name!r} is not running; spawn it before you send to it"
            return ActorNotRunning(text, sent(message))
        text = f"the mailbox of {self.name!r} holds {len(self.queue)} messages; wait with tell()"
        return MailboxFull(text, sent(message))

    async def _room(self, place: int) -> None:
        here = loops.current()
        slot = here.slot()
        sender = place, lambda: here.order(slot.set, None)
        with self.lock:
            if self._senders is _EMPTY:
                self._senders = deque()
            # In the order of their places: who was woken and found the room taken goes before who came later.
            insort(self._senders, sender, key=itemgetter(0))
            # Looked at after standing in line: the receiver, in another thread perhaps, looks the other way round.
            if self.closed or len(self.queue) < self.capacity:
                self._senders.remove(sender)
                return
        try:
            await slot
        except BaseException:
            with self.lock:
                if sender in self._senders:
                    self._senders.remove(sender)
            raise

    # The receiver

    def open_queue(self) -> deque[Any]:
        """Return the lane of messages; the same object from now on."""
        if self.queue is _EMPTY:
            with self.lock:
                if self.queue is _EMPTY:
                    self.queue = deque()
        return self.queue

    @property
    def senders_waiting(self) -> int:
        return len(self._senders)

    def make_room(self) -> None:
        """Let the waiting senders go on, if half of the mailbox is free."""
        if self._senders and len(self.queue) * 2 <= self.capacity:
            self._free_all()

    def _free_all(self) -> None:
        with self.lock:
            senders = list(self._senders)
            self._senders.clear()
        for _, free in senders:
            free()

    async def wait(self) -> None:
        """Wait until there is something to take, or somebody nudges."""
        self._slot = self.loop.slot()
        self.idle = not self.closed
        try:
            await self._slot
        finally:
            self.idle = False

    async def wait_for_nudge(self) -> None:
        """Wait until somebody nudges; not idle meanwhile: no handler runs in its caller."""
        self._slot = self.loop.slot()
        await self._slot

    def wake(self) -> None:
        """Have the receiver look again; the first time, start it."""
        self.idle = False
        if self._slot is None:
            self._start()
        else:
            self._slot.set(None)

    def nudge(self) -> None:
        """Have the receiver look again, if it waits."""
        if self.idle:
            self.wake()
        elif self._slot is not None:
            self._slot.set(None)

    def close(self) -> None:
        """Take no more messages; what is queued stays. Senders who wait get `ActorNotRunning`."""
        self.lock_up()
        self.nudge()

    def reopen(self) -> None:
        """Take messages again, for another incarnation; the signals were for the one before."""
        self.signals = _EMPTY
        self._slot = None
        self.idle = False
        self.unlock()

    def unlock(self) -> None:
        """Take messages again, though there is no receiver yet."""
        with self.lock:
            self.closed = False

    def lock_up(self) -> None:
        """Close without telling the receiver; from any thread."""
        with self.lock:
            self.closed = True
        self._free_all()
