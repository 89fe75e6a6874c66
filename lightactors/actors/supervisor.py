"""Supervisors: actors whose children are started again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lightactors.actors.cell import Cell
from lightactors.actors.keeper import Keeper
from lightactors.actors.ref import cell_of
from lightactors.actors.starting import start
from lightactors.actors.stopping import stop_all
from lightactors.contract import actor, handler
from lightactors.errors import ConfigurationError, NotAChild
from lightactors.supervision.spec import AutoShutdown, ChildSpec, Policy, Restart, Strategy


@actor
class Supervisor:
    """An actor that starts its children, in order, and starts them again when they end.

    - `children`: what to start (`lightactors.options(...).child(Class, ...)`); more may come while it runs.
    - `strategy`: with a child that is started again, `"one_for_one"` nobody else is, `"one_for_all"` all others are,
      `"rest_for_one"` those that were started after it. They are stopped first, the youngest first.
    - `max_restarts` within `period` seconds are allowed; one more, and the supervisor stops all its children and
      fails with `RestartsExhausted`, which is for *its* supervisor to deal with.
    - `backoff`: seconds to wait before a restart, doubled with each one within the period up to `max_backoff`, less
      a random part of up to a half.
    - `auto_shutdown`: `"any_significant"` or `"all_significant"`: end when one of the significant children, or the
      last, has ended by itself and is not started again.

    A child's ref stays valid over its restarts: what it was handling fails with `ActorStopped`, what is queued
    and sent meanwhile waits for the new incarnation. Of a child in a process, what was sent there and not answered
    fails too. The defaults and rules are OTP's: one restart in five seconds. A supervisor that lives in a process
    itself can't hand out the refs of its children, for nothing there says what they are.
    """

    def __init__(
        self,
        strategy: Strategy = "one_for_one",
        children: Sequence[ChildSpec] = (),
        *,
        max_restarts: int = 1,
        period: float = 5.0,
        backoff: float = 0.0,
        max_backoff: float = 30.0,
        auto_shutdown: AutoShutdown = "never",
        restart: Restart = "permanent",
        together: bool = False,
    ) -> None:
        self._policy = Policy(
            strategy, max_restarts, period, backoff, max_backoff, auto_shutdown, restart, together=together
        )
        self._specs = _checked_specs(children)
        for spec in self._specs:
            self._policy.check(spec.options)

    async def on_start(self) -> None:
        """Start the children, one after the other."""
        cell = cell_of(self, "Supervisor")
        cell.keep_children(Keeper(cell, self._policy))
        for spec in self._specs:
            await start(cell, spec)

    @handler
    async def start_child(self, spec: ChildSpec) -> Any:
        """Start another child and return its ref. Raises `SpawnError`."""
        return await start(cell_of(self, "Supervisor"), _checked_spec(spec))

    @handler
    async def stop_child(self, name: str) -> None:
        """Stop a child; it is not started again. Raises `NotAChild`."""
        await stop_all([self._child(name)])

    @handler
    async def restart_child(self, name: str) -> None:
        """End a child's incarnation after the turn under way and begin another. Raises `NotAChild`.

        The restart budget is for ends that nobody asked for; it is spent only if the new start fails.
        """
        cell = self._child(name)
        assert cell.kept_by is not None
        await cell.kept_by.renew(cell)

    @handler
    def children(self) -> dict[str, Any]:
        """Return the refs of the children by name, in the order of their start."""
        return {name: cell.ref for name, cell in list(cell_of(self, "Supervisor").children.items())}

    def _child(self, name: str) -> Cell:
        children = cell_of(self, "Supervisor").children
        if name not in children:
            raise NotAChild(f"supervisor has no child {name!r}; it has {', '.join(children) or 'none'}")
        return children[name]


def _checked_specs(children: Sequence[ChildSpec]) -> list[ChildSpec]:
    if isinstance(children, Iterator):
        raise ConfigurationError("children can be read only once; pass a list, for a supervisor may be started again")
    specs = [_checked_spec(child) for child in children]
    names = [spec.options.name for spec in specs if spec.options.name is not None]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"two children are called {name!r}; choose another name")
    return specs


def _checked_spec(child: object) -> ChildSpec:
    if not isinstance(child, ChildSpec):
        raise ConfigurationError(f"{child!r} can't be started again; pass lightactors.child(Class, ...)")
    return child
