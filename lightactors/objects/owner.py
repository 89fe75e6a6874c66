"""The owner of the store: a small process that keeps the books, and nothing else.

It runs the standard library alone (see `founder`) and ends with who has founded it, or with the store. Clients map the
memory that it made, and tell it by records what they do there; it never waits for one of them. One that has died is
known by the end of its socket, which the kernel closes after its memory.
"""

from __future__ import annotations

import json
import mmap
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from lightactors.objects.arena import Arena
from lightactors.objects.books import Books, Client
from lightactors.objects.channels import Channel, Channels
from lightactors.objects.facts import facts_of
from lightactors.objects.memory import new_memory, passing_file
from lightactors.objects.records import Id, Op, Record, Status
from lightactors.objects.space import DISK_RESTS, TRIM_AFTER, Space
from lightactors.objects.spilling import Spiller


@dataclass(frozen=True)
class Settings:
    """What the founder wants."""

    capacity: int
    quota: int | None
    spill: str | None  # the directory
    spill_limit: int | None


class Owner:
    """The store's memory and books, and everybody who uses them."""

    def __init__(self, listener: socket.socket, control: socket.socket, settings: Settings) -> None:
        self._settings = settings
        self._books = Books(Arena(settings.capacity), settings.quota)
        memory = new_memory(self._books.arena.capacity)
        self._fetchers: dict[Id, list[tuple[Channel, int]]] = {}  # who waits for what somebody brings
        self._is_over = False
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._channels = Channels(self._selector, self._books, memory, self._hear, self._left)
        self._space = self._new_space(mmap.mmap(memory, self._books.arena.capacity))
        self._watch(listener, lambda: self._channels.accept(listener))
        self._watch(control, self._heard_founder)
        self._actions: dict[int, Callable[[Channel, Client, Record], object]] = {
            Op.SEAL: self._sealed,
            Op.SEAL_CACHED: self._sealed,
            Op.UNLEASE: lambda _, client, record: self._books.unlease(client, record[2]),
            Op.ADOPT: self._adopted,
            Op.HOLD: self._held,
            Op.DROP: lambda _, client, record: self._books.drop(client, (record[2], record[3]), record[4]),
            Op.UNPIN: lambda _, client, record: self._books.unpin(client, (record[2], record[3])),
            Op.OPEN: lambda _, client, record: self._books.open(client, record[2:4], record[4:]),
            Op.JOIN: self._joined,
            Op.ABANDON: self._abandoned,
            Op.CLOSE: lambda _, client, record: self._books.close(client, (record[2], record[3])),
            Op.DEPOSIT: self._deposited,
            Op.TAKE: self._taken,
            Op.FORK: self._channels.forked,
            Op.AM: lambda _, client, record: client.facts.update(pid=record[2]),
            Op.LEASE: self._space.lease,
            Op.PIN: self._pin,
            Op.CONTAINS: self._contains,
            Op.DELETE: self._delete,
            Op.FETCH: self._fetch,
            Op.GIVE_UP: self._gave_up,
            Op.STATISTICS: self._statistics,
        }

    def _new_space(self, memory: mmap.mmap) -> Space:
        return Space(self._books, memory, self._new_spiller(memory), self._settings.spill_limit, self._channels.answer)

    def _new_spiller(self, memory: mmap.mmap) -> Spiller | None:
        if self._settings.spill is None:
            return None
        waking, waked = socket.socketpair()
        self._watch(waked, lambda: self._written(waked))
        return Spiller(memoryview(memory), self._settings.spill, lambda: waking.send(b"."))

    def _written(self, waked: socket.socket) -> None:
        waked.recv(4096)
        self._space.written()

    def _watch(self, end: socket.socket, turn: Callable[[], object]) -> None:
        end.setblocking(False)
        self._selector.register(end, selectors.EVENT_READ, turn)

    def run(self) -> None:
        """Serve until the founder is gone."""
        while not self._is_over:
            for key, _ in self._selector.select(DISK_RESTS if self._space.waiting else TRIM_AFTER):
                key.data()
            self._space.serve()
            self._books.close_abandoned(time.monotonic())
            self._space.trim_if_idle()

    def _heard_founder(self) -> None:
        if not self._control.recv(1):
            self._is_over = True

    def _hear(self, channel: Channel, client: Client, record: Record) -> None:
        self._actions[record[0]](channel, client, record)

    def _left(self, client: Client) -> None:
        """Hear that a client is gone."""
        fetches = list(client.fetches)
        self._books.leave(client, time.monotonic())
        for id in fetches:
            self._serve_fetchers(id)

    def _hear_of(self, id: Id) -> None:
        """Hear all that an object's maker has said, if it is not known yet."""
        if id not in self._books.objects:
            self._channels.drain(id[0])

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
        self._channels.answer(channel, record, Status.DONE if record[3] in client.leases else Status.LOST)

    def _held(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        is_there = self._found(id) and self._books.hold(client, id)
        self._answer_claim(channel, record, is_there)

    def _joined(self, channel: Channel, client: Client, record: Record) -> None:
        inbox = record[2], record[3]
        has_joined = self._books.join(client, inbox)
        if not has_joined:
            self._channels.drain(inbox[0])  # who has opened it
            has_joined = self._books.join(client, inbox)
        if not record[1]:
            return
        if has_joined:
            self._channels.answer(channel, record, Status.DONE, *self._books.inboxes[inbox].proof)
        else:
            self._channels.answer(channel, record, Status.LOST)

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
            self._channels.drain(inbox[0])  # who sends to it
        return self._books.lies_in(id, inbox, client)

    def _answer_claim(self, channel: Channel, record: Record, is_there: bool) -> None:
        if record[1]:
            self._channels.answer(channel, record, Status.DONE if is_there else Status.LOST)

    def _pin(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        self._hear_of(id)
        found = self._books.pin(client, id)
        if found is None:
            self._channels.answer(channel, record, Status.LOST)
        else:
            files = [found.file.descriptor] if found.file is not None else []  # type: ignore[attr-defined]
            self._channels.answer(channel, record, Status.DONE, found.offset, found.size, len(files), descriptors=files)

    def _contains(self, channel: Channel, client: Client, record: Record) -> None:
        self._channels.answer(channel, record, Status.DONE if self._found((record[2], record[3])) else Status.LOST)

    def _delete(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        self._channels.answer(
            channel, record, Status.DONE if self._found(id) and self._books.delete(id) else Status.LOST
        )

    def _fetch(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        status = self._books.fetch(client, id)
        if status is Status.FULL:
            self._fetchers.setdefault(id, []).append((channel, record[1]))
        else:
            self._channels.answer(channel, record, status)

    def _gave_up(self, channel: Channel, client: Client, record: Record) -> None:
        id = record[2], record[3]
        self._books.give_up(client, id)
        self._serve_fetchers(id)

    def _serve_fetchers(self, id: Id) -> None:
        for channel, serial in self._fetchers.pop(id, ()):
            if channel.is_open and channel.client is not None:
                self._fetch(channel, channel.client, (Op.FETCH, serial, *id, 0, 0))

    def _statistics(self, channel: Channel, client: Client, record: Record) -> None:
        facts = facts_of(self._books) | {
            "spill": self._settings.spill,
            "disk_error": self._space.disk_error,
            "waiting": self._space.waiting,
        }
        with passing_file() as file:
            file.write(json.dumps(facts).encode())
            file.flush()
            self._channels.answer(channel, record, Status.DONE, file.tell(), descriptors=[file.fileno()])


def main() -> None:
    """Be the owner: the descriptors of the listener and of the founder's line, and the settings, are the arguments."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The founder says when it is over: those who stop have views and last words until then.
        signal.signal(number, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each client takes one
    listener, control = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    Owner(listener, control, Settings(**json.loads(sys.argv[3]))).run()
