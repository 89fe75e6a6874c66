"""Asides: what an actor has under way beside its mailbox, each in a task of its own."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from lightactors.actors import cycles
from lightactors.actors import owner as owners
from lightactors.actors.mailbox import Ask, Failure

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.streams import Production


class _Aside(NamedTuple):
    ask: Ask | Production | None
    only_waits: bool


class Asides:
    """The interleaved handlers of one actor that are under way; used on its loop."""

    __slots__ = ("_by_scope", "_cell")

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._by_scope: dict[anyio.CancelScope, _Aside] = {}

    def __len__(self) -> int:
        return len(self._by_scope)

    def start(self, awaitable: Awaitable[Any], ask: Ask | Production | None, name: str, *, only_waits: bool) -> None:
        """Await something in a task of its own, and reply with its outcome."""
        cell = self._cell
        scope = anyio.CancelScope()
        if ask is not None:
            ask.give_up = scope.cancel
        self._by_scope[scope] = _Aside(ask, only_waits)
        if only_waits and cell.mailbox.closed:
            scope.cancel()
        context = cell.system.context.copy()
        context.run(owners.current.set, cell)
        context.run(cycles.holder.set, None)

        async def run() -> None:
            await self.run(scope, awaitable, ask)

        cell.loop.start(run, f"actor {cell.path}: {name}", context)

    async def run(self, scope: anyio.CancelScope, awaitable: Awaitable[Any], ask: Ask | Production | None) -> None:
        cell = self._cell
        outcome: object = None
        try:
            with scope:
                outcome = await awaitable
            if scope.cancelled_caught:
                outcome = Failure(cell.stopped("stopped before it replied"))
        except BaseException as raised:
            error = cell.loop.failure(raised)
            cell.note_failure(error)
            outcome = Failure(error)
            if ask is None:
                error.add_note(f"raised by actor {cell.path} in an interleaved handler, which it was told")
                cell.fail(error)
        finally:
            if ask is not None:
                ask.answer(outcome)
            del self._by_scope[scope]
            if not self._by_scope and cell.is_on_its_way_out():
                cell.mailbox.nudge()

    def cancel(self) -> None:
        """Cancel all of them."""
        for scope in list(self._by_scope):
            scope.cancel()

    def cancel_waits(self) -> None:
        """Cancel those that only wait for something to come: it will not, in an actor that is to stop."""
        for scope, aside in list(self._by_scope.items()):
            if aside.only_waits:
                scope.cancel()

    def asks(self) -> list[Ask | Production]:
        """Return who waits for the outcome of one."""
        return [aside.ask for aside in self._by_scope.values() if aside.ask is not None]
