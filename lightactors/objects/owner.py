"""The owner of the store: a small process that keeps the books, and nothing else.

It runs the standard library alone (see `founder`) and ends with who has founded it, or with the store. Clients map the
memory that it made, and tell it by records what they do there; it never waits for one of them. One that has died is
known by the end of its socket, which the kernel closes after its memory.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightactors.objects.arena import GRAIN, PAGE, Arena
from lightactors.objects.books import Books, Client, Grant, Object
from lightactors.objects.records import PACKET, PROTOCOL, RECORD, SOME, Id, Op, Record, Status, pack
from lightactors.objects.spilling import Spiller, rounded

MADV_REMOVE = 9
LARGE = 2**20
"""Bytes from which an object has pages of its own."""

_TURN = 64
"""Packets of one client that are read before the others have their turn."""

_DRAINED = 1 << 16
"""Packets that are read at most to know all that a client has said until now: more than a socket holds."""

_UNREAD = 4096
"""Answers that a client may leave unread."""

_DISK_RESTS = 1.0
"""Seconds until the disk is tried again after it has failed."""

_HIGH, _LOW = 0.8, 0.7
"""Shares of the arena: used more than the first, objects are spilled until it is less than the second."""

_BATCH = 8 * 2**20
"""Bytes that are spilled at once, or more: a file for each small object would be slow."""

_TRIM_AFTER = 30.0
"""Seconds without a lease after which pages that nothing lies in are given back to the system."""

_LISTED = 10_000
"""Objects that the statistics list, the largest first."""


@dataclass(frozen=True)
class Settings:
    """What the founder wants."""

    capacity: int
    quota: int | None
    spill: str | None  # the directory
    spill_limit: int | None


class Channel:
    """One client's socket."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self.client: Client | None = None
        self.is_open = True
        self.is_read = False  # at the moment: to be drained it is not read again
        self.backlog: deque[tuple[bytes, list[int]]] = deque()

    def forget_backlog(self) -> None:
        for _, descriptors in self.backlog:
            for descriptor in descriptors:
                os.close(descriptor)
        self.backlog.clear()


@dataclass(frozen=True)
class Unborn:
    """The copy of a client, which has greeted before that has said so."""

    channel: Channel
    greeting: dict[str, Any]


@dataclass(frozen=True)
class Parked:
    """A lease that is waited for."""

    channel: Channel
    serial: int
    most: int
    least: int


class Owner:
    """The store's memory and books, and everybody who uses them."""

    def __init__(self, listener: socket.socket, control: socket.socket, settings: Settings) -> None:
        self._settings = settings
        self._arena = Arena(settings.capacity)
        self._books = Books(self._arena, settings.quota)
        self._memory = _memory(self._arena.capacity)
        self._map = mmap.mmap(self._memory, self._arena.capacity)
        self._channels: dict[int, Channel] = {}  # by the client's number
        self._parked: deque[Parked] = deque()
        self._fetchers: dict[Id, list[tuple[Channel, int]]] = {}  # who waits for what somebody brings
        self._unborn: dict[int, Unborn] = {}  # by their numbers
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._trims = 0
        self._last_lease = time.monotonic()
        self._disk_error = ""
        self._disk_rests_until = 0.0
        self._is_over = False
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._watch(listener, lambda: self._accept(listener))
        self._watch(control, self._heard_founder)
        self._spiller = self._new_spiller()
        self._actions: dict[int, Callable[[Channel, Client, Record], object]] = {
            Op.SEAL: self._sealed,
            Op.SEAL_CACHED: self._sealed,
            Op.UNLEASE: lambda _, client, record: self._books.unlease(client, record[2]),
            Op.ADOPT: self._adopted,
            Op.HOLD: self._held,
            Op.DROP: lambda _, client, record: self._books.drop(client, (record[2], record[3]), record[4]),
            Op.UNPIN: lambda _, client, record: self._books.unpin(client, (record[2], record[3])),
            Op.OPEN: lambda _, client, record: self._books.open(client, (record[2], record[3])),
            Op.JOIN: self._joined,
            Op.ABANDON: self._abandoned,
            Op.CLOSE: lambda _, client, record: self._books.close(client, (record[2], record[3])),
            Op.DEPOSIT: self._deposited,
            Op.TAKE: self._taken,
            Op.FORK: self._forked,
            Op.AM: lambda _, client, record: client.facts.update(pid=record[2]),
            Op.LEASE: self._lease,
            Op.PIN: self._pin,
            Op.CONTAINS: self._contains,
            Op.DELETE: self._delete,
            Op.FETCH: self._fetch,
            Op.GIVE_UP: self._gave_up,
            Op.STATISTICS: self._statistics,
        }

    def _new_spiller(self) -> Spiller | None:
        if self._settings.spill is None:
            return None
        waking, waked = socket.socketpair()
        waked.setblocking(False)
        self._watch(waked, lambda: self._spilled(waked))
        return Spiller(memoryview(self._map), self._settings.spill, lambda: waking.send(b"."))

    def _watch(self, end: socket.socket, turn: Callable[[], object]) -> None:
        end.setblocking(False)
        self._selector.register(end, selectors.EVENT_READ, turn)

    def run(self) -> None:
        """Serve until the founder is gone."""
        while not self._is_over:
            for key, _ in self._selector.select(_DISK_RESTS if self._parked else _TRIM_AFTER):
                key.data()
            self._serve_parked()
            self._books.close_abandoned(time.monotonic())
            self._trim_if_idle()

    def _heard_founder(self) -> None:
        if not self._control.recv(1):
            self._is_over = True

    # Clients

    def _accept(self, listener: socket.socket) -> None:
        try:
            end, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # too many are here
            self._turn_away(listener, error)
            return
        if user_of(end) not in (os.getuid(), 0):
            end.close()
            return
        channel = Channel(end)
        self._selector.register(end, selectors.EVENT_READ, lambda: self._turn(channel))

    def _turn_away(self, listener: socket.socket, error: OSError) -> None:
        """Close the line of who has come: it would wait for ever, and the owner never sleep."""
        sys.stderr.write(f"the object store turns a process away: {error}\n")
        os.close(self._spare)
        with contextlib.suppress(OSError):
            listener.accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _turn(self, channel: Channel) -> None:
        """Write what waits to be written, and read a fair share."""
        self._flush(channel)
        self._read(channel, _TURN)

    def _drain(self, number: int) -> None:
        """Read all that a client has said: what another one heard of it may have been faster here."""
        channel = self._channels.get(number)
        if channel is not None and not channel.is_read:
            self._read(channel, _DRAINED)

    def _read(self, channel: Channel, packets: int) -> None:
        channel.is_read = True
        try:
            while packets and channel.is_open:
                packet = channel.socket.recv(PACKET)
                if not packet:
                    self._close(channel)
                    return
                self._take(channel, packet)
                packets -= 1
        except BlockingIOError:
            pass
        except OSError:
            self._close(channel)
        finally:
            channel.is_read = False

    def _take(self, channel: Channel, packet: bytes) -> None:
        client = channel.client
        if client is None:
            self._greet(channel, packet)
            return
        try:
            for record in RECORD.iter_unpack(packet):
                self._actions[record[0]](channel, client, record)
        except (struct.error, KeyError, OSError) as error:
            sys.stderr.write(
                f"the object store lets {client.facts.get('label')!r} go, which sent nonsense: {error!r}\n"
            )
            self._close(channel)

    def _greet(self, channel: Channel, packet: bytes) -> None:
        """Take a client in, and give it the memory."""
        greeting = _understood(packet)
        if greeting is None:
            self._close(channel)
        elif greeting["protocol"] != PROTOCOL:
            self._refuse(channel, "it is of another version")
        elif greeting["fork_of"]:
            self._greet_fork(channel, greeting)
        else:
            self._let_in(channel, self._books.enter(greeting["client"], {}, time.time()), greeting)

    def _greet_fork(self, channel: Channel, greeting: dict[str, Any]) -> None:
        """Take in the copy of a client, once that has said at which moment it was one."""
        number, parent = greeting["client"], greeting["fork_of"]
        self._unborn[number] = Unborn(channel, greeting)
        self._drain(parent)
        if number not in self._unborn:
            return
        if number in self._books.clients and number not in self._channels:
            del self._unborn[number]
            self._let_in(channel, self._books.clients[number], greeting)
        elif parent not in self._channels:
            del self._unborn[number]
            self._refuse(channel, "it is a copy of what is not here")

    def _forked(self, channel: Channel, client: Client, record: Record) -> None:
        number = record[2]
        unborn = self._unborn.pop(number, None)
        if unborn is not None and not unborn.channel.is_open:
            return
        if (twin := self._books.fork(client, number, {"label": client.facts["label"], "pid": 0}, time.time())) is None:
            raise KeyError(f"{number} is taken, and can't be a fork's")
        if unborn is not None:
            self._let_in(unborn.channel, twin, unborn.greeting)

    def _let_in(self, channel: Channel, client: Client | None, greeting: dict[str, Any]) -> None:
        if client is None:
            self._refuse(channel, "its number is taken")
            return
        client.facts = {"label": greeting["label"], "pid": greeting["pid"]}
        channel.client = client
        self._channels[client.number] = channel
        self._send(channel, json.dumps({"capacity": self._arena.capacity}).encode(), [self._memory])

    def _refuse(self, channel: Channel, why: str) -> None:
        self._send(channel, json.dumps({"error": why}).encode())
        self._close(channel)

    def _close(self, channel: Channel) -> None:
        if not channel.is_open:
            return
        channel.is_open = False
        self._selector.unregister(channel.socket)
        channel.socket.close()
        channel.forget_backlog()
        if channel.client is not None:
            self._leave(channel.client)

    def _leave(self, client: Client) -> None:
        del self._channels[client.number]
        fetches = list(client.fetches)
        self._books.leave(client, time.monotonic())
        for id in fetches:
            self._serve_fetchers(id)
        for number, unborn in list(self._unborn.items()):
            if unborn.greeting["fork_of"] == client.number:
                del self._unborn[number]
                self._refuse(unborn.channel, "it is a copy of what is not here")

    def _send(self, channel: Channel, packet: bytes, descriptors: list[int] | None = None) -> None:
        """Send an answer, now or when the client has read others; it may close the channel."""
        if not channel.is_open:
            return
        # Copies: these may be closed, and their numbers be others', until it is sent.
        channel.backlog.append((packet, [os.dup(descriptor) for descriptor in descriptors or []]))
        self._flush(channel)
        if len(channel.backlog) > _UNREAD:
            sys.stderr.write("the object store lets a process go that does not read its answers\n")
            self._close(channel)

    def _flush(self, channel: Channel) -> None:
        while channel.backlog and channel.is_open:
            packet, descriptors = channel.backlog[0]
            try:
                socket.send_fds(channel.socket, [packet], descriptors)
            except BlockingIOError:
                break
            except OSError:
                self._close(channel)
                return
            channel.backlog.popleft()
            for descriptor in descriptors:
                os.close(descriptor)
        if channel.is_open:
            waiting = selectors.EVENT_WRITE if channel.backlog else 0
            key = self._selector.get_key(channel.socket)
            if key.events != selectors.EVENT_READ | waiting:
                self._selector.modify(channel.socket, selectors.EVENT_READ | waiting, key.data)

    def _answer(
        self,
        channel: Channel,
        record: Record,
        status: Status,
        a: int = 0,
        b: int = 0,
        c: int = 0,
        descriptors: list[int] | None = None,
    ) -> None:
        self._send(channel, pack(Op(record[0]), status, a, b, c, serial=record[1]), descriptors)

    # Objects

    def _hear_of(self, id: Id) -> None:
        """Hear all that an object's maker has said, if it is not known yet."""
        if id not in self._books.objects:
            self._drain(id[0])

    def _found(self, id: Id) -> bool:
        self._hear_of(id)
        return id in self._books.objects

    def _sealed(self, channel: Channel, client: Client, record: Record) -> None:
        op, _, maker, number, offset, size = record
        id = maker, number
        if not self._books.seal(client, id, offset, size, time.time(), is_cached=op == Op.SEAL_CACHED):
            raise KeyError(f"{id} sealed where it may not be")
        self._serve_fetchers(id)

    def _adopted(self, channel: Channel, client: Client, record: Record) -> None:
        other = self._books.clients.get(record[2])
        if other is not None:
            self._books.adopt(client, other, record[3])
        self._answer(channel, record, Status.DONE if record[3] in client.leases else Status.LOST)

    def _held(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        is_there = self._found(id) and self._books.hold(client, id)
        self._answer_claim(channel, record, is_there)

    def _joined(self, channel: Channel, client: Client, record: Record) -> None:
        inbox = record[2], record[3]
        if not self._books.join(client, inbox):
            self._drain(inbox[0])  # who has opened it
            self._books.join(client, inbox)

    def _abandoned(self, channel: Channel, client: Client, record: Record) -> None:
        self._books.abandon(client, (record[2], record[3]), time.monotonic())

    def _deposited(self, channel: Channel, client: Client, record: Record) -> None:
        id, inbox = (record[2], record[3]), (record[4], record[5])
        if self._found(id):
            self._books.deposit(id, inbox)

    def _taken(self, channel: Channel, client: Client, record: Record) -> None:
        id, inbox = (record[2], record[3]), (record[4], record[5])
        self._hear_of(id)
        is_there = not record[1] or (id in self._books.objects and self._lies_in(id, inbox, client))
        if is_there:
            self._books.take(client, id, inbox)
        self._answer_claim(channel, record, is_there)

    def _lies_in(self, id: Id, inbox: Id, client: Client) -> bool:
        """Tell whether an object was really sent to a client's inbox."""
        if not self._books.lies_in(id, inbox, client):
            self._drain(inbox[0])  # who sends to it
        return self._books.lies_in(id, inbox, client)

    def _answer_claim(self, channel: Channel, record: Record, is_there: bool) -> None:
        if record[1]:
            self._answer(channel, record, Status.DONE if is_there else Status.LOST)

    def _pin(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        self._hear_of(id)
        found = self._books.pin(client, id)
        if found is None:
            self._answer(channel, record, Status.LOST)
        else:
            descriptors = [found.file.descriptor] if found.file is not None else []  # type: ignore[attr-defined]
            self._answer(channel, record, Status.DONE, found.offset, found.size, descriptors=descriptors)

    def _contains(self, channel: Channel, client: Client, record: Record) -> None:
        self._answer(channel, record, Status.DONE if self._found((record[2], record[3])) else Status.LOST)

    def _delete(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        self._answer(channel, record, Status.DONE if self._found(id) and self._books.delete(id) else Status.LOST)

    def _fetch(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        status = self._books.fetch(client, id)
        if status is Status.FULL:
            self._fetchers.setdefault(id, []).append((channel, record[1]))
        else:
            self._answer(channel, record, status)

    def _gave_up(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        self._books.give_up(client, id)
        self._serve_fetchers(id)

    def _serve_fetchers(self, id: Id) -> None:
        for channel, serial in self._fetchers.pop(id, ()):
            if channel.is_open and channel.client is not None:
                self._fetch(channel, channel.client, (Op.FETCH, serial, *id, 0, 0))

    # Space

    def _lease(self, channel: Channel, client: Client, record: Record) -> None:
        _, serial, most, least, waits, payer = record
        if payer:
            self._books.wait_for(client, self._books.clients.get(payer))
        self._last_lease = time.monotonic()
        granted = Status.FULL if self._parked else self._granted(client, most, least)
        if granted is Status.FULL:
            self._make_room(least)
            granted = Status.FULL if self._parked else self._granted(client, most, least)
        if granted is Status.FULL and waits:
            self._parked.append(Parked(channel, serial, most, least))
            return
        self._answer_lease(channel, serial, granted)
        if self._arena.used > _HIGH * self._arena.capacity:
            self._spill(int(self._arena.used - _LOW * self._arena.capacity))

    def _granted(self, client: Client, most: int, least: int) -> Grant | Status:
        return self._books.lease(client, most, least, PAGE if least >= LARGE else GRAIN)

    def _answer_lease(self, channel: Channel, serial: int, granted: Grant | Status) -> None:
        record: Record = (Op.LEASE, serial, 0, 0, 0, 0)
        if isinstance(granted, Grant):
            self._answer(channel, record, Status.DONE, granted.offset, granted.size, self._trims)
        else:
            self._books.tally.refused += 1
            coming = 0 if self._spiller is None else self._spiller.under_way
            self._answer(channel, record, granted, coming)

    def _serve_parked(self) -> None:
        """Grant what is waited for, in turn."""
        while self._parked:
            first = self._parked[0]
            client = first.channel.client
            if first.channel.is_open and client is not None:
                granted = self._granted(client, first.most, first.least)
                if granted is Status.FULL:
                    self._make_room(first.least)
                    granted = self._granted(client, first.most, first.least)
                if granted is Status.FULL:
                    return
                self._answer_lease(first.channel, first.serial, granted)
            self._parked.popleft()

    def _make_room(self, size: int) -> None:
        """Drop what nobody holds, and have spilled what nobody looks at, until so much is free in one piece."""
        while self._arena.largest < size and self._books.evict():
            pass
        if self._arena.largest < size:
            self._spill(max(size, _BATCH))

    def _spill(self, size: int) -> None:
        if self._spiller is None or time.monotonic() < self._disk_rests_until:
            return
        under_way, limit = self._spiller.under_way, self._settings.spill_limit
        if limit is None:
            batch = self._books.victims(size - under_way)
        elif under_way:
            return  # how much it takes of the limit is known then
        else:
            batch = self._books.victims(size, limit - self._books.spilled_bytes)
        if batch:
            self._spiller.write(batch)

    def _spilled(self, waked: socket.socket) -> None:
        assert self._spiller is not None
        waked.recv(4096)
        while not self._spiller.done.empty():
            written = self._spiller.done.get()
            for found, file, offset in written.placed:
                self._spiller.under_way -= found.room
                self._books.spilled(found, file, offset, rounded(found.size))
            for found in written.left:
                self._spiller.under_way -= found.room
                self._books.stays(found)
            self._note_disk_error(written.error)

    def _note_disk_error(self, error: OSError | None) -> None:
        self._disk_error = "" if error is None else str(error)
        if error is not None:
            self._disk_rests_until = time.monotonic() + _DISK_RESTS

    def _trim_if_idle(self) -> None:
        """Give back the pages of free space when there was no lease for long."""
        if not self._trims_are_due():
            return
        self._last_lease = float("inf")
        self._trims += 1
        for offset, size, is_free in self._arena.extents():
            first, last = -(-offset // PAGE) * PAGE, (offset + size) // PAGE * PAGE
            if is_free and last - first >= LARGE:
                with contextlib.suppress(OSError):  # of what is no memory but a file, on some file systems
                    self._map.madvise(MADV_REMOVE, first, last - first)

    def _trims_are_due(self) -> bool:
        return time.monotonic() - self._last_lease >= _TRIM_AFTER

    # Looking

    def _statistics(self, channel: Channel, client: Client, record: Record) -> None:
        with tempfile.TemporaryFile() if _has_no_memfd() else open(os.memfd_create("statistics"), "w+b") as file:
            file.write(json.dumps(self._facts()).encode())
            file.flush()
            self._answer(channel, record, Status.DONE, file.tell(), descriptors=[file.fileno()])

    def _facts(self) -> dict[str, Any]:
        books, arena = self._books, self._arena
        objects = sorted(books.all_objects(), key=lambda found: -found.size)
        return {
            "capacity": arena.capacity,
            "used": arena.used,
            "leased": sum(sum(client.leases.values()) for client in books.clients.values()),
            "largest_free": arena.largest,
            "fragmentation": arena.fragmentation,
            "spilled_bytes": books.spilled_bytes,
            "spill": self._settings.spill,
            "disk_error": self._disk_error,
            "waiting": len(self._parked),
            "total_objects": len(objects),
            "counters": vars(books.tally),
            "processes": [_client_facts(client) for client in books.clients.values()],
            "objects": [self._object_facts(found) for found in objects[:_LISTED]],
        }

    def _object_facts(self, found: Object) -> dict[str, Any]:
        clients = self._books.clients.values()
        return {
            "id": f"{found.id[0]:x}-{found.id[1]:x}",
            "size": found.size,
            "sealed": found.sealed,
            "maker": None if found.maker is None else found.maker.number,
            "holders": [client.number for client in clients if client.counts.get(found.id)],
            "viewers": [client.number for client in clients if client.pins.get(found.id)],
            "in_flight": sum(found.id in inbox.counts for inbox in self._books.inboxes.values()),
            "is_spilled": found.file is not None,
            "is_deleted": found.is_gone,
        }


def _client_facts(client: Client) -> dict[str, Any]:
    return {
        "number": client.number,
        "joined": client.joined,
        "used": client.used,
        "viewed": len(client.pins),
        "held": len(client.counts),
        **client.facts,
    }


def _understood(packet: bytes) -> dict[str, Any] | None:
    """Return a greeting; None: it is none."""
    try:
        greeting = json.loads(packet)
    except (ValueError, RecursionError):
        return None
    kinds = {"client": int, "protocol": int, "pid": int, "label": str, "fork_of": int}
    if not isinstance(greeting, dict) or {name: type(fact) for name, fact in greeting.items()} != kinds:
        return None
    return greeting if 0 < greeting["client"] <= SOME else None


def user_of(end: socket.socket) -> int:
    """Return who is, or listens, at the other end of a unix socket."""
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _memory(size: int) -> int:
    """Return the descriptor of memory that no name leads to: the kernel frees it with the last that uses it."""
    if _has_no_memfd():
        with tempfile.TemporaryFile(dir=_roomy(size)) as file:
            os.ftruncate(file.fileno(), size)
            return os.dup(file.fileno())
    import fcntl

    descriptor = os.memfd_create("lightactors objects", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    # Nobody can cut off what others have mapped, and so make them crash.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def _has_no_memfd() -> bool:
    return not hasattr(os, "memfd_create")


def _roomy(size: int) -> str | None:
    """Return where files are memory, if so much is free there: else who writes there is killed; None: on the disk."""
    with contextlib.suppress(OSError):
        facts = os.statvfs("/dev/shm")
        if facts.f_bavail * facts.f_frsize >= size:
            return "/dev/shm"
    return None


def main() -> None:
    """Be the owner: the descriptors of the listener and of the founder's line, and the settings, are the arguments."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The founder says when it is over: those who stop have views and last words until then.
        signal.signal(number, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each client takes one
    listener, control = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    Owner(listener, control, Settings(**json.loads(sys.argv[3]))).run()
