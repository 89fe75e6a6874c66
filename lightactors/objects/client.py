"""A process's line to a store: it asks for space and for views, and tells what it lets go of.

Everything here is synchronous and may be called from any thread. What is told needs no answer; what is asked is
answered in some 25 µs, which is less than to wait for it in any other way would cost. An owner that does not answer
in time is waited for in a thread: see `store`.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import errno
import itertools
import json
import mmap
import os
import pickle
import secrets
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lightactors.errors import ObjectError, ObjectLost
from lightactors.objects.copying import Copier, address_of
from lightactors.objects.owner import LARGE, user_of
from lightactors.objects.records import PACKET, PROTOCOL, RECORD, SOME, Id, Op, Status

if TYPE_CHECKING:
    from lightactors.objects.values import Parts

PATIENCE = 0.02
"""Seconds that a loop may be kept by an owner that does not answer."""

_SYNC = 1.0
"""Seconds that a process is kept by one at most, where it can't wait in another way."""

_ROOM = 4 * 2**20
"""Bytes that are leased at once for small objects."""


class Slow(Exception):
    """The owner has not answered in time; what it was asked is undone when it does."""


class Refused(Exception):
    """The owner gives no space; `status` says why, and `coming` how many bytes are on their way to the disk."""

    def __init__(self, status: Status, coming: int) -> None:
        self.status = status
        self.coming = coming


@dataclass
class Answer:
    status: Status
    a: int = 0
    b: int = 0
    c: int = 0
    descriptors: list[int] = field(default_factory=list)


class Held:
    """An object that this process holds, for as long as somebody here has this."""

    __slots__ = ("__weakref__", "client", "id", "window")

    def __init__(self, client: Client, id: Id) -> None:
        self.client = client
        self.id = id
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


class Client:
    """One process's line to one store."""

    def __init__(self, name: str, label: str, *, fork_of: int = 0) -> None:
        """Connect; raises `ObjectLost` if there is no such store, or not of this user."""
        self.name = name
        self.label = label
        self.number = secrets.randbelow(SOME) + 1
        self.error: str | None = None  # why it has ended
        self._socket = _connected(name)
        self._lock = threading.RLock()
        self._noting = threading.RLock()  # what is told of a hold and what is noted of it go together
        self._flushing = threading.Lock()
        self._helping = threading.Lock()
        self._backlog: deque[bytes] = deque()
        self._late: dict[int, Callable[[Answer], object]] = {}  # what is done about an answer that comes too late
        self._serials = itertools.count(1)
        self._numbers = itertools.count(1)
        self._holds: dict[Id, _Hold] = {}
        self._pins: dict[int, _Pin] = {}  # by the id() of the view
        self._room = Lease(0, 0)  # for small objects
        self._copier: Copier | None = None
        self._is_in = False  # whether the owner's greeting was heard
        self._reading: mmap.mmap
        self._reading_at = 0
        self._twin: Client | None = None  # for the fork that is about to be made
        self._has_twins = True
        self._payer = 0  # who this is a line of
        self._stilled: list[Any] = []  # as well: the locks that keep other threads out meanwhile
        facts = {"client": self.number, "protocol": PROTOCOL, "pid": os.getpid(), "label": label, "fork_of": fork_of}
        self._tell(json.dumps(facts).encode())
        _clients.add(self)

    def line(self, what: str) -> Client:
        """Return a line of its own, to wait over; a fork of this process has no part in it."""
        line = Client(self.name, f"{self.label}, {what}")
        line._has_twins = False
        line._payer = self.number
        return line

    # Telling

    def tell(self, op: Op, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> None:
        """Say what has happened. Never waits, nor raises: it is also called while garbage is collected."""
        self._tell(RECORD.pack(op, 0, a, b, c, d))

    def _tell(self, packet: bytes) -> None:
        if self.error is not None:
            return
        if not self._backlog:
            try:
                self._socket.send(packet)
                return
            except BlockingIOError:
                pass
            except OSError as error:
                self._lose(error)
                return
        self._backlog.append(packet)
        self._have_flushed()

    def _flush(self) -> None:
        if not self._flushing.acquire(blocking=False):
            return
        try:
            while self._backlog:
                packets = self._next_packets()
                self._socket.send(b"".join(packets))
                for _ in packets:
                    self._backlog.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(error)
        finally:
            self._flushing.release()

    def _next_packets(self) -> list[bytes]:
        """Return what goes as one: the socket holds fewer packets than bytes."""
        packets: list[bytes] = []
        size = 0
        for place in range(len(self._backlog)):  # not an iterator, for others append
            size += len(self._backlog[place])
            if packets and size > PACKET:
                break
            packets.append(self._backlog[place])
        return packets

    def _have_flushed(self) -> None:
        """Have a thread send what the socket does not take now; without it that would wait for the next to be told."""
        if self._helping.acquire(blocking=False):
            try:
                # Not `threading.Thread`, whose lock this thread may have while garbage is collected.
                _thread.start_new_thread(self._keep_flushing, ())
            except RuntimeError:  # the interpreter ends, and with it the line
                self._helping.release()

    def _keep_flushing(self) -> None:
        try:
            while self._backlog and self.error is None:
                with contextlib.suppress(Slow, ObjectLost):
                    self._wait(select.POLLOUT, time.monotonic() + 1.0)
                    self._flush()
        finally:
            self._helping.release()
        if self._backlog and self.error is None:  # since this thread has looked
            self._have_flushed()

    def catch_up(self, patience: float) -> None:
        """Wait until all that was told has left for the owner. Raises `Slow` and `ObjectLost`."""
        deadline = time.monotonic() + patience
        while self._backlog:
            self._wait(select.POLLOUT, deadline)
            self._flush()

    def _lose(self, error: OSError | str) -> None:
        if self.error is None:
            self.error = str(error)

    def close(self, why: str = "the line is closed") -> None:
        """End the line: what this process holds is let go of, its views stay as they are while they last."""
        self._lose(why)
        self._socket.close()

    # Asking

    def ask(
        self, op: Op, a: int = 0, b: int = 0, c: int = 0, d: int = 0, *, patience: float = PATIENCE,
        undo: Callable[[Answer], object] = lambda _: None,
    ) -> Answer:  # fmt: skip
        """Ask the owner. Raises `Slow`, after which `undo` is called with a late answer, and `ObjectLost`."""
        deadline = time.monotonic() + patience
        if not self._lock.acquire(timeout=patience):
            raise Slow
        try:
            if not self._is_in:
                self._enter(deadline)
            serial = next(self._serials) & 0xFFFFFFFF
            self._late[serial] = undo
            self._tell(RECORD.pack(op, serial, a, b, c, d))
            self.catch_up(deadline - time.monotonic())
            while True:
                answered, answer = self._receive(deadline)
                late = self._late.pop(answered)
                if answered == serial:
                    return answer
                late(answer)
        finally:
            self._lock.release()

    def _receive(self, deadline: float) -> tuple[int, Answer]:
        packet, descriptors = self._packet(deadline)
        _, serial, status, a, b, c = RECORD.unpack(packet)
        return serial, Answer(Status(status), a, b, c, descriptors)

    def _packet(self, deadline: float) -> tuple[bytes, list[int]]:
        while True:
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._socket, PACKET, 4)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)
                continue
            except OSError as error:
                self._lose(error)
                raise self.lost() from None
            if not packet:
                self._lose("its process has ended")
                raise self.lost()
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            return packet, descriptors

    def _wait(self, event: int, deadline: float) -> None:
        if self.error is not None:
            raise self.lost()
        poll = select.poll()
        try:
            poll.register(self._socket, event)
        except ValueError:  # another thread has closed it since
            raise self.lost() from None
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise Slow

    def lost(self) -> ObjectLost:
        """Return the error that says why nothing can be had from this store."""
        return ObjectLost(f"object store {self.name} can't be reached ({self.error}): what it held is lost")

    def _enter(self, deadline: float) -> None:
        """Hear the owner's greeting, and map its memory."""
        packet, descriptors = self._packet(deadline)
        facts = json.loads(packet)
        if "error" in facts:
            self._lose(facts["error"])
            raise ObjectError(f"object store {self.name} refuses this process: {facts['error']}")
        self._is_in = True
        if self._copier is None:
            self._map(descriptors, facts["capacity"])
        else:  # as it was in the process that this is a copy of
            os.close(descriptors[0])

    def _map(self, descriptors: list[int], capacity: int) -> None:
        try:
            self._reading = mmap.mmap(descriptors[0], capacity, prot=mmap.PROT_READ)
            self._reading_at = address_of(self._reading)
            self._copier = Copier(descriptors[0], capacity)
        finally:
            self._memory = descriptors[0]
            # Not with the line: a view of what was lost may still be wanted for one's own.
            weakref.finalize(self, os.close, self._memory).atexit = False
        self._want = max(min(_ROOM, capacity // 64), mmap.PAGESIZE)

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
            return self._write(self._room_for(parts.size, patience), parts)
        finally:
            self._lock.release()

    def put_into(self, lease: Lease, parts: Parts, id: Id | None = None) -> Held:
        """Make an object of a lease of its own."""
        held = self._write(lease, parts, id)
        if lease.offset < lease.end:
            self.give_back(lease)
        return held

    def _write(self, lease: Lease, parts: Parts, id: Id | None = None) -> Held:
        try:
            self.fill(lease, parts)
        except BaseException:
            self.give_back(lease)
            raise
        id = id or self.new_id()
        with self._noting:
            self.seal(lease, parts.size, id)
            return self.new(id)

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

    def detach(self) -> socket.socket:
        """Give the socket away."""
        return self._socket

    def hang_up(self) -> None:
        """End the line also for a thread that waits for an answer."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.close()

    def seal(self, lease: Lease, size: int, id: Id, *, is_cached: bool = False) -> None:
        """Make an object of the front of a lease: from now on it never changes."""
        self.tell(Op.SEAL_CACHED if is_cached else Op.SEAL, *id, lease.offset, size)
        lease.offset = min(lease.end, lease.offset + -(-size // 64) * 64)

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
            self.catch_up(_SYNC)  # else whoever takes them asks for what the owner has not heard of

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
        if answer.descriptors:
            mapping, at = _mapped(answer), answer.a % mmap.PAGESIZE
            address = address_of(mapping) + at
        else:
            mapping, address = self._reading, self._reading_at + answer.a
        window = (ctypes.c_ubyte * answer.b).from_address(address)
        window.mapping = mapping  # type: ignore[attr-defined]  # `from_address` keeps nothing alive
        window.object = id  # type: ignore[attr-defined]
        window.client = self  # type: ignore[attr-defined]
        window.place = None if answer.descriptors else answer.a  # type: ignore[attr-defined]
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
        window: Any = view.obj
        if window.place is None:  # on the disk
            return memoryview(bytearray(view))
        start = window.place // mmap.PAGESIZE * mmap.PAGESIZE
        at = window.place - start
        flags = mmap.MAP_PRIVATE
        mapping = mmap.mmap(self._memory, at + view.nbytes, flags=flags, offset=start)
        private = (ctypes.c_ubyte * view.nbytes).from_buffer(mapping, at)
        private.window = window  # type: ignore[attr-defined]  # what is not written to still lies there
        return pickle.PickleBuffer(private).raw()

    # Forks

    def before_fork(self) -> None:
        """Have the owner open an account for the copy of this process that is about to be made."""
        self._twin = None
        if self.error is not None or not self._has_twins:
            return
        for lock in (self._lock, self._noting):
            if lock.acquire(timeout=_SYNC):
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
        self._socket.close()
        self._stilled.clear()
        self._lock, self._noting = threading.RLock(), threading.RLock()
        self._flushing, self._helping = threading.Lock(), threading.Lock()
        self._backlog.clear()
        self._late.clear()
        self._room = Lease(0, 0)  # the parent's
        if self._copier is not None:
            self._copier.restart()
        if twin is None:
            self._lose("this is a fork of the process that had it")
        else:
            self._socket, self.number, self._numbers = twin.detach(), twin.number, itertools.count(1)
            self._is_in = False
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


def _connected(name: str) -> socket.socket:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.setblocking(False)
    try:
        end.connect(f"\0{name}")
        if user_of(end) not in (os.getuid(), 0):
            raise OSError(errno.EACCES, "it is another user's")
    except OSError as error:
        end.close()
        raise ObjectLost(f"object store {name} can't be reached from here ({error.strerror})") from None
    return end


def view_of(window: Any) -> memoryview:
    """Return the bytes of an open view, read-only."""
    return pickle.PickleBuffer(window).raw().toreadonly()


def _mapped(answer: Answer) -> mmap.mmap:
    """Map what was spilled."""
    descriptor = answer.descriptors[0]
    start = answer.a // mmap.PAGESIZE * mmap.PAGESIZE
    try:
        return mmap.mmap(descriptor, answer.a - start + answer.b, prot=mmap.PROT_READ, offset=start)
    finally:
        os.close(descriptor)


def text_of(id: Id) -> str:
    """Return an object's id as text."""
    return f"{id[0]:x}-{id[1]:x}"
