"""A process's account at a store: it gets space, makes objects, holds them and opens views of them.

Everything here is synchronous and may be called from any thread: see `line`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from lightactors.errors import ObjectError, ObjectLost
from lightactors.objects.arena import GRAIN, LARGE, PAGE
from lightactors.objects.copying import Copier
from lightactors.objects.line import PATIENCE, SYNC, Answer, Line, Slow
from lightactors.objects.records import Id, Op, Status, text_of
from lightactors.objects.views import Reading, view_of

if TYPE_CHECKING:
    from lightactors.objects.values import Parts

_ROOM = 4 * 2**20
"""Bytes that are leased at once for small objects."""


class Refused(Exception):
    """The owner gives no space; `status` says why, and `coming` how many bytes are on their way to the disk."""

    def __init__(self, status: Status, coming: int) -> None:
        self.status = status
        self.coming = coming


class Held:
    """An object that this process holds, for as long as somebody here has this."""

    __slots__ = ("__weakref__", "client", "id", "origin", "window")

    def __init__(self, client: Client, id: Id) -> None:
        self.client = client
        self.id = id
        self.origin: tuple[Any, Id] | None = None  # of what was lent: over which link, and by which id
        self.window: weakref.ref[Any] | None = None  # the open view, if there is one


class _Hold(weakref.ref[Held]):
    """The end of a `Held`, with what is to be told then."""

    __slots__ = ("count", "id")
    count: int
    id: Id


class _Pin(weakref.ref[Any]):
    """The end of a view, with what is to be told then."""

    __slots__ = ("id",)
    id: Id


class Lease:
    """Space in the arena that this process may write to, until it is sealed or given back."""

    __slots__ = ("end", "offset")

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.end = offset + size


class Client(Line):
    """One process's account at one store."""

    def __init__(self, name: str, label: str, *, fork_of: int = 0) -> None:
        self._numbers = itertools.count(1)
        self._noting = threading.RLock()  # what is told of a hold and what is noted of it go together
        self._holds: dict[Id, _Hold] = {}
        self._pins: dict[int, _Pin] = {}  # by the id() of the view
        self._room = Lease(0, 0)  # for small objects
        self._copier: Copier | None = None
        self._reading: Reading
        self._twin: Client | None = None  # for the fork that is about to be made
        self._has_twins = True
        self._payer = 0  # who this is a line of
        self._stilled: list[Any] = []  # as well: the locks that keep other threads out meanwhile
        super().__init__(name, label, fork_of=fork_of)
        _clients.add(self)

    def line(self, what: str) -> Client:
        """Return a line of its own, to wait over; a fork of this process has no part in it."""
        line = Client(self.name, f"{self.label}, {what}")
        line._has_twins = False
        line._payer = self.number
        return line

    def leave(self, why: str) -> None:
        """End the line, but not before its last view: others go on to use the store, and would write there."""
        if not self._pins:
            self.close(why)
            return
        self.give_back_rest(self._room)
        weakref.finalize(self, self._socket.close).atexit = False

    def greeted(self, memory: int, capacity: int) -> None:
        """Map the arena."""
        if self._copier is not None:  # as it was in the process that this is a copy of
            os.close(memory)
            return
        self._memory = memory
        # Not with the line: a view of what was lost may still be wanted for one's own.
        weakref.finalize(self, os.close, memory).atexit = False
        self._reading = Reading(memory, capacity)
        self._copier = Copier(memory, capacity)
        self._want = max(min(_ROOM, capacity // 64), PAGE)

    @property
    def memory(self) -> int:
        """The descriptor of the arena; there is one once something was asked."""
        return self._memory

    # Putting

    def put(self, parts: Parts, *, patience: float = PATIENCE) -> Held:
        """Make an object. Raises `Refused`, `Slow` and `ObjectLost`."""
        if parts.size >= LARGE:
            return self.put_into(self.lease(parts.size, patience=patience), parts)
        if not self._lock.acquire(timeout=patience):  # objects are sealed in the order in which they lie
            raise Slow
        try:
            self.catch_up(patience)
            room = self._room_for(parts.size, patience)
            self.write(room, parts)
            return self._sealed(room, parts)
        finally:
            self._lock.release()

    def put_into(self, lease: Lease, parts: Parts, id: Id | None = None) -> Held:
        """Make an object of a lease of its own."""
        self.write(lease, parts)
        return self.sealed(lease, parts, id)

    def sealed(self, lease: Lease, parts: Parts, id: Id | None = None) -> Held:
        """Make an object of a lease of its own that was written to."""
        held = self._sealed(lease, parts, id)
        self.give_back_rest(lease)
        return held

    def _sealed(self, lease: Lease, parts: Parts, id: Id | None = None) -> Held:
        id = id or self.new_id()
        with self._noting:
            self.seal(lease, parts.size, id)
            return self.new(id)

    def write(self, lease: Lease, parts: Parts) -> None:
        """Write an object's bytes; give the lease back if that fails."""
        try:
            self.fill(lease, parts)
        except BaseException:
            self.give_back(lease)
            raise

    def fill(self, lease: Lease, parts: Parts) -> None:
        """Write an object's bytes, without sealing it."""
        assert self._copier is not None
        at, copier = lease.offset, self._copier
        target = copier.view[at : at + parts.size]
        parts.write_into(target, lambda offset, source: copier.copy(at + offset, source))

    def _room_for(self, size: int, patience: float) -> Lease:
        room = self._room
        if room.end - room.offset < size:
            if room.offset < room.end:
                self.give_back(room)
            self._room = Lease(0, 0)
            want = max(size, getattr(self, "_want", size))
            self._room = room = self.lease(want, least=size, patience=patience)
        return room

    def lease(self, size: int, *, least: int | None = None, waits: bool = False, patience: float = PATIENCE) -> Lease:
        """Return space. Raises `Refused`, `Slow` and `ObjectLost`."""
        answer = self.ask(
            Op.LEASE, size, least or size, waits, self._payer, patience=patience,
            undo=lambda late: self._undo_lease(late),
        )  # fmt: skip
        if answer.status is not Status.DONE:
            raise Refused(answer.status, answer.a)
        assert self._copier is not None
        self._copier.note_trims(answer.c)
        return Lease(answer.a, answer.b)

    def _undo_lease(self, late: Answer) -> None:
        if late.status is Status.DONE:
            self.tell(Op.UNLEASE, late.a)

    def give_back(self, lease: Lease) -> None:
        """Let the owner have the space."""
        self.tell(Op.UNLEASE, lease.offset)
        lease.offset = lease.end

    def give_back_rest(self, lease: Lease) -> None:
        """Let the owner have what an object has left of a lease."""
        if lease.offset < lease.end:
            self.give_back(lease)

    def adopt(self, other: Client, lease: Lease) -> bool:
        """Take a lease over from another line of this process; False: that has ended before. Raises `ObjectLost`."""
        answer = self.ask(
            Op.ADOPT, other.number, lease.offset, patience=5.0, undo=lambda late: self._undo_adoption(lease, late)
        )
        return answer.status is Status.DONE

    def _undo_adoption(self, lease: Lease, late: Answer) -> None:
        if late.status is Status.DONE:
            self.give_back(lease)

    def seal(self, lease: Lease, size: int, id: Id, *, is_cached: bool = False) -> None:
        """Make an object of the front of a lease: from now on it never changes."""
        self.tell(Op.SEAL_CACHED if is_cached else Op.SEAL, *id, lease.offset, size)
        lease.offset = min(lease.end, lease.offset + -(-size // GRAIN) * GRAIN)

    def copy(self, offset: int, source: memoryview) -> None:
        """Write to a lease."""
        assert self._copier is not None
        self._copier.copy(offset, source)

    def writable(self, offset: int, size: int) -> memoryview:
        """Return memory of a lease."""
        assert self._copier is not None
        return self._copier.view[offset : offset + size]

    def new_id(self) -> Id:
        return self.number, next(self._numbers)

    # Holding

    def new(self, id: Id) -> Held:
        """Return what holds an object whose hold is noted already."""
        held = Held(self, id)
        self._note(held, 1)
        return held

    def _note(self, held: Held, count: int) -> None:
        hold = _Hold(held, self._let_go)
        hold.id, hold.count = held.id, count
        self._holds[held.id] = hold

    def _let_go(self, hold: Any) -> None:
        """Tell of the end of a hold; called while garbage is collected, too."""
        id: Id = hold.id
        if self._holds.get(id) is hold:
            del self._holds[id]
        self.tell(Op.DROP, *id, hold.count)

    def hold(self, id: Id) -> Held:
        """Hold an object that somebody else holds as well."""
        with self._noting:
            self.tell(Op.HOLD, *id)
            return self._one_more(id)

    def take(self, id: Id, inbox: Id) -> Held:
        """Hold an object that has come to an inbox."""
        with self._noting:
            self.tell(Op.TAKE, *id, *inbox)
            return self._one_more(id)

    def claim(self, id: Id, inbox: Id | None = None, *, patience: float = PATIENCE) -> Held | None:
        """Hold an object that is there, or lies in an inbox; None: it does not. Raises `Slow` and `ObjectLost`."""
        op, where = (Op.HOLD, (0, 0)) if inbox is None else (Op.TAKE, inbox)
        answer = self.ask(op, *id, *where, patience=patience, undo=lambda late: self._undo_claim(id, late))
        if answer.status is not Status.DONE:
            return None
        with self._noting:
            return self._one_more(id)

    def _undo_claim(self, id: Id, late: Answer) -> None:
        if late.status is Status.DONE:
            self.tell(Op.DROP, *id, 1)

    def deposit(self, ids: Iterable[Id], inbox: Id) -> None:
        """Leave objects with an inbox."""
        for id in ids:
            self.tell(Op.DEPOSIT, *id, *inbox)
        with contextlib.suppress(Slow, ObjectLost):
            self.catch_up(SYNC)  # else whoever takes them asks for what the owner has not heard of

    def _one_more(self, id: Id) -> Held:
        hold = self._holds.get(id)
        held = None if hold is None else hold()
        if hold is None or held is None:
            return self.new(id)
        hold.count += 1
        return held

    # Viewing

    def view(self, held: Held, *, patience: float = PATIENCE) -> memoryview:
        """Return an object's bytes, read-only and where they lie. Raises `Slow` and `ObjectLost`."""
        window = None if held.window is None else held.window()
        if window is None:
            window = self._open(held, patience)
            held.window = weakref.ref(window)
        return view_of(window)

    def _open(self, held: Held, patience: float) -> Any:
        id = held.id
        answer = self.ask(Op.PIN, *id, patience=patience, undo=lambda late: self._undo_pin(id, late))
        if answer.status is not Status.DONE:
            raise ObjectLost(f"object {text_of(id)} is gone: it was deleted, or lost with the process that put it")
        try:
            window = self._reading.window(self, id, answer)
        except OSError as error:
            self.tell(Op.UNPIN, *id)
            raise ObjectError(f"object {text_of(id)} can't be mapped: {error.strerror}; try again") from error
        pin = _Pin(window, self._unpin)
        pin.id = id
        self._pins[id_of(pin)] = pin
        return window

    def _undo_pin(self, id: Id, late: Answer) -> None:
        for descriptor in late.descriptors:
            os.close(descriptor)
        if late.status is Status.DONE:
            self.tell(Op.UNPIN, *id)

    def _unpin(self, pin: Any) -> None:
        """Tell of the end of a view; called while garbage is collected, too."""
        self._pins.pop(id_of(pin), None)
        self.tell(Op.UNPIN, *pin.id)

    def private(self, view: memoryview) -> memoryview:
        """Return the bytes of a view of this store's, to be written to: what is written is this process's alone."""
        return self._reading.private(view)

    # Forks

    def before_fork(self) -> None:
        """Have the owner open an account for the copy of this process that is about to be made."""
        self._twin = None
        if self.error is not None or not self._has_twins:
            return
        for lock in (self._lock, self._noting):
            if lock.acquire(timeout=SYNC):
                self._stilled.append(lock)
        with contextlib.suppress(ObjectError):
            twin = self._twin = Client(self.name, f"{self.label}, forked", fork_of=self.number)
            _clients.discard(twin)
            # It need not be answered: what else is told from here comes to the owner after this.
            self.tell(Op.FORK, twin.number)

    def after_fork_in_parent(self) -> None:
        twin, self._twin = self._twin, None
        if twin is not None:
            twin.close()
        while self._stilled:
            self._stilled.pop().release()

    def after_fork_in_child(self) -> None:
        """Go on with that account; what holds and views this process was copied with, it has itself."""
        twin, self._twin = self._twin, None
        self._stilled.clear()
        self._noting = threading.RLock()
        self._room = Lease(0, 0)  # the parent's
        if self._copier is not None:
            self._copier.restart()
        self._numbers = itertools.count(1)
        self.restart(twin)
        self.tell(Op.AM, os.getpid())


id_of = id
"""Python's own; here an id is an object's."""

_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _for_all(act: Callable[[Client], object]) -> Callable[[], None]:
    def run() -> None:
        for client in list(_clients):
            act(client)

    return run


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_for_all(Client.before_fork),
        after_in_parent=_for_all(Client.after_fork_in_parent),
        after_in_child=_for_all(Client.after_fork_in_child),
    )
