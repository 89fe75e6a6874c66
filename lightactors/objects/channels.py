"""The clients' sockets at the owner: who comes in, what they say, what is answered. Nobody is ever waited for."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lightactors.objects.books import Books, Client
from lightactors.objects.memory import user_of
from lightactors.objects.records import PACKET, PROTOCOL, RECORD, SOME, Op, Record, Status, pack

_TURN = 64
"""Packets of one client that are read before the others have their turn."""

_DRAINED = 1 << 16
"""Packets that are read at most to know all that a client has said until now: more than a socket holds."""

_UNREAD = 4096
"""Answers that a client may leave unread."""


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


class Channels:
    """All sockets. `hear` is called with each record that comes, and `left` with a client whose socket has ended."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        books: Books,
        memory: int,
        hear: Callable[[Channel, Client, Record], object],
        left: Callable[[Client], object],
    ) -> None:
        self._selector = selector
        self._books = books
        self._memory = memory
        self._hear = hear
        self._left = left
        self._by_number: dict[int, Channel] = {}  # the client's
        self._unborn: dict[int, Unborn] = {}  # by their numbers
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def accept(self, listener: socket.socket) -> None:
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

    def drain(self, number: int) -> None:
        """Read all that a client has said: what another one heard of it may have been faster here."""
        channel = self._by_number.get(number)
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
                self._heard(channel, packet)
                packets -= 1
        except BlockingIOError:
            pass
        except OSError:
            self._close(channel)
        finally:
            channel.is_read = False

    def _heard(self, channel: Channel, packet: bytes) -> None:
        client = channel.client
        if client is None:
            self._greet(channel, packet)
            return
        try:
            for record in RECORD.iter_unpack(packet):
                self._hear(channel, client, record)
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
        self.drain(parent)
        if number not in self._unborn:
            return
        if number in self._books.clients and number not in self._by_number:
            del self._unborn[number]
            self._let_in(channel, self._books.clients[number], greeting)
        elif parent not in self._by_number:
            del self._unborn[number]
            self._refuse(channel, "it is a copy of what is not here")

    def forked(self, channel: Channel, client: Client, record: Record) -> None:
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
        self._by_number[client.number] = channel
        self._send(channel, json.dumps({"capacity": self._books.arena.capacity}).encode(), [self._memory])

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
        del self._by_number[client.number]
        self._left(client)
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

    def answer(
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
