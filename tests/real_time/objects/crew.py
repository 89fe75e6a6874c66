"""Processes that put, view, pass on and fork without a pause, until they are killed; what is wrong they tell."""

from __future__ import annotations

import os
import random
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from lightactors.errors import ObjectError
from lightactors.objects.client import Client, Held, Refused
from lightactors.objects.records import Id, Op
from tests.real_time.objects.stores import PATIENCE, is_whole, look, put, sealed

_KEPT = 8
"""Objects that one holds, and views that it has, at any time."""

SIZES = (100, 3_000, 40_000, 700_000, 3_000_000)


class Hand:
    """One of the crew."""

    def __init__(self, store: str, label: str, seed: int, line: Connection) -> None:
        self._store = store
        self._label = label
        self._chance = random.Random(seed)
        self._line = line
        self._client = self._connected()
        self._held: list[Held] = []
        self._views: list[memoryview] = []

    def _connected(self) -> Client:
        """Come to the store, which may be another one each time it is killed."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client = Client(self._store, self._label)
                client.ask(Op.CONTAINS, patience=PATIENCE)
                return client
            except ObjectError:
                if time.monotonic() > deadline:
                    raise

    def work(self) -> None:
        while True:
            try:
                self._chance.choice([self._write, self._read, self._send, self._receive, self._let_go, self._fork])()
            except Refused:
                self._held.clear()  # somebody else needs the room
                self._views.clear()
            except ObjectError:
                self._come_again()

    def _come_again(self) -> None:
        """Find what was lost only if the store was; what is viewed stays right."""
        for view in self._views:
            self._check(view)
        if self._client.error is not None:
            self._held.clear()
            self._client.hang_up()
            self._client = self._connected()

    def _write(self) -> None:
        self._held.append(put(self._client, sealed(self._chance, self._chance.choice(SIZES))))
        self._line.send(("put", self._held[-1].id))

    def _read(self) -> None:
        if self._held:
            self._views.append(look(self._chance.choice(self._held)))
            self._check(self._views[-1])

    def _send(self) -> None:
        """Pass an object on, and forget it before it has arrived."""
        if self._held:
            inbox = self._client.new_id()
            held = self._held.pop()
            self._client.tell(Op.OPEN, *inbox)
            self._client.deposit([held.id], inbox)
            self._line.send(("sent", (held.id, inbox, self._which)))
            self._client.tell(Op.ABANDON, *inbox)

    def _receive(self) -> None:
        while self._line.poll():
            what, about = self._line.recv()
            if what == "put":
                self._hear_of(about)
            else:
                self._take(about)

    def _hear_of(self, id: Id) -> None:
        """Hold what its maker may have let go of since."""
        held = self._client.hold(id)
        self._views.append(look(held))
        self._check(self._views[-1])

    @property
    def _which(self) -> int:
        """What tells the store from the one before, whose owner was killed."""
        return os.fstat(self._client.memory).st_ino

    def _take(self, parcel: tuple[Id, Id, int]) -> None:
        """Have what its sender has let go of; it must be there, unless the store is another one."""
        id, inbox, which = parcel
        if which != self._which:
            return
        self._client.tell(Op.JOIN, *inbox)
        held = self._client.take(id, inbox)
        self._client.tell(Op.CLOSE, *inbox)
        try:
            view = look(held)
        except ObjectError as error:
            if self._client.error is None:
                self._line.send(("lost", (parcel, str(error))))
            raise
        self._check(view)
        self._held.append(held)

    def _let_go(self) -> None:
        del self._held[_KEPT:]
        del self._views[: -_KEPT // 2]
        for view in self._views:
            self._check(view)

    def _fork(self) -> None:
        """Make a copy, which goes on with what this one lets go of."""
        if self._chance.random() < 0.9:
            return
        child = os.fork()
        if not child:
            _report(self._line, self._live_on)
            os._exit(0)
        self._line.send(("forked", child))
        self._held.clear()
        self._views.clear()
        os.waitpid(child, 0)

    def _live_on(self) -> None:
        try:
            for _ in range(3):
                for view in self._views:
                    self._check(view)
                for held in self._held:
                    self._check(look(held))
                self._held.append(put(self._client, sealed(self._chance, self._chance.choice(SIZES))))
        except (Refused, ObjectError) as error:
            if self._client.error is None and not isinstance(error, Refused):
                raise

    def _check(self, view: memoryview) -> None:
        if not is_whole(view):
            self._line.send(("wrong", f"{self._label} has {bytes(view[:40])!r}, {len(view)} bytes"))


def _report(line: Connection, act: Callable[[], None]) -> None:
    try:
        act()
    except (BrokenPipeError, EOFError, ConnectionResetError):  # the test is over
        pass
    except BaseException:
        line.send(("failed", traceback.format_exc()))


def work(store: str, label: str, seed: int, line: Connection) -> None:
    """Be one of the crew."""

    def begin() -> None:
        hand: Any = Hand(store, label, seed, line)
        hand.work()

    _report(line, begin)
