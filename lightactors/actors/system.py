"""The system: the root of a tree of actors, opened for a block or, unasked, for the running loop."""

from __future__ import annotations

import contextvars
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from lightactors.actors import interrupts, loops, monitor
from lightactors.actors import owner as owners
from lightactors.actors.flag import Flag
from lightactors.actors.owner import Owner
from lightactors.actors.spawn import Spawner
from lightactors.actors.tree import Tree
from lightactors.errors import ConfigurationError, check_seconds, raise_together, shown
from lightactors.supervision.ladder import GRACE, Ladder, ladder_of
from lightactors.supervision.limits import ObjectLimits

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.keeper import Keeper
    from lightactors.actors.loops import Loop
    from lightactors.actors.survey import Words
    from lightactors.security import Tls, Tokens

logger = logging.getLogger("lightactors")

BLOCKED_AFTER = 1.0
"""Seconds after which a loop that does not turn is reported."""


@dataclass(frozen=True)
class DeadLetter:
    """A told message that nobody will ever handle."""

    actor: str
    message: object


@dataclass(frozen=True)
class SystemStatistics:
    """What a system holds and has lost."""

    actors: int
    dead_letters: int


class System(Owner, Spawner):
    """The root of a tree of actors. `open_system` opens one."""

    def __init__(self, name: str, ladder: Ladder) -> None:
        self.name = name
        self.ladder = ladder
        self.loop: Loop = loops.current()
        self.system = self
        self.children = {}
        self.keeper: Keeper | None = None
        self.context = contextvars.copy_context()
        self.failures: list[BaseException] = []
        self.on_failure: Callable[[], object] = lambda: None
        self.on_leave: Callable[[], object] = lambda: None
        # What Ctrl-C asks for; called in a signal handler, so it only posts and raises flags. None: there is no block.
        self.on_interrupt: Callable[[], object] | None = None
        self.at_end: list[Callable[[], Awaitable[None]]] = []  # what is done when the actors have stopped
        self.addresses: list[str] = []
        self.object_limits: ObjectLimits | None = None
        # Returns a value as it is best kept for many processes; set where there are any.
        self.spread: Callable[[Any], Any] = lambda value: value
        self.hurry = Flag()  # raised by the second Ctrl-C: nobody is waited for any more before he is cancelled
        self._stopping = False
        self._dead_letters: deque[DeadLetter] = deque(maxlen=100)
        self._dead_letter_count = 0

    @property
    def path(self) -> str:
        return self.name

    def owner(self) -> Owner:
        return self

    def refusal(self) -> str | None:
        return f"system {self.name} is stopping" if self._stopping else None

    def shut_down(self) -> None:
        """Only a supervisor has significant children."""
        raise AssertionError(f"{self!r} was to shut down")

    def keep_children(self, keeper: Keeper) -> None:
        self.keeper = keeper

    def child_failed(self, child: Cell, error: BaseException) -> None:
        self.failures.append(error)
        self.on_failure()

    def snapshot(self, words: Words) -> Tree:
        return Tree(self.name, "system", None, None, self.branches(words))

    def statistics(self) -> SystemStatistics:
        return SystemStatistics(actors=_count(self), dead_letters=self._dead_letter_count)

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """The last hundred told messages that nobody will handle; `statistics()` counts all."""
        return list(self._dead_letters)

    def dead_letter(self, actor: str, message: object) -> None:
        self._dead_letters.append(DeadLetter(actor, message))
        self._dead_letter_count += 1

    async def stop(self) -> None:
        """Stop every actor, the youngest first; bounded in time by the grace of each rung."""
        self._stopping = True
        with anyio.CancelScope(shield=True):
            await self.stop_children()
            for end in self.at_end:
                await end()

    def leave(self) -> None:
        """Have the block left, as if it had come to its end."""
        self.on_leave()

    def __repr__(self) -> str:
        return f"<system {self.name}: {len(self.children)} actors>"


def raise_failures(kind: str, name: str, failures: list[BaseException], error: BaseException | None) -> None:
    """Raise what a block's actors have died of, and the block's own `error`: one as itself, several as a group."""
    if error is not None and not isinstance(error, Exception):
        # Ctrl-C or a cancellation is on its way and must not be replaced.
        for failure in failures:
            logger.error("an actor of %s %s failed", kind, name, exc_info=failure)
    elif failures:
        raise_together(f"several failures in {kind} {name!r}", failures if error is None else [*failures, error])


def _count(owner: Owner) -> int:
    return sum(1 + _count(child) for child in list(owner.children.values()))


@dataclass(frozen=True)
class Doors:
    """How others may come in: see `open_system`."""

    listen: str | Sequence[str]
    tls: Tls | None = None
    tokens: Tokens | None = None
    insecure: bool = False
    spawnable: Sequence[Any] = ()
    max_message: int | None = None


def _no_doors(system: System, doors: Doors) -> Awaitable[None]:
    raise AssertionError("nobody has said how doors are opened")


open_doors: Callable[[System, Doors], Awaitable[None]] = _no_doors
"""Opens a system's doors; what does it lies above this module, and puts itself here."""


def _no_sharing(node: Any) -> Any:
    raise AssertionError(f"nobody has said how {node!r} shares objects")


make_sharing: Callable[[Any], Any] = _no_sharing
"""Makes what a node shares with others; as well."""


@asynccontextmanager
async def open_system(
    name: str = "local",
    *,
    grace: float | Ladder = GRACE,
    blocked_after: float = BLOCKED_AFTER,
    listen: str | Sequence[str] | None = None,
    tls: Tls | None = None,
    tokens: Tokens | None = None,
    insecure: bool = False,
    spawnable: Sequence[Any] = (),
    max_message: int | None = None,
    objects: ObjectLimits | None = None,
) -> AsyncGenerator[System]:
    """Open a system for the block; `spawn` inside the block belongs to it, and nothing outlives it.

    When the block ends, however it ends, the actors are stopped, the youngest first: each may finish its queue
    for `grace` seconds, is then cancelled, and after `grace` seconds more is reported and left behind; a `Ladder`
    gives each rung its own, those of processes too. If an
    actor fails, the block is cancelled and the failure raised from it. A handler that keeps its loop from
    turning for `blocked_after` seconds is reported by name (`math.inf`: never).

    On the main thread, Ctrl-C cancels the block and leaves it as KeyboardInterrupt after the stop; a second one
    cancels at once what still drains, a third kills the program. SIGTERM and SIGHUP do what the first Ctrl-C
    does and leave the block as `SystemExit(128 + number)`. Handlers of your own stay.

    With `listen`, other nodes reach the actors here (`connect`), and other languages those that are served
    (`serve`): `"unix:/run/me.sock"`, `"grpc://127.0.0.1:4747"`, `"grpcs://0.0.0.0:4747"`, port 0 for any that is
    free, or several of them. `system.addresses` then has the real ones. What other machines can reach needs `tls`
    and `tokens`, or `insecure=True`. `spawnable` lists the classes and behaviours that others may start here, and
    `max_message` how many bytes a message of theirs may have (64 MiB). `objects` bounds the object store (see `put`).

    Raises `ConfigurationError` for values that can't work, and addresses that can't be had.
    """
    if check_seconds("blocked_after", blocked_after) == 0:
        raise ConfigurationError("blocked_after=0 would report every loop; give seconds, more than 0")
    if objects is not None and not isinstance(objects, ObjectLimits):
        raise ConfigurationError(f"objects={shown(objects)}; give ObjectLimits(capacity=...)")
    system = System(name, ladder_of(grace))
    system.object_limits = objects
    token = owners.current.set(system)
    system.context = contextvars.copy_context()
    error: BaseException | None = None
    block = anyio.CancelScope()
    system.on_interrupt = partial(system.loop.post, block.cancel)
    system.on_leave = block.cancel
    with interrupts.heard_by(system), monitor.watching(system.loop, blocked_after):
        try:
            if listen is not None:
                await open_doors(system, Doors(listen, tls, tokens, insecure, spawnable, max_message))
            await system.loop.pause()  # a Ctrl-C just before has asked asyncio for a cancellation: here it must come
            with block:
                system.on_failure = block.cancel
                yield system
        except BaseException as raised:
            error = raised
            raise
        finally:
            owners.current.reset(token)
            await system.stop()
            raise_failures("system", system.name, system.failures, error)
