"""Who is started again: the decision of a supervisor, as plain functions over plain data.

The rules are those of OTP's `supervisor` (https://www.erlang.org/doc/apps/stdlib/supervisor.html).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from lightactors.supervision.spec import AutoShutdown, Restart, Strategy


@dataclass(frozen=True, slots=True)
class Member:
    """A child, as far as the decision goes."""

    name: str
    restart: Restart
    significant: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from a child's end."""

    stop: tuple[str, ...] = ()  # whom to stop first, the youngest first
    start: tuple[str, ...] = ()  # whom to start then, in their old order
    forget: tuple[str, ...] = ()  # who is a child no more
    shut_down: bool = False  # the supervisor itself ends


_RESTARTED_AFTER = {
    "permanent": {"failure": True, "normal end": True},
    "transient": {"failure": True, "normal end": False},
    "temporary": {"failure": False, "normal end": False},
}


def is_restarted(restart: Restart, *, failed: bool) -> bool:
    """Tell whether a child of that kind is started again after such an end."""
    return _RESTARTED_AFTER[restart]["failure" if failed else "normal end"]


def after_end(
    members: Sequence[Member], ended: str, *, failed: bool, strategy: Strategy, auto_shutdown: AutoShutdown = "never"
) -> Plan:
    """Return what follows when a child has ended by itself; `members` come in the order of their start."""
    by_name = {member.name: member for member in members}
    if not is_restarted(by_name[ended].restart, failed=failed):
        return Plan(forget=(ended,), shut_down=_shuts_down(members, by_name[ended], auto_shutdown))
    names = list(by_name)
    concerned = _concerned(names, ended, strategy)
    return Plan(
        stop=tuple(name for name in reversed(concerned) if name != ended),
        start=tuple(name for name in concerned if by_name[name].restart != "temporary"),
        forget=tuple(name for name in concerned if by_name[name].restart == "temporary"),
    )


def _concerned(names: list[str], ended: str, strategy: Strategy) -> list[str]:
    if strategy == "one_for_all":
        return names
    if strategy == "rest_for_one":
        return names[names.index(ended) :]
    return [ended]


def _shuts_down(members: Sequence[Member], ended: Member, auto_shutdown: AutoShutdown) -> bool:
    if not ended.significant or auto_shutdown == "never":
        return False
    left = [member for member in members if member.significant and member.name != ended.name]
    return auto_shutdown == "any_significant" or not left


class Budget:
    """How many restarts there may be: `max_restarts` within any `period` seconds."""

    def __init__(self, max_restarts: int, period: float) -> None:
        self.max_restarts = max_restarts
        self._period = period
        self._spent: deque[float] = deque()

    def spend(self, now: float) -> int | None:
        """Take one restart; return how many there were within the period with it, None if that is over the budget."""
        self._spent.append(now)
        while self._spent[0] < now - self._period:
            self._spent.popleft()
        return len(self._spent) if len(self._spent) <= self.max_restarts else None


def delay(restarts: int, first: float, most: float, random: float) -> float:
    """Return the seconds to wait before a restart: doubled with each, less a random part of up to a half.

    `random` is in [0, 1): siblings that die together shall not come back together.
    """
    doublings = min(restarts - 1, 1000)  # a float holds no more, and no wait of this universe
    return min(first * 2.0**doublings, most) * (1 - random / 2)
