"""Behaviours: actors that are one async function reading its own mailbox."""

from __future__ import annotations

from typing import Any

import anyio

from lightactors.actors.cell import Cell
from lightactors.actors.mailbox import Ask, Failure
from lightactors.actors.terminated import Reason
from lightactors.contract import Behaviour


class BehaviourCell(Cell):
    """The life of a behaviour: its function runs once, from the start to the end."""

    __slots__ = ("_arguments", "_finished", "_unanswered", "behaviour")

    def _be_new(self) -> None:
        super()._be_new()
        self._unanswered: dict[int, list[tuple[object, Ask]]] = {}
        self._finished = False

    behaviour: Behaviour[Any, ...]

    @property
    def kind(self) -> str:
        return self.behaviour.name

    def origin(self) -> Any:
        return self.behaviour.function

    def run(self, behaviour: Behaviour[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Give the cell its behaviour."""
        self.behaviour = behaviour
        self._arguments = args, kwargs
        self._on_start = self._on_drain = self._on_stop = None

    def begin(self, started: Ask) -> None:
        self._start_task()
        self._ready(started)

    async def _work(self) -> None:
        args, kwargs = self._arguments
        try:
            await self.behaviour.function(OpenMailbox(self), *args, **kwargs)
        except anyio.EndOfStream:
            if not (self.mailbox.closed or self._suspended):
                raise
            # From `receive()`, which a behaviour may let through: it was asked to stop, and that is how it does.
        self._finished = True

    def _must_leave(self) -> bool:
        return self._finished or self._interrupted or self._suspended or self.error is not None

    def hears_signals(self) -> bool:
        return True

    async def next_message(self) -> Any:
        """Take the next signal or message; `EndOfStream` once the mailbox is closed and empty."""
        mailbox = self.mailbox
        while True:
            if self._suspended:
                raise anyio.EndOfStream
            if mailbox.signals:
                return mailbox.signals.popleft()
            if mailbox.queue:
                message, ask = mailbox.queue.popleft()
                mailbox.make_room()
                if ask is None or not ask.abandoned:
                    self.handled += 1
                    self._remember(message, ask)
                    return message
            elif mailbox.closed:
                raise anyio.EndOfStream
            else:
                await mailbox.wait()

    def _remember(self, message: object, ask: Ask | None) -> None:
        if ask is not None:
            # By identity, and with the message kept alive: equal messages may be asked at the same time.
            self._unanswered.setdefault(id(message), []).append((message, ask))

    def reply(self, message: object, value: object) -> None:
        asks = self._unanswered.get(id(message))
        if asks:
            asks.pop(0)[1].answer(value)
        if asks == []:
            del self._unanswered[id(message)]

    def abandon(self, ask: Ask) -> None:
        """The asker gave up: forget his message if it is still queued; a behaviour is never cancelled for it."""
        ask.abandoned = True
        for key, asks in self._unanswered.items():
            if (left := [pair for pair in asks if pair[1] is not ask]) != asks:
                self._unanswered[key] = left
                if not left:
                    del self._unanswered[key]
                return

    def _fail_what_is_under_way(self) -> None:
        super()._fail_what_is_under_way()
        self._fail_unanswered()

    def abandoned(self) -> None:
        self._fail_unanswered()
        super().abandoned()

    def _fail_unanswered(self) -> None:
        failure = Failure(self.stopped("ended without a reply"))
        for asks in self._unanswered.values():
            for _, ask in asks:
                ask.answer_from_afar(failure, self.loop)
        self._unanswered.clear()

    def _reason(self) -> Reason:
        reason = super()._reason()
        return Reason.FINISHED if reason is Reason.STOPPED and not self._asked else reason


class OpenMailbox:
    """What a behaviour sees of its cell (see `contract.Mailbox`)."""

    def __init__(self, cell: BehaviourCell) -> None:
        self._cell = cell

    def __aiter__(self) -> OpenMailbox:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._cell.next_message()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> Any:
        return await self._cell.next_message()

    def reply(self, message: object, value: object) -> None:
        self._cell.reply(message, value)

    def __repr__(self) -> str:
        return f"<mailbox of {self._cell.path}: {len(self._cell.mailbox.queue)} queued>"
