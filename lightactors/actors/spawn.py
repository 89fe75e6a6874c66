"""Spawning: from a class or behaviour, its arguments and options to a running actor and its ref."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast, overload

import anyio

from lightactors.actors import cycles, loops
from lightactors.actors.behaviours import BehaviourCell
from lightactors.actors.cell import Cell
from lightactors.actors.keeper import Keeper, cannot_be_remade
from lightactors.actors.mailbox import Ask
from lightactors.actors.owner import Owner, State
from lightactors.actors.ref import ActorRef, AnyRef, Ref, cell_within, introduce
from lightactors.actors.stopping import stop_all
from lightactors.actors.threads import LoopThread
from lightactors.contract import Behaviour, contract_of
from lightactors.errors import ConfigurationError, SpawnError, WrongCall
from lightactors.supervision.ladder import Ladder, ladder_of
from lightactors.supervision.spec import START_TIMEOUT, ChildOptions, ChildSpec, Place, Policy, Restart

C = TypeVar("C")
M = TypeVar("M")
P = ParamSpec("P")

_serial = itertools.count(1)


class Spawner(ABC):
    """Who can spawn: options, a system, a supervisor, or the module itself."""

    __slots__ = ()

    @abstractmethod
    def owner(self) -> Owner:
        """Return whose child the new actor will be."""

    def options(
        self,
        *,
        name: str | None = None,
        place: Place = "task",
        mailbox: float = 1000,
        restart: Restart | None = None,
        significant: bool = False,
        grace: float | Ladder | None = None,
        start_timeout: float = START_TIMEOUT,
        limits: Any = None,
        replace: bool = False,
    ) -> Options:
        """Return a spawner with other options.

        - `name`: unique among the owner's children; default: the class's name and a number. If the same kind
          of actor runs under it already, `spawn` returns that one, so that a notebook cell may be run again.
        - `replace`: stop the actor of that name first, instead of returning it.
        - `place`: `"task"`, in the spawner's loop; `"thread"`, in a thread with a loop of its own; `"process"`, in a
          process of its own.
        - `mailbox`: how many messages may wait; senders then wait too.
        - `restart`: `"permanent"`, start it again after every end that nobody asked for; `"transient"`, after a
          failure; `"temporary"`, never. Default: permanent under a supervisor, else temporary.
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
        options = self if isinstance(self, Options) else self.options()
        return await start(options.owner(), options.child(actor, *args, **kwargs), renew=options.renew)

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
        options = self if isinstance(self, Options) else self.options()
        return ChildSpec(actor, args, kwargs, options.child_options)

    async def adopt(self, instance: C, /) -> C:
        """Give an existing instance of an actor class a mailbox, and return its ref.

        From now on only the ref may be used: the instance belongs to its actor. It can't be made anew, so it is
        never started again. Raises `SpawnError` for one that an actor has already.
        """
        _refuse_what_is_adopted(instance)
        options = self if isinstance(self, Options) else self.options()
        child_options = _options_of_adopted(options.child_options)
        adopted = _Adopted(type(instance), options=child_options, instance=instance)
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


@dataclass(frozen=True, slots=True)
class _Adopted(ChildSpec):
    """A child whose instance exists already."""

    instance: Any = None


# Places

Starting = tuple[Cell, Ask]
"""A new cell, a child of its owner by now, and who waits for it to be ready."""

PLACES: dict[str, Callable[[Owner, str, ChildSpec], Awaitable[Starting]]] = {}
"""Where an actor may live, and how one is begun there."""


async def _begin_here(owner: Owner, name: str, spec: ChildSpec) -> Starting:
    started = Ask()
    cell = make_cell(owner, name, spec, loops.current())
    owner.enter(cell)
    cell.begin(started)
    return cell, started


async def _begin_in_thread(owner: Owner, name: str, spec: ChildSpec) -> Starting:
    thread = LoopThread(f"actor {owner.path}/{name}", loops.current().backend)
    loop = await thread.open()
    made = Ask()
    started = Ask()

    def make() -> None:
        try:
            cell = make_cell(owner, name, spec, loop)
            cell.lives_in(thread)
            owner.enter(cell)
        except BaseException as error:
            thread.release()
            made.fail(error)
        else:
            made.answer(cell)
            cell.begin(started)

    loop.post(make)
    return await _uninterrupted(made), started


PLACES["task"] = _begin_here
PLACES["thread"] = _begin_in_thread


async def _uninterrupted(made: Ask) -> Any:
    # A few milliseconds, unless __init__ itself takes long; given up in between, the cell would be nobody's.
    with anyio.CancelScope(shield=True):
        return await made.reply()
    return None


# Making


def make_cell(owner: Owner, name: str, spec: ChildSpec, loop: loops.Loop) -> Cell:
    """Make a cell and its actor; on the actor's loop."""
    if isinstance(spec.kind, Behaviour):
        behaviour = BehaviourCell(name, owner, loop, spec.options)
        behaviour.run(spec.kind, spec.args, dict(spec.kwargs))
        behaviour.ref = Ref[Any](behaviour)
        return behaviour
    cell = Cell(name, owner, loop, spec.options)
    _embody(cell, spec)
    cell.ref = ActorRef(cell)
    if isinstance(spec, _Adopted):
        cell.remake = cannot_be_remade
    elif owner.keeper is not None and owner.keeper.takes(spec.options):
        cell.remake = partial(_embody, cell, spec)
    return cell


def _embody(cell: Cell, spec: ChildSpec) -> None:
    actor = spec.instance if isinstance(spec, _Adopted) else _instance(spec)
    cell.embody(contract_of(spec.kind), actor)
    introduce(actor, cell)


def _instance(spec: ChildSpec) -> Any:
    try:
        return spec.kind(*spec.args, **spec.kwargs)
    except Exception as error:
        if isinstance(error, TypeError) and error.__traceback__ and error.__traceback__.tb_next is None:
            raise WrongCall(f"{spec.kind.__name__} can't be made of these arguments: {error}") from None
        raise SpawnError(f"{spec.kind.__name__} failed in __init__: {error!r}") from error


# Starting


async def start(owner: Owner, spec: ChildSpec, *, renew: bool = False) -> AnyRef:
    """Start a child of `owner` and return its ref, once it is ready."""
    options = spec.options
    name = options.name or f"{_kind_name(spec).lower()}-{next(_serial)}"
    _see_that_it_is_kept(owner, options)
    if (holder := owner.children.get(name)) is not None:
        if renew or holder.mailbox.closed:  # closed: on its way out, which is let be first
            await stop_all([holder])
        elif _is_same_kind(holder, spec):
            return holder.ref
    cell, started = await PLACES[options.place](owner, name, spec)
    return await _ready(cell, started)


def _kind_name(spec: ChildSpec) -> str:
    name: str = spec.kind.name if isinstance(spec.kind, Behaviour) else spec.kind.__name__
    return name


def _see_that_it_is_kept(owner: Owner, options: ChildOptions) -> None:
    if owner.keeper is None and options.restart not in (None, "temporary"):
        # An owner that is no supervisor, with a child that is to be started again.
        owner.keep_children(Keeper(owner, Policy(restart="temporary"), keeps_temporary=False))
    if owner.keeper is not None:
        owner.keeper.policy.check(options)


def _is_same_kind(cell: Cell, spec: ChildSpec) -> bool:
    kind, wanted = cell.origin(), spec.kind.function if isinstance(spec.kind, Behaviour) else spec.kind
    # By name, not identity: a notebook cell that is run again defines the class anew.
    return (kind.__module__, kind.__qualname__) == (wanted.__module__, wanted.__qualname__)


async def _ready(cell: Cell, started: Ask) -> AnyRef:
    asker = cycles.holder.get()
    if asker is not None:
        cycles.enter(asker, cell, started)
    try:
        await _in_time(cell, started)
    except Exception as error:
        await stop_all([cell])
        raise cell.failed_to_start(error) from error
    except BaseException:
        await stop_all([cell])
        raise
    finally:
        if asker is not None:
            cycles.leave(asker, cell, started)
    return cell.ref


async def _in_time(cell: Cell, started: Ask) -> None:
    timeout = cell.options.start_timeout
    with anyio.move_on_after(math.inf if started.answered else timeout) as scope:
        await started.reply()
    if scope.cancelled_caught:
        raise TimeoutError(f"not ready within start_timeout={timeout} s; give it more, or start less")
