"""Starting: from a child spec to a running actor, at its place, under its owner."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from lightactors.actors import cycles, loops
from lightactors.actors.behaviours import BehaviourCell
from lightactors.actors.cell import Cell
from lightactors.actors.keeper import Keeper, cannot_be_remade
from lightactors.actors.mailbox import Ask
from lightactors.actors.owner import Owner
from lightactors.actors.ref import ActorRef, AnyRef, Ref, introduce
from lightactors.actors.stopping import stop_all
from lightactors.actors.threads import LoopThread
from lightactors.contract import Behaviour, contract_of
from lightactors.errors import SpawnError, WrongCall, shown
from lightactors.supervision.spec import ChildOptions, ChildSpec, Policy

_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Adopted(ChildSpec):
    """A child whose instance exists already."""

    instance: Any = None


# Places

Starting = tuple[Cell, Ask]
"""A new cell, a child of its owner by now, and who waits for it to be ready."""

PLACES: dict[str, Callable[[Owner, str, ChildSpec], Awaitable[Starting]]] = {}
"""Where an actor may live, and how one is begun there."""


async def _begin_here(owner: Owner, name: str, spec: ChildSpec) -> Starting:
    here = loops.current()
    cell = make_cell(owner, name, spec, here)
    owner.enter(cell)
    started = Ask(here, here)
    cell.begin(started)
    return cell, started


async def _begin_in_thread(owner: Owner, name: str, spec: ChildSpec) -> Starting:
    thread = LoopThread(f"actor {owner.path}/{name}", loops.current().backend)
    loop = await thread.open()

    def make() -> Cell:
        try:
            cell = make_cell(owner, name, spec, loop)
            cell.lives_in(thread)
            owner.enter(cell)
        except BaseException:
            thread.release()
            raise
        return cell

    return await begin_on(loop, make)


async def begin_on(loop: loops.Loop, make: Callable[[], Cell]) -> Starting:
    """Begin a cell on another loop, perhaps: `make` makes it there, and enters it among its owner's children."""
    made = Ask()
    started = Ask()

    def begin() -> None:
        try:
            cell = make()
        except BaseException as error:
            made.fail(error)
        else:
            made.answer(cell)
            cell.begin(started)

    loop.order(begin)
    return await _uninterrupted(made), started


PLACES["task"] = _begin_here
PLACES["thread"] = _begin_in_thread


async def _uninterrupted(made: Ask) -> Any:
    """Wait until another loop has made a cell; given up in between, the cell would be nobody's."""
    # A few milliseconds, unless __init__ itself takes long.
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
    if isinstance(spec, Adopted):
        cell.remake = cannot_be_remade
    elif owner.keeper is not None and owner.keeper.takes(spec.options):
        cell.remake = partial(_embody, cell, spec)
    return cell


def _embody(cell: Cell, spec: ChildSpec) -> None:
    actor = spec.instance if isinstance(spec, Adopted) else _instance(spec)
    cell.embody(contract_of(spec.kind), actor)
    introduce(actor, cell)


def _instance(spec: ChildSpec) -> Any:
    try:
        return spec.kind(*spec.args, **spec.kwargs)
    except Exception as error:
        if isinstance(error, TypeError) and error.__traceback__ and error.__traceback__.tb_next is None:
            raise WrongCall(f"{spec.kind.__name__} can't be made of these arguments: {error}") from None
        raise SpawnError(f"{spec.kind.__name__} failed in __init__: {shown(error)}") from error


# Starting


async def start(owner: Owner, spec: ChildSpec, *, renew: bool = False) -> AnyRef:
    """Start a child of `owner` and return its ref, once it is ready."""
    await loops.current().take_share()
    options = spec.options
    name = options.name or next_name(kind_name(spec))
    _see_that_it_is_kept(owner, options)
    if (holder := owner.children.get(name)) is not None:
        if renew or holder.mailbox.closed:  # closed: on its way out, which is let be first
            await stop_all([holder])
        elif _is_same_kind(holder, spec):
            return holder.ref
    begin = PLACES[options.place] if isinstance(options.place, str) else options.place.begin
    cell, started = await begin(owner, name, spec)
    return await _ready(cell, started)


def kind_name(spec: ChildSpec) -> str:
    """Return the name of the class or behaviour."""
    name: str = spec.kind.name if isinstance(spec.kind, Behaviour) else spec.kind.__name__
    return name


def next_name(kind: str) -> str:
    """Return a name that nobody has yet, for an actor that was given none."""
    return f"{kind.lower()}-{next(_serial)}"


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
        failure = cell.failed_to_start(error)
        if failure is error:
            raise
        raise failure from error
    except BaseException:
        await stop_all([cell])
        raise
    finally:
        if asker is not None:
            cycles.leave(asker, cell, started)
    return cell.ref


async def _in_time(cell: Cell, started: Ask) -> None:
    if started.answered:  # without `on_start` it is ready by now
        await started.reply()
        return
    timeout = cell.options.start_timeout
    with anyio.move_on_after(timeout) as scope:
        await started.reply()
    if scope.cancelled_caught:
        raise TimeoutError(f"not ready within start_timeout={timeout} s; give it more, or start less")
