"""A system's object store, as a process of it uses that: put, get, release."""

from __future__ import annotations

import contextlib
import ctypes
import json
import threading
import weakref
from collections.abc import Callable
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio
import anyio.to_thread

from lightactors.actors.tree import size as in_words
from lightactors.buffers import Leaf
from lightactors.errors import ObjectError, ObjectLost, ObjectStoreFull
from lightactors.objects.client import PATIENCE, Answer, Client, Held, Lease, Refused, Slow
from lightactors.objects.copying import address_of
from lightactors.objects.figures import Figures
from lightactors.objects.founder import Founder
from lightactors.objects.records import Id, Op, Status
from lightactors.objects.ref import ObjectRef
from lightactors.objects.values import Parts, parts_of_leaf, put_together, take_apart
from lightactors.supervision.limits import ObjectLimits

if TYPE_CHECKING:
    from lightactors.actors.system import System

T = TypeVar("T")

WITHIN = 30.0
"""Seconds that a value waits for memory, unless it is said otherwise."""

_ANSWERS_WITHIN = 10.0
"""Seconds after which an owner that does not answer is given up."""

SYNC = 1.0
"""Seconds that a loop is kept at most for what a message needs at once."""

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
            client.close(f"system {self._system.name!r} has ended")
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
            held = await anyio.to_thread.run_sync(client.put_into, lease, parts)
        except BaseException:
            client.give_back_rest(lease)  # also when it was cancelled before it began
            raise
        return _ref(held, parts.size)

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
            return _Wait(client, size).now(SYNC)
        return None

    async def lease(self, size: int, within: float = WITHIN) -> Lease:
        """Return space for an object; wait for it if need be. Raises `ObjectStoreFull` and `ObjectLost`."""
        client = self.home
        try:
            return await _patiently(lambda patience: client.lease(size, patience=patience), client.give_back)
        except Refused as refused:
            status = refused.status
        if status is Status.FULL:
            try:
                lease = await _Wait(client, size).within(within)
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
        lease = await self.lease(parts.size, within)
        return Draft(self.home, lease, parts)

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
        return await _patiently(lambda patience: held.client.view(held, patience=patience))

    def view_now(self, held: Held) -> memoryview:
        """Return an object's bytes, at once. Raises `ObjectLost`."""
        try:
            return held.client.view(held, patience=SYNC)
        except Slow:
            raise _silent(held.client) from None

    def value(self, held: Held, view: memoryview) -> Any:
        """Return the value in a view; only what this program has pickled is unpickled."""
        return put_together(view, private=lambda: held.client.private(view), trusted=self.is_home(held.client))

    # Asking

    async def claim(self, id: Id) -> Held | None:
        """Hold an object if it is here."""
        client = self.home
        return await _patiently(lambda patience: client.claim(id, patience=patience))

    async def contains(self, id: Id, client: Client | None = None) -> bool:
        return (await self._ask(Op.CONTAINS, *id, client=client)).status is Status.DONE

    async def delete(self, id: Id, client: Client | None = None) -> bool:
        return (await self._ask(Op.DELETE, *id, client=client)).status is Status.DONE

    async def statistics(self) -> Figures:
        answer = await self._ask(Op.STATISTICS)
        return _figures(answer.descriptors[0])

    async def _ask(self, op: Op, a: int = 0, b: int = 0, *, client: Client | None = None) -> Answer:
        line = client or self.home
        return await _patiently(lambda patience: line.ask(op, a, b, patience=patience))


def _ref(held: Held, size: int) -> ObjectRef[Any]:
    return ObjectRef(held, held.id, size)


def _figures(descriptor: int) -> Figures:
    with open(descriptor, "rb") as file:  # of memory
        file.seek(0)
        return Figures.of(json.load(file))


async def _patiently(act: Callable[[float], T], undo: Callable[[T], object] = lambda _: None) -> T:
    """Do what is answered in microseconds right here; if it is not, wait in a thread; `undo` what comes too late."""
    try:
        return act(PATIENCE)
    except Slow:
        pass
    try:
        return await _Errand(act, undo).within(_ANSWERS_WITHIN)
    except Slow:
        raise ObjectLost(
            f"the object store has not answered for {_ANSWERS_WITHIN:g} s; is its process stopped?"
        ) from None


def _silent(client: Client) -> ObjectLost:
    return ObjectLost(f"object store {client.name} has not answered for {SYNC:g} s; is its process stopped?")


class _Errand(Generic[T]):
    """What is done in a thread for who may be cancelled: its result is undone if nobody is there to have it."""

    def __init__(self, act: Callable[[float], T], undo: Callable[[T], object]) -> None:
        self._act = act
        self._undo = undo
        self._lock = threading.Lock()
        self._results: list[T] = []
        self._is_over = False

    async def within(self, seconds: float) -> T:
        try:
            await anyio.to_thread.run_sync(self._run, seconds, abandon_on_cancel=True)
            return self._results.pop()
        finally:
            self._end()

    def _run(self, seconds: float) -> None:
        result = self._act(seconds)
        with self._lock:
            self._results.append(result)
        if self._is_over:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            left, self._results = self._results, []
        for result in left:
            self._undo(result)


class _Wait:
    """Waiting for memory, over a line of its own: what it gets and nobody wants any more, ends with that."""

    def __init__(self, client: Client, size: int) -> None:
        self._client = client
        self._size = size
        self._line = client.line("waiting")

    async def within(self, seconds: float) -> Lease | None:
        """Return the lease; None: there was none in time. Raises `Refused` and `ObjectLost`."""
        try:
            return await _Errand(self._wait, self._give_back).within(seconds)
        finally:
            self._line.hang_up()

    def _give_back(self, lease: Lease | None) -> None:
        if lease is not None:
            self._client.give_back(lease)

    def now(self, seconds: float) -> Lease | None:
        """Return the lease without leaving this thread."""
        try:
            return self._wait(seconds)
        finally:
            self._line.hang_up()

    def _wait(self, seconds: float) -> Lease | None:
        try:
            lease = self._line.lease(self._size, waits=True, patience=seconds)
            return lease if self._client.adopt(self._line, lease) else None  # else it went with the line: cancelled
        except Slow:
            return None


class Draft:
    """An object that is being written, in place; see `objects.create`."""

    def __init__(self, client: Client, lease: Lease, parts: Parts) -> None:
        self._client = client
        self._lease: Lease | None = lease
        self._parts = parts
        client.fill(lease, parts)
        start, size = lease.offset + parts.offsets[0], parts.leaves[0].nbytes
        # Slices and arrays of a view are no exports of it that `release` would see; but they all keep this alive.
        self._window: Any = (ctypes.c_ubyte * size).from_buffer(client.writable(start, size))
        self.view = PickleBuffer(self._window).raw()
        """The object's memory, to be written to until it is sealed."""
        self._forgotten = self._when_forgotten(lease)

    def seal(self) -> ObjectRef[memoryview]:
        """Publish the object: from now on nobody can change it. Raises `ObjectError` while arrays refer to it."""
        lease = self._let_go("sealed")
        id = self._client.new_id()
        self._client.seal(lease, self._parts.size, id)
        self._client.give_back_rest(lease)
        return _ref(self._client.new(id), self._parts.size)

    def discard(self) -> None:
        """Give the memory back."""
        self._client.give_back(self._let_go("discarded"))

    def _let_go(self, how: str) -> Lease:
        lease = self._lease
        if lease is None:
            raise ObjectError(f"the draft was sealed or discarded before, and can't be {how}; create another one")
        if not self._is_alone():
            raise ObjectError(
                f"the draft can't be {how} while an array or a slice of its view is there; `del` what you wrote with"
            )
        self._lease = None
        return lease

    def _when_forgotten(self, lease: Lease) -> weakref.finalize[Any, Any]:
        """Have the memory given back when the draft and all that could write to it are garbage."""
        forgotten = weakref.finalize(self._window, self._client.give_back, lease)
        forgotten.atexit = False
        return forgotten

    def _is_alone(self) -> bool:
        """Release the view; tell whether nobody else can write to the memory. If somebody can, open another view."""
        try:
            self.view.release()
        except BufferError:
            return False
        self._forgotten.detach()
        window, self._window = weakref.ref(self._window), None
        self._window = window()
        if self._window is None:
            return True
        self.view = PickleBuffer(self._window).raw()
        assert self._lease is not None
        self._forgotten = self._when_forgotten(self._lease)
        return False

    def __repr__(self) -> str:
        return f"<draft {'over' if self._lease is None else in_words(self._parts.size)}>"


def _unwritten(view: memoryview) -> None:
    """Leave a draft's memory to its author; what lay there before is nobody's to read."""
    ctypes.memset(address_of(view), 0, view.nbytes)


def blank(size: int) -> Parts:
    """Return the parts of an object of so many bytes."""
    return parts_of_leaf(Leaf("memoryview", (), size, None, _unwritten))
