"""Child specs: how to start a child, where, and what is done about its end. Frozen, to be started from again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from lightactors.errors import ConfigurationError, check_choice, check_seconds, check_whole
from lightactors.supervision.ladder import Ladder
from lightactors.supervision.limits import Limits

Place = Literal["task", "thread", "process"]
"""Where an actor lives: in the spawner's loop, in a thread with a loop of its own, in a process of its own."""


class Elsewhere(Protocol):
    """A place that begins actors in its own way: another node."""

    async def begin(self, owner: Any, name: str, spec: ChildSpec) -> Any: ...


Restart = Literal["permanent", "transient", "temporary"]
"""When a child is started again: after every end, after a failure, never."""

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
"""Who is started again with a child that is: nobody else, everybody, whoever was started after it."""

AutoShutdown = Literal["never", "any_significant", "all_significant"]
"""When a supervisor ends because its significant children have ended by themselves."""

START_TIMEOUT = 120.0
"""Seconds that an actor may take to become ready."""


@dataclass(frozen=True, slots=True)
class ChildOptions:
    """How and where a child lives; `lightactors.options` says what each of these means."""

    name: str | None = None
    place: Place | Elsewhere = "task"
    mailbox: float = 1000
    restart: Restart | None = None  # None: what its owner gives its children
    significant: bool = False
    grace: Ladder | None = None  # None: its system's
    start_timeout: float = START_TIMEOUT
    limits: Limits | None = None

    def __post_init__(self) -> None:
        if not hasattr(self.place, "begin"):
            check_choice("place", self.place, get_args(Place))
        if self.restart is not None:
            check_choice("restart", self.restart, get_args(Restart))
        if not _is_room(self.mailbox):
            raise ConfigurationError(f"mailbox={self.mailbox!r}; give the number of messages that may wait, at least 1")
        if self.name is not None and not _is_name(self.name):
            raise ConfigurationError(
                f"name={self.name!r} can't be part of an address; leave out '/', and don't be empty"
            )
        check_seconds("start_timeout", self.start_timeout)
        if self.limits is not None and self.place != "process":
            raise ConfigurationError(f"limits belong to a process, and place={self.place!r}; pass place='process'")
        if self.limits is not None and not isinstance(self.limits, Limits):
            raise ConfigurationError(f"limits={self.limits!r}; give lightactors.Limits(...)")
        if self.significant and self.restart == "permanent":
            raise ConfigurationError("a permanent child can't be significant: it never ends; pass restart='transient'")


def _is_room(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != "" and "/" not in value


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child to be started: an actor class or behaviour, its arguments and its options."""

    kind: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: ChildOptions = field(default_factory=ChildOptions)


@dataclass(frozen=True, slots=True)
class Policy:
    """How a supervisor treats its children."""

    strategy: Strategy = "one_for_one"
    max_restarts: int = 1
    period: float = 5.0
    backoff: float = 0.0  # seconds before a restart; doubled with each one within the period
    max_backoff: float = 30.0
    auto_shutdown: AutoShutdown = "never"
    restart: Restart = "permanent"  # of children that don't say
    together: bool = False  # stop the children all at once, not the youngest first

    def __post_init__(self) -> None:
        check_choice("strategy", self.strategy, get_args(Strategy))
        check_choice("auto_shutdown", self.auto_shutdown, get_args(AutoShutdown))
        check_choice("restart", self.restart, get_args(Restart))
        check_whole("max_restarts", self.max_restarts, least=0)
        if check_seconds("period", self.period) == 0:
            raise ConfigurationError("period=0 would forget every restart at once; give seconds, more than 0")
        check_seconds("backoff", self.backoff)
        check_seconds("max_backoff", self.max_backoff)

    def check(self, child: ChildOptions) -> None:
        """Raise `ConfigurationError` for a child that this policy can't treat as it wants to be."""
        if child.significant and self.auto_shutdown == "never":
            raise ConfigurationError(
                f"{_called(child)} is significant, but auto_shutdown='never'; "
                "pass 'any_significant' or 'all_significant'"
            )
        if child.significant and child.restart is None and self.restart == "permanent":
            raise ConfigurationError(
                f"{_called(child)} is significant and would be permanent; pass restart='transient' or 'temporary'"
            )


def _called(child: ChildOptions) -> str:
    return "the child" if child.name is None else f"child {child.name!r}"
