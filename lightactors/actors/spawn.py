"""Spawning: from a class or behaviour, its arguments and options to a running actor and its ref."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar, cast, overload

from lightactors.actors.owner import Owner, State
from lightactors.actors.pool import Pool, start_pool
from lightactors.actors.ref import Ref, cell_within
from lightactors.actors.starting import Adopted, start
from lightactors.contract import Behaviour, contract_of
from lightactors.errors import ConfigurationError, SpawnError, check_whole
from lightactors.supervision.ladder import Ladder, ladder_of
from lightactors.supervision.limits import Limits
from lightactors.supervision.spec import START_TIMEOUT, ChildOptions, ChildSpec, Elsewhere, Place, Restart

C = TypeVar("C")
M = TypeVar("M")
P = ParamSpec("P")

_USUAL = ChildOptions()
"""The options of all actors that were given none: checked once, and one object for ten thousand cells."""


class Spawner(ABC):
    """Who can spawn: options, a system, a supervisor, or the module itself."""

    __slots__ = ()

    @abstractmethod
    def owner(self) -> Owner:
        """Return whose child the new actor will be."""

    def _given(self) -> Options:
        return self if isinstance(self, Options) else Options(self.owner, _USUAL, renew=False)

    def options(
        self,
        *,
        name: str | None = None,
        place: Place | Elsewhere = "task",
        mailbox: float = 1000,
        restart: Restart | None = None,
        significant: bool = False,
        grace: float | Ladder | None = None,
        start_timeout: float = START_TIMEOUT,
        limits: Limits | None = None,
        replace: bool = False,
    ) -> Options:
        """Return a spawner with other options.

        - `name`: unique among the owner's children; default: the class's name and a number. If the same kind
          of actor runs under it already, `spawn` returns that one, so that a notebook cell may be run again.
        - `replace`: stop the actor of that name first, instead of returning it.
        - `place`: `"task"`, in the spawner's loop; `"thread"`, in a thread with a loop of its own; `"process"`, in a
          process of its own; or a node that `connect` has reached, if it lists the class as spawnable.
        - `mailbox`: how many messages may wait; senders then wait too.
        - `restart`: `"permanent"`, start it again after every end that nobody asked for; `"transient"`, after a
          failure; `"temporary"`, never. Default: permanent under a supervisor, else temporary. An owner that is no
          supervisor allows its children one restart in five seconds, all of them together.
        - `significant`: its end may end its supervisor (see `supervise`).
        - `grace`: seconds that each rung of a stop waits, or a `Ladder`; default: the system's.
        - `start_timeout`: seconds that it may take to become ready, before `spawn` gives it up with `SpawnError`.
        - `limits`: of a process (see `Limits`).
        """
        ladder = None if grace is None else ladder_of(grace)
        child = ChildOptions(name, place, mailbox, restart, significant, ladder, start_timeout, limits)
        return Options(self.owner, child, replace)

    @overload
    async def spawn(self, actor: Behaviour[M, P], /, *args: P.args, **kwargs: P.kwargs) -> Ref[M]: ...
    @overload
    async def spawn(self, actor: Callable[P, C], /, *args: P.args, **kwargs: P.kwargs) -> C: ...
    async def spawn(self, actor: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Start an actor and return its ref, once it is ready for messages.

        To a type checker the ref of a class is an instance of it. The arguments are those of the class, or of
        the behaviour after its mailbox. Raises `SpawnError` from what `__init__` or `on_start` raised.
        """
        options = self._given()
        return await start(options.owner(), options.child(actor, *args, **kwargs), renew=options.renew)

    @overload
    async def spawn_many(
        self, count: int, actor: Behaviour[M, P], /, *args: P.args, **kwargs: P.kwargs
    ) -> Pool[Ref[M]]: ...
    @overload
    async def spawn_many(self, count: int, actor: Callable[P, C], /, *args: P.args, **kwargs: P.kwargs) -> Pool[C]: ...
    async def spawn_many(self, count: int, actor: Any, /, *args: Any, **kwargs: Any) -> Pool[Any]:
        """Start several actors of one kind under a supervisor of their own, and return them as a `Pool`.

        Each is made of the same arguments. The options are those of the members, but `name` is the pool's: its
        members are called 1, 2, … below it. They are permanent unless `restart` says otherwise. Raises `SpawnError`
        if one of them does not start, and stops the others. A pool of that name and kind that runs already is
        returned, in the new size.
        """
        options = self._given()
        check_whole("count", count)
        spec = options.child(actor, *args, **kwargs)
        return await start_pool(options.owner, count, spec, renew=options.renew)

    @overload
    def child(self, actor: Behaviour[M, P], /, *args: P.args, **kwargs: P.kwargs) -> ChildSpec: ...
    @overload
    def child(self, actor: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> ChildSpec: ...
    def child(self, actor: Any, /, *args: Any, **kwargs: Any) -> ChildSpec:
        """Return the spec of an actor, for a `Supervisor` to start it; the arguments are those of `spawn`."""
        if isinstance(actor, Behaviour):
            actor.check_arguments(args, kwargs)
        else:
            contract_of(actor)
        options = self._given()
        return ChildSpec(actor, args, kwargs, options.child_options)

    async def adopt(self, instance: C, /) -> C:
        """Give an existing instance of an actor class a mailbox, and return its ref.

        From now on only the ref may be used: the instance belongs to its actor. It can't be made anew, so it is
        never started again. Raises `SpawnError` for one that an actor has already.
        """
        _refuse_what_is_adopted(instance)
        options = self._given()
        child_options = _options_of_adopted(options.child_options)
        adopted = Adopted(type(instance), options=child_options, instance=instance)
        return cast("C", await start(options.owner(), adopted, renew=options.renew))


def _refuse_what_is_adopted(instance: object) -> None:
    cell = cell_within(instance)
    if cell is not None and cell.state < State.STOPPED:
        raise SpawnError(f"{instance!r} is an actor already, {cell.ref!r}; use that ref, or stop it first")


def _options_of_adopted(options: ChildOptions) -> ChildOptions:
    if options.restart not in (None, "temporary"):
        raise ConfigurationError(
            f"restart={options.restart!r}: an adopted instance can't be made anew; spawn its class instead"
        )
    if options.place not in ("task", "thread"):
        raise ConfigurationError(f"place={options.place!r}: an adopted instance stays in its process; spawn its class")
    return replace(options, restart="temporary")


@dataclass(frozen=True, slots=True)
class Options(Spawner):
    """How and where to spawn (see `options`)."""

    _owner: Callable[[], Owner]
    child_options: ChildOptions
    renew: bool

    def owner(self) -> Owner:
        return self._owner()
