"""A system's object store, as a process of it uses that: put, get, release."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from lightactors.actors.tree import size as in_words
from lightactors.errors import ObjectLost, ObjectStoreFull
from lightactors.objects.client import Client, Held, Lease, Refused
from lightactors.objects.draft import Draft, blank
from lightactors.objects.figures import Figures
from lightactors.objects.founder import Founder
from lightactors.objects.lent import ELSEWHERE
from lightactors.objects.line import SYNC, Answer, Slow, descriptor_of
from lightactors.objects.records import Id, Op, Status
from lightactors.objects.ref import ObjectRef
from lightactors.objects.values import put_together, take_apart
from lightactors.objects.waiting import Wait, patiently
from lightactors.supervision.limits import ObjectLimits

if TYPE_CHECKING:
    from lightactors.actors.system import System

T = TypeVar("T")

WITHIN = 30.0
"""Seconds that a value waits for memory, unless it is said otherwise."""

_INLINE = 2 * 2**20
"""Bytes that are copied right here: less time than a thread needs to wake up, and a little more."""

_HOLDERS = 5
"""How many of the largest holders the error of a full store names."""


class ObjectStore:
    """The store of one system in one process."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._founder: Founder | None = None
        self._name: str | None = None
        self._label = system.name
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()
        system.at_end.append(self._close)

    # Where it is

    @property
    def name(self) -> str:
        """The name of the program's store, which is founded if there is none."""
        if self._name is None:
            with self._lock:
                if self._founder is None:
                    self._founder = Founder(self._system.object_limits or ObjectLimits())
                self._name = self._founder.name
        return self._name

    @property
    def is_founded(self) -> bool:
        """Whether anybody has ever used the store, as far as this process knows."""
        return self._name is not None and (self._founder is None or self._founder.pid is not None)

    def join(self, name: str, label: str) -> None:
        """Use the store of the program, where this process is called so."""
        self._name = name
        self._label = label

    @property
    def home(self) -> Client:
        """The line to the program's store. Raises `ObjectLost`."""
        return self.client(self.name)

    def is_home(self, client: Client) -> bool:
        return client.name == self._name

    def client(self, name: str) -> Client:
        """Return the line to a store. Raises `ObjectLost`."""
        client = self._clients.get(name)
        if client is None or client.error is not None:
            with self._lock:
                client = self._clients.get(name)
                if client is None or client.error is not None:
                    if client is not None:
                        client.hang_up()
                    client = self._clients[name] = Client(name, self._label)
        return client

    async def _close(self) -> None:
        for client in self._clients.values():
            if self._founder is not None and self.is_home(client):  # nobody goes on to use it
                client.close(f"system {self._system.name!r} has ended")
            else:
                client.leave(f"system {self._system.name!r} has ended")
        self._clients.clear()  # with the last view of one its memory is free
        if self._founder is not None:
            await anyio.to_thread.run_sync(self._founder.close)

    # Putting

    async def put(self, value: T, *, within: float = WITHIN) -> ObjectRef[T]:
        """Put a value into the store; see `objects.put`."""
        await anyio.lowlevel.checkpoint()
        parts = take_apart(value)
        client = self.home
        if parts.size < _INLINE:
            try:
                return _ref(client.put(parts), parts.size)
            except (Slow, Refused):
                pass  # what comes now waits
        lease = await self.lease(parts.size, within)
        try:
            # Sealed here, and not there: a thread may keep what it has returned for a moment, and so the object.
            await anyio.to_thread.run_sync(client.write, lease, parts)
        except BaseException:
            client.give_back_rest(lease)  # also when it was cancelled before it began
            raise
        return _ref(client.sealed(lease, parts), parts.size)

    def lease_now(self, size: int) -> Lease | None:
        """Return space without waiting for longer than a write to the disk takes; None: there is no room."""
        client = self.home
        try:
            return client.lease(size, patience=SYNC)
        except Slow:
            return None
        except Refused as refused:
            if refused.status is not Status.FULL or not refused.coming:
                return None
        with contextlib.suppress(Refused):
            return Wait(client, size).now(SYNC)
        return None

    async def lease(self, size: int, within: float = WITHIN) -> Lease:
        """Return space for an object; wait for it if need be. Raises `ObjectStoreFull` and `ObjectLost`."""
        client = self.home
        try:
            return await patiently(lambda patience: client.lease(size, patience=patience), client.give_back)
        except Refused as refused:
            status = refused.status
        if status is Status.FULL:
            try:
                lease = await Wait(client, size).within(within)
            except Refused as refused:  # what others wait for here has come, and took up the quota
                lease, status = None, refused.status
            if lease is not None:
                return lease
        raise await self._full(status, size, within)

    async def _full(self, status: Status, size: int, within: float) -> ObjectStoreFull:
        figures = await self.statistics()
        if status is Status.TOO_LARGE:
            capacity = in_words(figures.capacity)
            text = f"it has {capacity} in all; open_system(objects=ObjectLimits(capacity=...)) gives it more"
        elif status is Status.QUOTA:
            text = "this process has its quota already; release some, or raise ObjectLimits(quota=...)"
        else:
            text = (
                f"none became free within {within:g} s: {figures.in_words(_HOLDERS)}. Release refs, let go of arrays, "
                "or give it more by open_system(objects=ObjectLimits(capacity=...))"
            )
        return ObjectStoreFull(f"the object store has no {in_words(size)} for another object: {text}", figures)

    async def create(self, size: int, *, within: float = WITHIN) -> Draft:
        """Return space to write an object into; see `objects.create`."""
        parts = blank(size)
        client = self.home
        lease = await self.lease(parts.size, within)
        if parts.size < _INLINE:
            return Draft(client, lease, parts)
        try:
            return await anyio.to_thread.run_sync(Draft, client, lease, parts)
        except BaseException:
            client.give_back_rest(lease)  # also when it was cancelled before it began
            raise

    # Getting

    async def get(self, ref: ObjectRef[T]) -> T:
        """Return the value of an object on this host; see `objects.get`."""
        await anyio.lowlevel.checkpoint()
        held = ref.held
        assert isinstance(held, Held)
        value: T = self.value(held, await self.viewed(held))
        return value

    async def viewed(self, held: Held) -> memoryview:
        """Return an object's bytes. Raises `ObjectLost`."""
        return await patiently(lambda patience: held.client.view(held, patience=patience))

    def view_now(self, held: Held) -> memoryview:
        """Return an object's bytes, at once. Raises `ObjectLost`."""
        try:
            return held.client.view(held, patience=SYNC)
        except Slow:
            raise _silent(held.client) from None

    def value(self, held: Held, view: memoryview) -> Any:
        """Return the value in a view; only what this program has put is taken as it is, and unpickled."""
        is_ours = self.is_home(held.client) and not held.id[0] & ELSEWHERE
        return put_together(view, private=lambda: held.client.private(view), trusted=is_ours)

    # Asking

    async def claim(self, id: Id) -> Held | None:
        """Hold an object if it is here."""
        client = self.home
        return await patiently(lambda patience: client.claim(id, patience=patience))

    async def contains(self, id: Id, client: Client | None = None) -> bool:
        return (await self._ask(Op.CONTAINS, *id, client=client)).status is Status.DONE

    async def delete(self, id: Id, client: Client | None = None) -> bool:
        return (await self._ask(Op.DELETE, *id, client=client)).status is Status.DONE

    async def statistics(self) -> Figures:
        line = self.home
        return await patiently(lambda patience: _figures(line.ask(Op.STATISTICS, patience=patience)))

    async def _ask(self, op: Op, a: int = 0, b: int = 0, *, client: Client | None = None) -> Answer:
        line = client or self.home
        return await patiently(lambda patience: line.ask(op, a, b, patience=patience))


def _ref(held: Held, size: int) -> ObjectRef[Any]:
    return ObjectRef(held, held.id, size)


def _figures(answer: Answer) -> Figures:
    with open(descriptor_of(answer), "rb") as file:  # of memory
        file.seek(0)
        return Figures.of(json.load(file))


def _silent(client: Client) -> ObjectLost:
    return ObjectLost(f"object store {client.name} has not answered for {SYNC:g} s; is its process stopped?")
