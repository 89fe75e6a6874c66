"""The owner's books: who holds what, where it lies, what may be moved to the disk. No sockets, no clock, no memory.

An object lives while any account holds it or a view of it is open. Counts are signed: an inbox may pay out (TAKE)
what was not yet seen to come in (DEPOSIT), for the two are told by different processes; only zero ends an object.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from lightactors.objects.arena import GRAIN, PAGE, Arena
from lightactors.objects.records import Id, Status

WAITS_FOR_RECEIVER = 60.0
"""Seconds that an object outlives the process that has sent it, if the receiver has not looked into its inbox."""


class File(Protocol):
    """Where spilled objects lie."""

    def let_go(self, offset: int, size: int) -> None:
        """Hear that an object of that size, there in it, is gone."""
        ...


class Account:
    """What somebody holds."""

    def __init__(self) -> None:
        self.counts: Counter[Id] = Counter()


class Inbox(Account):
    """What is on its way to a process: an account of who sends it, until the receiver joins."""

    def __init__(self, owner: Client, proof: Id) -> None:
        super().__init__()
        self.owner: Client | None = owner
        self.proof = proof  # what only who joins is told
        self.is_joined = False
        self.closes: float | None = None  # when it does, if nobody joins


class Client(Account):
    """A process that uses the store."""

    def __init__(self, number: int, facts: dict[str, Any], joined: float) -> None:
        super().__init__()
        self.number = number
        self.facts = facts  # what it says of itself
        self.joined = joined
        self.pins: Counter[Id] = Counter()
        self.leases: dict[int, int] = {}  # their sizes by offset
        self.inboxes: set[Id] = set()
        self.fetches: set[Id] = set()
        self.made = 0  # bytes of living objects that it has put in
        self.payer: Client | None = None  # whose quota its leases count towards, if it is a line to wait over
        self.lines: set[Client] = set()  # who waits for it

    @property
    def used(self) -> int:
        """Bytes that count towards its quota."""
        return self.made + sum(self.leases.values()) + sum(line.used for line in self.lines)


@dataclass(eq=False, slots=True)
class Object:
    """A sealed object."""

    id: Id
    offset: int
    size: int
    room: int  # what it takes of the arena, or of a file
    maker: Client | None  # None: it is gone
    sealed: float
    is_cached: bool
    holders: int = 0  # accounts whose count is not zero
    pinned: int = 0  # clients that have views
    file: File | None = None  # where it was spilled to; `offset` is in there then
    is_leaving: bool = False  # it is being written to a file
    is_gone: bool = False  # nobody can find it any more; its views may still be open


@dataclass
class Tally:
    """What has happened so far."""

    puts: int = 0
    put_bytes: int = 0
    gets: int = 0
    lost: int = 0  # gets of what is not there
    spilled: int = 0
    spilled_bytes: int = 0
    restored: int = 0  # gets that were served from a file
    evicted: int = 0
    reclaimed_bytes: int = 0  # leases and objects of clients that died
    refused: int = 0


@dataclass(frozen=True)
class Grant:
    offset: int
    size: int


@dataclass
class Books:
    """All accounts, and all objects."""

    arena: Arena
    quota: int | None = None
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.clients: dict[int, Client] = {}
        self.inboxes: dict[Id, Inbox] = {}
        self.objects: dict[Id, Object] = {}
        self.fetching: dict[Id, Client] = {}
        self.abandoned: deque[Id] = deque()  # inboxes, the first to close first
        self.spilled_bytes = 0  # on the disk now
        self._idle: OrderedDict[Id, Object] = OrderedDict()  # what could be spilled, the longest unused first
        self._cached: OrderedDict[Id, Object] = OrderedDict()  # what nobody holds, the longest unused first
        self._lingering: dict[Id, Object] = {}  # what is gone but for its views

    # Clients

    def enter(self, number: int, facts: dict[str, Any], now: float) -> Client | None:
        """Open an account; None: the number is taken."""
        if number in self.clients:
            return None
        client = self.clients[number] = Client(number, facts, now)
        return client

    def fork(self, client: Client, number: int, facts: dict[str, Any], now: float) -> Client | None:
        """Open an account for a copy of a process, which holds and views what that does."""
        twin = self.enter(number, facts, now)
        if twin is not None:
            for id, count in client.counts.items():
                self._add(twin, id, count)
            for id, count in client.pins.items():
                if (found := self.objects.get(id) or self._lingering.get(id)) is not None:
                    self._pin(twin, found, count)
        return twin

    def leave(self, client: Client, now: float) -> None:
        """Close a client's account: what only it had is free."""
        del self.clients[client.number]
        self.wait_for(client, None)
        for line in list(client.lines):
            self.wait_for(line, None)
        before = self.arena.used
        for inbox in list(client.inboxes):
            self.abandon(client, inbox, now)
            self.close(client, inbox)
        for offset in list(client.leases):
            self.unlease(client, offset)
        for id in list(client.fetches):
            self.give_up(client, id)
        for id in list(client.pins):
            client.pins[id] = 1
            self.unpin(client, id)
        self._close(client)
        if client.made:  # a line to wait over has not, and to look at a million objects would take 50 ms
            for found in self.all_objects():
                if found.maker is client:
                    found.maker = None
        self.tally.reclaimed_bytes += before - self.arena.used

    # Space

    def wait_for(self, line: Client, payer: Client | None) -> None:
        """Let what a line has count towards the quota of who waits over it."""
        if line.payer is not None:
            line.payer.lines.discard(line)
        if payer is not None and payer is not line and payer.payer is None and not line.lines:
            line.payer = payer
            payer.lines.add(line)
        else:
            line.payer = None

    def lease(self, client: Client, most: int, least: int, align: int) -> Grant | Status:
        """Let a client write to space of its own."""
        if not 0 < least <= most:
            return Status.NOT_SO
        if least > self.arena.capacity:
            return Status.TOO_LARGE
        if self.quota is not None:
            used = (client.payer or client).used
            if used + least > self.quota:
                return Status.QUOTA
            most = min(most, self.quota - used)
        for size in dict.fromkeys((most, least)):
            offset = self.arena.allocate(size, align=align)
            if offset is not None:
                client.leases[offset] = self.arena.size_of(offset)
                return Grant(offset, client.leases[offset])
        return Status.FULL

    def unlease(self, client: Client, offset: int) -> None:
        if client.leases.pop(offset, None) is not None:
            self.arena.free(offset)

    def adopt(self, client: Client, other: Client, offset: int) -> None:
        """Make a lease another client's."""
        size = other.leases.pop(offset, None)
        if size is not None:
            client.leases[offset] = size

    # Objects

    def seal(self, client: Client, id: Id, offset: int, size: int, now: float, *, is_cached: bool = False) -> bool:
        """Make an object of the front of a lease; False: it is none of this client's, or too small.

        What is brought here twice, because it was deleted or two did it at once, is what is there already.
        """
        room = client.leases.get(offset)
        if room is None or not 0 < size <= room:
            return False
        del client.leases[offset]
        rest = self.arena.split(offset, size) if size <= room - GRAIN else None
        if rest is not None:
            client.leases[rest] = self.arena.size_of(rest)
        if id in self.objects or id in self._lingering:
            self.arena.free(offset)
            self._revive(id)
        else:
            room = self.arena.size_of(offset)
            self.objects[id] = Object(id, offset, size, room, client, now, is_cached)
            client.made += room
        self.tally.puts += 1
        self.tally.put_bytes += size
        self._add(client, id, 1)
        if (fetcher := self.fetching.get(id)) is not None:
            self.give_up(fetcher, id)
        return True

    def _revive(self, id: Id) -> None:
        """Let everybody find again what was deleted, if only views of it are left."""
        found = self._lingering.pop(id, None)
        if found is not None:
            found.is_gone = False
            self.objects[id] = found

    def delete(self, id: Id) -> bool:
        """Drop an object, whoever holds it. Its views stay, and with them its space."""
        found = self.objects.get(id)
        if found is None:
            return False
        # Nobody holds it any more: it may be brought here again, and who does so is the first.
        for account in (*self.clients.values(), *self.inboxes.values()):
            account.counts.pop(id, None)
        found.holders = 0
        self._forget(found)
        return True

    def _forget(self, found: Object) -> None:
        found.is_gone = True
        del self.objects[found.id]
        self._settle(found)

    def _settle(self, found: Object) -> None:
        """See what becomes of an object whose holders or views have changed."""
        self._idle.pop(found.id, None)
        self._cached.pop(found.id, None)
        if found.pinned:
            if found.is_gone:
                self._lingering[found.id] = found
        elif found.is_gone:
            self._lingering.pop(found.id, None)
            self._free(found)
        elif found.holders:
            if found.file is None and not found.is_leaving:
                self._idle[found.id] = found
        elif found.is_cached:
            self._cached[found.id] = found
        else:
            self._forget(found)

    def _free(self, found: Object) -> None:
        if found.file is not None:
            self.spilled_bytes -= found.room
            found.file.let_go(found.offset, found.room)
        elif not found.is_leaving:  # else it is still being read, and freed when that is over
            self.arena.free(found.offset)
        self._take_from_maker(found)

    def _take_from_maker(self, found: Object) -> None:
        if found.maker is not None:
            found.maker.made -= found.room
            found.maker = None

    # Holds

    def hold(self, client: Client, id: Id) -> bool:
        if id not in self.objects:
            return False
        self._add(client, id, 1)
        return True

    def drop(self, client: Client, id: Id, times: int) -> None:
        self._add(client, id, -min(times, client.counts[id]))  # it may be another one under the same id

    def take(self, client: Client, id: Id, inbox: Id) -> None:
        """Move a hold from an inbox to its client; perhaps before it is seen to have come there."""
        self._add(client, id, 1)
        account = self.inboxes.get(inbox)
        if account is not None:
            self._add(account, id, -1)

    def lies_in(self, id: Id, inbox: Id, client: Client) -> bool:
        """Tell whether an object was left in an inbox of a client's."""
        return inbox in client.inboxes and self.inboxes[inbox].counts[id] > 0

    def deposit(self, id: Id, inbox: Id) -> bool:
        """Let an inbox hold an object; False: there is no such inbox (any more)."""
        account = self.inboxes.get(inbox)
        if account is None:
            return False
        self._add(account, id, 1)
        return True

    def open(self, client: Client, inbox: Id, proof: Id = (0, 0)) -> None:
        """Open an inbox that somebody else is to join; `proof` is what he can then prove it with."""
        if inbox not in self.inboxes:
            self.inboxes[inbox] = Inbox(client, proof)
            client.inboxes.add(inbox)

    def join(self, client: Client, inbox: Id) -> bool:
        """Make an inbox the account of who receives what comes there; False: there is no such one (any more)."""
        found = self.inboxes.get(inbox)
        if found is None or found.is_joined:
            return False
        if found.owner is not None:
            found.owner.inboxes.discard(inbox)
        found.owner, found.is_joined, found.closes = client, True, None
        client.inboxes.add(inbox)
        return True

    def abandon(self, client: Client, inbox: Id, now: float) -> None:
        """Note that nothing more will come: who is to have it may be slow to look, but not for ever."""
        if inbox in client.inboxes and not (found := self.inboxes[inbox]).is_joined:
            client.inboxes.remove(inbox)
            found.owner, found.closes = None, now + WAITS_FOR_RECEIVER
            self.abandoned.append(inbox)

    def close_abandoned(self, now: float) -> None:
        """Close the inboxes that nobody has joined in time."""
        while self.abandoned:
            found = self.inboxes.get(self.abandoned[0])
            if found is not None and found.closes is not None:
                if found.closes > now:
                    return
                self._close(self.inboxes.pop(self.abandoned[0]))
            self.abandoned.popleft()

    def close(self, client: Client, inbox: Id) -> None:
        if inbox in client.inboxes:
            client.inboxes.remove(inbox)
            self._close(self.inboxes.pop(inbox))

    def _close(self, account: Account) -> None:
        for id, count in list(account.counts.items()):
            self._add(account, id, -count)

    def _add(self, account: Account, id: Id, count: int) -> None:
        found = self.objects.get(id)
        if found is None:
            account.counts.pop(id, None)
            return
        before = account.counts[id]
        after = before + count
        if after:
            account.counts[id] = after
        else:
            account.counts.pop(id, None)
        found.holders += bool(after) - bool(before)
        self._settle(found)

    # Views

    def pin(self, client: Client, id: Id) -> Object | None:
        """Note that a client has a view of an object: it stays where it is."""
        found = self.objects.get(id)
        if found is None:
            self.tally.lost += 1
            return None
        self.tally.gets += 1
        self.tally.restored += found.file is not None
        self._pin(client, found, 1)
        return found

    def _pin(self, client: Client, found: Object, count: int) -> None:
        found.pinned += not client.pins[found.id]
        client.pins[found.id] += count
        self._settle(found)

    def unpin(self, client: Client, id: Id) -> None:
        """Note that a client has closed a view."""
        if client.pins[id] > 1:
            client.pins[id] -= 1
        elif client.pins.pop(id, 0) and (found := self.objects.get(id) or self._lingering.get(id)):
            found.pinned -= 1
            self._settle(found)

    # What comes from other hosts

    def fetch(self, client: Client, id: Id) -> Status:
        """Say who brings an object here: it is here (DONE), this client (GO), or another one at the moment (FULL)."""
        if id in self.objects:
            return Status.DONE
        if self.fetching.setdefault(id, client) is not client:
            return Status.FULL
        client.fetches.add(id)
        return Status.GO

    def give_up(self, client: Client, id: Id) -> None:
        """Let another one bring it."""
        if self.fetching.get(id) is client:
            del self.fetching[id]
            client.fetches.discard(id)

    # Making room

    def evict(self) -> bool:
        """Drop what nobody holds and was not used for the longest time; False: there is no such object."""
        if not self._cached:
            return False
        self._forget(next(iter(self._cached.values())))
        self.tally.evicted += 1
        return True

    def victims(self, size: int, most: float = math.inf) -> list[Object]:
        """Choose objects to be written to a file, of that many bytes or more if there are so many; see `spilled`.

        They are not more than `most` bytes there, where each takes whole pages.
        """
        chosen: list[Object] = []
        for found in self._idle.values():
            most -= -(-found.size // PAGE) * PAGE
            if size <= 0 or most < 0:
                break
            chosen.append(found)
            size -= found.room
        for found in chosen:
            found.is_leaving = True
            del self._idle[found.id]
        return chosen

    def spilled(self, found: Object, file: File, offset: int, room: int) -> None:
        """Note that an object, one of the `victims`, lies in a file now; its space is free, unless it is viewed."""
        found.is_leaving = False
        if found.pinned or found.is_gone:
            file.let_go(offset, room)
            if not found.pinned:
                self.arena.free(found.offset)
            return
        self.arena.free(found.offset)
        self._take_from_maker(found)
        found.file, found.offset, found.room = file, offset, room
        self.spilled_bytes += room
        self.tally.spilled += 1
        self.tally.spilled_bytes += found.size
        self._settle(found)

    def stays(self, found: Object) -> None:
        """Note that one of the `victims` could not be written."""
        found.is_leaving = False
        if found.is_gone and not found.pinned:
            self.arena.free(found.offset)
        elif not found.is_gone:
            self._settle(found)

    # Looking

    def all_objects(self) -> Iterator[Object]:
        """Yield what there is, with what only views are left of."""
        yield from self.objects.values()
        yield from self._lingering.values()
