"""The durable store: an actor whose calls are carried out by threads, in transactions of a database."""

from __future__ import annotations

import abc
import functools
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, NoReturn, Self, TypeVar

import anyio
import anyio.to_thread
from msgspec.structs import replace

from lightactors.actors import spawn
from lightactors.actors.mailbox import Ask
from lightactors.contract import Mailbox, Method, actor, contract_of, handler
from lightactors.errors import StoreError
from lightactors.training.records import StoreStatistics
from lightactors.training.stores.contract import Store, reads
from lightactors.training.stores.retention import Retention
from lightactors.training.stores.sql.clerk import Clerk
from lightactors.training.stores.sql.locations import Connect, location_of
from lightactors.training.stores.sql.sqlite import Durability
from lightactors.training.stores.sql.tables import SqlTables
from lightactors.training.stores.sql.threads import MakeClerk, Reader, Writer
from lightactors.training.stores.sql.waits import Call

S = TypeVar("S", bound="type[Store]")

_READERS = 2
_PATIENCE_SECONDS = 30.0

_PRUNE_PAUSE = 0.005
"""Seconds between two steps of pruning: nobody is to wait for more than one."""

logger = logging.getLogger("lightactors.store")


def _forwarding(cls: S) -> S:
    """Give a class every method of the contract that it has not got: each is a call for its threads."""
    for name, method in contract_of(Store).methods.items():
        if name not in cls.__dict__:
            declared: Any = _forwarded(method)
            setattr(cls, name, declared)
            declared.__set_name__(cls, name)
    abc.update_abstractmethods(cls)
    return cls


def _forwarded(method: Method) -> object:
    """Return a handler that checks a call's arguments, hands it over at once and waits outside the mailbox."""
    name, check, only_reads = method.name, method.check, _only_reads(method)

    @functools.wraps(method.function)
    def forward(self: DurableStore, *args: Any, **kwargs: Any) -> Any:
        check(args, kwargs)
        return self._ask(name, args, kwargs, only_reads=only_reads)

    del forward.__dict__["__isabstractmethod__"]  # it came with the rest of what the contract's method is
    return handler(idempotent=method.idempotent, interleaved=True, roles=method.roles)(forward)  # type: ignore[arg-type]


def _only_reads(method: Method) -> bool:
    return method.admits("viewer") and not method.interleaved


@actor
@_forwarding
class DurableStore(Store):
    """A store in a database: what it has answered is on the disk.

    - `url`: a file such as `"run.db"`, `"run.db?durability=normal"` or `"sqlite:////abs/run.db"`.
      `durability=full`, the default, outlives a loss of power; `normal` outlives the process.
    - `durability`: the same, by name.
    - `retention`: what it keeps of finished rollouts, unless the address says it (`keep_days=7`, `keep=10000`,
      `max_size=5GB`); looked at every `prune_seconds`, while it is an actor.
    - `patience_seconds`: how long a call waits for a database that can't be had, before it is `StoreUnavailable`.
    - `clock`, `now`, `random`: deadlines go by the first, the times in records by the second, ids come from the
      third; for tests.

    Spawn it, or use it as a plain object: by `async with`, or `close` it in the end. Several processes may use one
    database.
    """

    def __init__(
        self,
        url: str,
        *,
        durability: Durability | None = None,
        retention: Retention | None = None,
        prune_seconds: float = 10.0,
        patience_seconds: float = _PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        random: Random | None = None,
    ) -> None:
        location = location_of(url, durability)
        self._name = location.shown
        self._connect = location.connect
        self._retention = retention or location.retention
        self._prune_seconds = prune_seconds
        self._patience = patience_seconds
        name = type(self).__name__
        self._make_clerk = functools.partial(_make_clerk, clock=clock, now=now, random=random, name=name)
        self._threads: _Threads | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} stays in its process; pass a ref of it on, or open it by its address")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.on_stop()

    async def on_start(self) -> None:
        # A file that can't be opened fails the start, not the first call.
        await self.statistics()
        if self._retention:
            await spawn(pruner, self, self._prune_seconds)

    async def on_stop(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close)

    async def expire(self) -> None:
        """End every attempt that is overdue by now, which otherwise happens by itself."""
        await self._ask("expire", (), {}, only_reads=False)

    async def prune(self, retention: Retention | None = None) -> int:
        """Remove a small part of what is not to be kept; return how many rollouts went, 0 if none is left to go."""
        return int(await self._ask("prune", (retention or self._retention,), {}, only_reads=False))

    async def give_back_space(self) -> bool:
        """Give back to the system a small part of the space that is free; tell whether there is more."""
        return bool(await self._ask("give_back_space", (), {}, only_reads=False))

    def close(self) -> None:
        """Carry out what has been asked, and let the database go; the next call opens it again."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.close()

    @reads
    async def statistics(self) -> StoreStatistics:
        threads = self._running()
        counted: StoreStatistics = await self._ask("statistics", (), {}, only_reads=True)
        return replace(counted, waiters=threads.writer.waiters)

    def _ask(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, only_reads: bool
    ) -> Coroutine[Any, Any, Any]:
        """Hand a call over, in the order of calling, and return what waits for its answer."""
        call = Call(name, args, kwargs, time.monotonic())
        call.ask = ask = Ask()
        threads = self._running()
        # Until the writer has made the tables there is nothing to read.
        thread = next(threads.readers) if only_reads and threads.writer.is_open else threads.writer
        thread.submit(call)
        return _reply(ask, call, threads.writer)

    def _running(self) -> _Threads:
        with self._lock:  # a plain object is used from several threads
            if self._threads is None or self._threads.process_id != os.getpid():  # no thread outlives a fork
                self._threads = _Threads(self._name, self._connect, self._make_clerk, self._patience)
                # A store that is dropped without having been closed leaves no threads.
                weakref.finalize(self, self._threads.let_go)
            return self._threads


@actor
async def pruner(mailbox: Mailbox[None], store: DurableStore, seconds: float) -> None:
    """Remove what its store is not to keep, again and again."""
    while True:
        with anyio.move_on_after(seconds):
            try:
                await mailbox.receive()
            except anyio.EndOfStream:
                return
        try:
            await _prune(store)
        except StoreError as error:
            logger.warning("%s can't be pruned now: %s", store, error)


async def _prune(store: DurableStore) -> None:
    is_done = False
    while not is_done:
        is_done = not (await store.prune() or await store.give_back_space())
        await anyio.sleep(_PRUNE_PAUSE)


def _make_clerk(
    tables: SqlTables, clock: Callable[[], float], now: Callable[[], float], random: Random | None, name: str
) -> Clerk:
    return Clerk(tables, clock, now, random, name)


class _Threads:
    """The threads of a store, which know nothing of it."""

    def __init__(self, name: str, connect: Connect, make_clerk: MakeClerk, patience: float) -> None:
        self.writer = Writer(f"{name} writer", connect(False), make_clerk, patience)
        self._readers = [
            Reader(f"{name} reader {number}", connect(True), make_clerk, patience) for number in range(_READERS)
        ]
        self.readers = itertools.cycle(self._readers)
        self.process_id = os.getpid()

    def close(self) -> None:
        for thread in (*self._readers, self.writer):
            thread.close()

    def let_go(self) -> None:
        """Have them end when they have done what has come, and wait for nothing."""
        for thread in (*self._readers, self.writer):
            thread.let_go()


async def _reply(ask: Ask, call: Call, writer: Writer) -> Any:
    try:
        return await ask.reply()
    except Exception:
        raise
    except BaseException:
        # Nobody waits any more: what it has claimed, or would, is for others.
        call.is_given_up = True
        writer.submit(Call("give_up", (call,), {}, call.received))
        raise
