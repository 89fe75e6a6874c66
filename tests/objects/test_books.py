"""The owner's books: an object lives while somebody holds or views it, and nothing is left when all have gone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from lightactors.objects.arena import GRAIN, PAGE, Arena
from lightactors.objects.books import WAITS_FOR_RECEIVER, Account, Books, Client, Grant, Object
from lightactors.objects.records import Id, Status

ID = (7, 1)
INBOX = (7, 100)
FACTS: dict[str, object] = {"label": "client"}


class DiskFile:
    """A file of the books', which counts what lies in it."""

    def __init__(self) -> None:
        self.living = 0

    def let_go(self, offset: int, size: int) -> None:
        self.living -= size
        assert self.living >= 0


def books_of(*numbers: int, capacity: int = 64 * GRAIN, quota: int | None = None) -> tuple[Books, list[Client]]:
    books = Books(Arena(capacity), quota)
    return books, [entered(books, number) for number in numbers]


def entered(books: Books, number: int) -> Client:
    client = books.enter(number, FACTS, 0.0)
    assert client is not None
    return client


def leased(books: Books, client: Client, size: int) -> Grant:
    grant = books.lease(client, size, size, GRAIN)
    assert isinstance(grant, Grant)
    return grant


def put(books: Books, client: Client, id: Id = ID, size: int = GRAIN, *, is_cached: bool = False) -> Object:
    assert books.seal(client, id, leased(books, client, size).offset, size, 0.0, is_cached=is_cached)
    return books.objects[id]


def assert_empty(books: Books) -> None:
    assert (books.arena.used, books.spilled_bytes) == (0, 0)
    assert not any([books.clients, books.inboxes, books.objects, books.fetching, books.abandoned])
    assert not any([books._idle, books._cached, books._lingering])  # noqa: SLF001


# What nobody may do


@pytest.mark.parametrize("size", [0, GRAIN + 1, 1 << 63])
def test_object_of_a_size_that_its_lease_has_not_is_refused(size: int) -> None:
    books, [client] = books_of(1)
    grant = leased(books, client, GRAIN)
    assert not books.seal(client, ID, grant.offset, size, 0.0)
    assert books.seal(client, ID, grant.offset, GRAIN, 0.0)


def test_object_is_sealed_in_ones_own_lease_only_and_once() -> None:
    books, [one, other] = books_of(1, 2)
    grant = leased(books, one, GRAIN)
    assert not books.seal(other, ID, grant.offset, GRAIN, 0.0)
    assert books.seal(one, ID, grant.offset, GRAIN, 0.0)
    assert not books.seal(one, (7, 2), grant.offset, GRAIN, 0.0)


@pytest.mark.parametrize(("most", "least"), [(0, 0), (64, 0), (64, 128)])
def test_space_of_no_size_is_refused(most: int, least: int) -> None:
    books, [client] = books_of(1, quota=GRAIN)
    assert books.lease(client, most, least, GRAIN) is Status.NOT_SO


def test_quota_counts_what_a_client_has_put_and_may_write_to() -> None:
    books, [client, other] = books_of(1, 2, quota=3 * GRAIN)
    put(books, client)
    assert books.lease(client, 8 * GRAIN, GRAIN, GRAIN) == Grant(GRAIN, 2 * GRAIN)
    assert books.lease(client, GRAIN, GRAIN, GRAIN) is Status.QUOTA
    assert isinstance(books.lease(other, GRAIN, GRAIN, GRAIN), Grant)


def test_line_that_is_waited_over_counts_towards_the_quota_of_who_waits() -> None:
    books, [client, line, second] = books_of(1, 2, 3, quota=3 * GRAIN)
    for one in (line, second):
        books.wait_for(one, client)
    leased(books, line, 2 * GRAIN)
    assert books.lease(second, 2 * GRAIN, 2 * GRAIN, GRAIN) is Status.QUOTA
    books.adopt(client, line, 0)
    books.leave(line, 0.0)
    assert books.lease(client, 2 * GRAIN, 2 * GRAIN, GRAIN) is Status.QUOTA
    books.leave(client, 0.0)
    assert isinstance(books.lease(second, 2 * GRAIN, 2 * GRAIN, GRAIN), Grant)


# What was deleted


def test_deleted_object_is_held_by_nobody_and_may_come_again() -> None:
    books, [old, new] = books_of(1, 2)
    put(books, old)
    assert books.delete(ID)
    put(books, old, is_cached=True)  # its hold of the first one does not count
    assert old.counts == {ID: 1}
    books.hold(new, ID)
    books.drop(old, ID, 2)  # of the first one, too
    assert ID in books.objects
    books.drop(new, ID, 1)
    assert ID not in books.objects or ID in books._cached  # noqa: SLF001


def test_object_that_comes_again_while_it_is_viewed_is_the_one_that_was_deleted() -> None:
    books, [viewer, bringer] = books_of(1, 2)
    first = put(books, viewer)
    books.pin(viewer, ID)
    books.delete(ID)
    assert put(books, bringer) is first
    assert books.arena.used == GRAIN
    books.unpin(viewer, ID)
    assert ID in books.objects
    books.leave(bringer, 0.0)
    books.leave(viewer, 0.0)
    assert_empty(books)


def test_object_that_two_bring_at_once_lies_here_once_and_both_hold_it() -> None:
    books, [one, other] = books_of(1, 2)
    assert put(books, one) is put(books, other)
    assert books.arena.used == GRAIN
    books.leave(one, 0.0)
    assert ID in books.objects
    books.leave(other, 0.0)
    assert_empty(books)


def test_maker_of_a_deleted_object_is_forgotten_with_its_process() -> None:
    books, [maker, viewer] = books_of(1, 2)
    found = put(books, maker)
    books.pin(viewer, ID)
    books.delete(ID)
    books.leave(maker, 0.0)
    assert found.maker is None


# What is under way


def test_object_outlives_its_sender_until_the_receiver_takes_it() -> None:
    books, [sender, receiver] = books_of(1, 2)
    put(books, sender)
    books.open(sender, INBOX)
    books.deposit(ID, INBOX)
    books.leave(sender, 0.0)
    books.join(receiver, INBOX)
    books.take(receiver, ID, INBOX)
    books.close(receiver, INBOX)
    assert list(books.objects) == [ID]
    books.drop(receiver, ID, 1)
    assert not books.objects


def test_object_that_is_taken_before_it_is_seen_to_be_deposited_lives_on_in_its_receiver() -> None:
    books, [sender, receiver] = books_of(1, 2)
    put(books, sender)
    books.open(sender, INBOX)
    books.take(receiver, ID, INBOX)
    books.deposit(ID, INBOX)
    books.drop(sender, ID, 1)
    assert receiver.counts == {ID: 1}
    books.drop(receiver, ID, 1)
    assert not books.objects


def test_object_for_a_receiver_that_never_looks_is_dropped_in_the_end() -> None:
    books, [sender] = books_of(1)
    put(books, sender)
    books.open(sender, INBOX)
    books.deposit(ID, INBOX)
    books.leave(sender, 1.0)
    books.close_abandoned(WAITS_FOR_RECEIVER)
    assert list(books.objects) == [ID]
    books.close_abandoned(WAITS_FOR_RECEIVER + 1)
    assert_empty(books)


# What is written to the disk


def test_victims_are_the_longest_unused_and_no_more_than_may_be() -> None:
    books, [client] = books_of(1)
    for number in range(4):
        put(books, client, (7, number))
    books.pin(client, (7, 0))
    books.unpin(client, (7, 0))
    assert [found.id for found in books.victims(2 * GRAIN)] == [(7, 1), (7, 2)]
    assert books.victims(2 * GRAIN, PAGE - 1) == []
    assert [found.id for found in books.victims(2 * GRAIN, PAGE)] == [(7, 3)]


# Any calls in any order


@dataclass
class Model:
    """An object as the model knows it."""

    room: int
    is_cached: bool
    counts: Counter[object] = field(default_factory=Counter)  # by a client's number or an inbox' id
    pins: Counter[int] = field(default_factory=Counter)
    is_gone: bool = False
    is_leaving: bool = False
    is_on_disk: bool = False

    @property
    def is_held(self) -> bool:
        return any(self.counts.values())

    @property
    def is_viewed(self) -> bool:
        return any(self.pins.values())

    @property
    def lives(self) -> bool:
        return self.is_viewed or (not self.is_gone and (self.is_held or self.is_cached))


ANY = st.integers(0, 10_000)
SIZES = st.integers(0, 40 * GRAIN)
IDS = st.tuples(st.just(7), st.integers(1, 12))
INBOXES = st.tuples(st.just(7), st.integers(100, 104))
TIMES = st.integers(1, 3)


class BooksMachine(RuleBasedStateMachine):
    """The books beside a model that looks at every count each time."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books(Arena(256 * GRAIN))
        self.numbers = 0
        self.leases: dict[int, dict[int, int]] = {}
        self.models: dict[Id, Model] = {}
        self.on_the_way: list[tuple[Object, Model]] = []  # to the disk
        self.inboxes: dict[Id, tuple[int | None, bool, float | None]] = {}  # whose, whether joined, when it closes
        self.file = DiskFile()
        self.now = 0.0
        self.enter()

    def teardown(self) -> None:
        for client in list(self.books.clients.values()):
            self.leave_of(client)
        while self.on_the_way:
            self.spill_ends(0, is_written=False)
        while self.books.evict():
            pass
        self.books.close_abandoned(self.now + WAITS_FOR_RECEIVER)
        while self.books.evict():
            pass
        assert_empty(self.books)
        assert self.file.living == 0
        assert self.books.arena.largest == self.books.arena.capacity

    def client(self, which: int) -> Client:
        return self.books.clients[sorted(self.books.clients)[which % len(self.books.clients)]]

    def bury(self) -> None:
        """Forget what has ended; what is under way to the disk keeps its space."""
        self.models = {id: model for id, model in self.models.items() if model.lives}

    def found(self, id: Id) -> Model | None:
        model = self.models.get(id)
        return None if model is None or model.is_gone else model

    has_clients = precondition(lambda self: self.books.clients)

    # Clients

    @rule()
    def enter(self) -> None:
        self.numbers += 1
        self.leases[entered(self.books, self.numbers).number] = {}

    @has_clients
    @rule(which=ANY)
    def number_is_taken(self, which: int) -> None:
        assert self.books.enter(self.client(which).number, FACTS, self.now) is None

    @has_clients
    @rule(which=ANY)
    def fork(self, which: int) -> None:
        self.numbers += 1
        client = self.client(which)
        assert self.books.fork(client, self.numbers, FACTS, self.now) is not None
        self.leases[self.numbers] = {}
        for model in self.models.values():
            if not model.is_gone:
                model.counts[self.numbers] = model.counts[client.number]
            model.pins[self.numbers] = model.pins[client.number]

    @has_clients
    @rule(which=ANY)
    def leave(self, which: int) -> None:
        self.leave_of(self.client(which))

    def leave_of(self, client: Client) -> None:
        self.books.leave(client, self.now)
        del self.leases[client.number]
        for inbox, (owner, is_joined, _) in list(self.inboxes.items()):
            if owner == client.number and is_joined:
                self.forget_account(inbox)
                del self.inboxes[inbox]
            elif owner == client.number:
                self.inboxes[inbox] = None, False, self.now + WAITS_FOR_RECEIVER
        self.forget_account(client.number)

    def forget_account(self, account: object) -> None:
        for model in self.models.values():
            model.counts.pop(account, None)
            model.pins.pop(account, None)  # type: ignore[call-overload]
        self.bury()

    # Space

    @has_clients
    @rule(which=ANY, most=SIZES, least=SIZES)
    def lease(self, which: int, most: int, least: int) -> None:
        client = self.client(which)
        granted = self.books.lease(client, most, least, GRAIN)
        if not 0 < least <= most:
            assert granted is Status.NOT_SO
        elif isinstance(granted, Grant):
            assert least <= granted.size
            self.leases[client.number][granted.offset] = granted.size
        else:
            assert granted is Status.FULL
            assert self.books.arena.largest < least

    @has_clients
    @rule(which=ANY, offset=ANY, is_real=st.booleans())
    def unlease(self, which: int, offset: int, is_real: bool) -> None:
        client = self.client(which)
        mine = self.leases[client.number]
        offset = sorted(mine)[offset % len(mine)] if is_real and mine else offset
        self.books.unlease(client, offset)
        mine.pop(offset, None)

    @has_clients
    @rule(which=ANY, other=ANY, offset=ANY)
    def adopt(self, which: int, other: int, offset: int) -> None:
        client, giver = self.client(which), self.client(other)
        theirs = self.leases[giver.number]
        offset = sorted(theirs)[offset % len(theirs)] if theirs else offset
        self.books.adopt(client, giver, offset)
        if offset in theirs:
            self.leases[client.number][offset] = theirs.pop(offset)

    @has_clients
    @rule(which=ANY, other=ANY)
    def wait_for(self, which: int, other: int) -> None:
        self.books.wait_for(self.client(which), self.client(other))

    # Objects

    @has_clients
    @rule(which=ANY, id=IDS, offset=ANY, size=SIZES, is_cached=st.booleans())
    def seal(self, which: int, id: Id, offset: int, size: int, is_cached: bool) -> None:
        client = self.client(which)
        mine = self.leases[client.number]
        offset = sorted(mine)[offset % len(mine)] if mine else offset
        room = -(-size // GRAIN) * GRAIN
        done = self.books.seal(client, id, offset, size, self.now, is_cached=is_cached)
        assert done == (offset in mine and 0 < size <= mine[offset])
        if not done:
            return
        left = mine.pop(offset) - room
        if left:
            mine[offset + room] = left
        model = self.models.setdefault(id, Model(room, is_cached))
        model.is_gone = False
        model.counts[client.number] += 1

    @has_clients
    @rule(which=ANY, id=IDS)
    def hold(self, which: int, id: Id) -> None:
        client = self.client(which)
        model = self.found(id)
        assert self.books.hold(client, id) == (model is not None)
        if model is not None:
            model.counts[client.number] += 1

    @has_clients
    @rule(which=ANY, id=IDS, times=TIMES)
    def drop(self, which: int, id: Id, times: int) -> None:
        client = self.client(which)
        self.books.drop(client, id, times)
        model = self.found(id)
        if model is not None:
            model.counts[client.number] = max(model.counts[client.number] - times, 0)
        self.bury()

    @rule(id=IDS)
    def delete(self, id: Id) -> None:
        model = self.found(id)
        assert self.books.delete(id) == (model is not None)
        if model is not None:
            model.is_gone = True
            model.counts.clear()
        self.bury()

    @has_clients
    @rule(which=ANY, id=IDS)
    def pin(self, which: int, id: Id) -> None:
        client = self.client(which)
        model = self.found(id)
        assert (self.books.pin(client, id) is not None) == (model is not None)
        if model is not None:
            model.pins[client.number] += 1

    @has_clients
    @rule(which=ANY, id=IDS)
    def unpin(self, which: int, id: Id) -> None:
        client = self.client(which)
        self.books.unpin(client, id)
        model = self.models.get(id)
        if model is not None:
            model.pins[client.number] = max(model.pins[client.number] - 1, 0)
        self.bury()

    # Inboxes

    @has_clients
    @rule(which=ANY, inbox=INBOXES)
    def open(self, which: int, inbox: Id) -> None:
        client = self.client(which)
        self.books.open(client, inbox)
        self.inboxes.setdefault(inbox, (client.number, False, None))

    @has_clients
    @rule(which=ANY, inbox=INBOXES)
    def join(self, which: int, inbox: Id) -> None:
        client = self.client(which)
        can = inbox in self.inboxes and not self.inboxes[inbox][1]
        assert self.books.join(client, inbox) == can
        if can:
            self.inboxes[inbox] = client.number, True, None

    @has_clients
    @rule(which=ANY, inbox=INBOXES)
    def abandon(self, which: int, inbox: Id) -> None:
        client = self.client(which)
        self.books.abandon(client, inbox, self.now)
        if self.inboxes.get(inbox) == (client.number, False, None):
            self.inboxes[inbox] = None, False, self.now + WAITS_FOR_RECEIVER

    @has_clients
    @rule(which=ANY, inbox=INBOXES)
    def close(self, which: int, inbox: Id) -> None:
        client = self.client(which)
        self.books.close(client, inbox)
        if inbox in self.inboxes and self.inboxes[inbox][0] == client.number:
            self.forget_account(inbox)
            del self.inboxes[inbox]

    @rule(seconds=st.sampled_from([1.0, WAITS_FOR_RECEIVER]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.books.close_abandoned(self.now)
        for inbox, (_, _, closes) in list(self.inboxes.items()):
            if closes is not None and closes <= self.now:
                self.forget_account(inbox)
                del self.inboxes[inbox]

    @rule(id=IDS, inbox=INBOXES)
    def deposit(self, id: Id, inbox: Id) -> None:
        assert self.books.deposit(id, inbox) == (inbox in self.inboxes)
        model = self.found(id)
        if model is not None and inbox in self.inboxes:
            model.counts[inbox] += 1
        self.bury()

    @has_clients
    @rule(which=ANY, id=IDS, inbox=INBOXES)
    def take(self, which: int, id: Id, inbox: Id) -> None:
        client = self.client(which)
        self.books.take(client, id, inbox)
        model = self.found(id)
        if model is not None:
            model.counts[client.number] += 1
            model.counts[inbox] -= inbox in self.inboxes

    # Who brings what

    @has_clients
    @rule(which=ANY, id=IDS)
    def fetch(self, which: int, id: Id) -> None:
        client, fetcher = self.client(which), self.books.fetching.get(id)
        status = self.books.fetch(client, id)
        if self.found(id) is not None:
            assert status is Status.DONE
        else:
            assert status is (Status.GO if fetcher in (None, client) else Status.FULL)

    @has_clients
    @rule(which=ANY, id=IDS)
    def give_up(self, which: int, id: Id) -> None:
        self.books.give_up(self.client(which), id)

    # Making room

    @rule()
    def evict(self) -> None:
        unheld = {
            id for id, model in self.models.items() if model.is_cached and not model.is_held and not model.is_viewed
        }
        before = set(self.books.objects)
        assert self.books.evict() == bool(unheld)
        for id in before - set(self.books.objects):
            assert id in unheld
            unheld.clear()
            self.models[id].is_cached = False
        self.bury()

    @rule(size=SIZES, most=st.integers(0, 10 * PAGE))
    def spill(self, size: int, most: int) -> None:
        chosen = self.books.victims(size, most)
        assert sum(-(-found.size // PAGE) * PAGE for found in chosen) <= most
        for found in chosen:
            model = self.models[found.id]
            assert model.is_held
            assert not model.is_viewed
            assert not model.is_on_disk
            assert not model.is_leaving
            model.is_leaving = True
            self.on_the_way.append((found, model))

    @precondition(lambda self: self.on_the_way)
    @rule(which=ANY, is_written=st.booleans())
    def spill_ends(self, which: int, is_written: bool) -> None:
        found, model = self.on_the_way.pop(which % len(self.on_the_way))
        model.is_leaving = False
        if is_written:
            self.file.living += found.room
            self.books.spilled(found, self.file, 0, found.room)
            model.is_on_disk = model.lives and not model.is_viewed
        else:
            self.books.stays(found)

    # What must always be so

    @invariant()
    def living_objects_are_those_of_the_model(self) -> None:
        books = self.books
        assert set(books.objects) == {id for id, model in self.models.items() if not model.is_gone}
        assert set(books._lingering) == {id for id, model in self.models.items() if model.is_gone}  # noqa: SLF001

    @invariant()
    def space_is_that_of_leases_and_living_objects(self) -> None:
        leased = sum(sum(mine.values()) for mine in self.leases.values())
        living = sum(model.room for model in self.models.values() if not model.is_on_disk)
        leaving = sum(model.room for _, model in self.on_the_way if not model.lives)
        assert self.books.arena.used == leased + living + leaving
        assert self.books.spilled_bytes == self.file.living
        assert self.file.living == sum(model.room for model in self.models.values() if model.is_on_disk)
        assert {number: client.leases for number, client in self.books.clients.items()} == self.leases

    @invariant()
    def objects_of_all_lie_apart(self) -> None:
        places = [(found.offset, found.room) for found in self.books.all_objects() if found.file is None]
        places += [place for mine in self.leases.values() for place in mine.items()]
        ends = 0
        for offset, size in sorted(places):
            assert offset >= ends
            ends = offset + size

    @invariant()
    def counts_are_those_of_the_model_and_of_nothing_else(self) -> None:
        accounts: list[tuple[object, Account]] = [*self.books.clients.items(), *self.books.inboxes.items()]
        for name, account in accounts:
            counts = {id: model.counts[name] for id, model in self.models.items() if model.counts[name]}
            assert account.counts == counts, name
        for number, client in self.books.clients.items():
            pins = {id: model.pins[number] for id, model in self.models.items() if model.pins[number]}
            assert dict(client.pins) == pins

    @invariant()
    def what_may_be_moved_is_known(self) -> None:
        here = {id: model for id, model in self.models.items() if not model.is_gone and not model.is_viewed}
        idle = {id for id, model in here.items() if model.is_held and not (model.is_on_disk or model.is_leaving)}
        assert set(self.books._idle) == idle  # noqa: SLF001
        assert set(self.books._cached) == {id for id, model in here.items() if not model.is_held}  # noqa: SLF001

    @invariant()
    def quotas_are_of_what_a_client_has_in_memory(self) -> None:
        for client in self.books.clients.values():
            mine = [found for found in self.books.all_objects() if found.maker is client]
            assert client.made == sum(found.room for found in mine if found.file is None)
            assert client.lines == {line for line in self.books.clients.values() if line.payer is client}
            assert client.used == client.made + sum(client.leases.values()) + sum(line.used for line in client.lines)

    @invariant()
    def inboxes_are_those_of_the_model(self) -> None:
        assert set(self.books.inboxes) == set(self.inboxes)
        for number, client in self.books.clients.items():
            assert client.inboxes == {inbox for inbox, (owner, _, _) in self.inboxes.items() if owner == number}
        assert {id for client in self.books.clients.values() for id in client.fetches} == set(self.books.fetching)


def test_books_agree_with_their_model_whatever_is_told() -> None:
    chosen = settings(
        max_examples=150,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(BooksMachine, settings=chosen)
