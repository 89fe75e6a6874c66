"""Routing: which member of a pool gets a call."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lightactors.actors.owner import State
from lightactors.contract import Behaviour, Contract, Kind, contract_of
from lightactors.errors import ActorNotRunning, ConfigurationError, WrongCall

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.contract import Method

By = Literal["round_robin", "least_loaded", "by_key"]
"""How a pool's router chooses: each in turn; who has the fewest messages before it; the same for the same key."""

Key = Callable[..., Hashable]
"""What a call is routed by, given its arguments."""

Pick: TypeAlias = "Callable[[tuple[Any, ...], dict[str, Any]], Member]"

_REMEMBERED = 10_000
"""Keys whose member a router remembers, so that it need not weigh all members for each call."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One actor of a pool, as its routers see it."""

    number: int  # its place: whoever comes after it there gets the same keys
    ref: Any
    cell: Cell


class Roster:
    """Who is in a pool. Changed by its supervisor, looked at by its routers, from any thread."""

    def __init__(self) -> None:
        self.members: tuple[Member, ...] = ()  # in the order of their numbers; replaced, never changed
        self._lock = threading.Lock()

    def free_numbers(self, count: int) -> list[int]:
        """Return the lowest numbers that no member has."""
        taken = {member.number for member in self.members}
        return list(itertools.islice((number for number in itertools.count(1) if number not in taken), count))

    def enter(self, member: Member) -> None:
        """Take a member in, until it ends for good."""
        with self._lock:
            self.members = tuple(sorted((*self.members, member), key=lambda each: each.number))
        member.cell.when_ended(lambda _: self.leave(member))

    def leave(self, member: Member) -> None:
        """Let nothing more be routed to a member."""
        with self._lock:
            self.members = tuple(each for each in self.members if each is not member)


def _one_of(members: tuple[Member, ...], first: int) -> Member:
    """Return the first member that runs, from `first` on; else one that will run again; else any."""
    if not members:
        raise ActorNotRunning("the pool has no members any more; spawn it anew, or resize it")
    count = len(members)
    in_turn = [members[(first + offset) % count] for offset in range(count)]
    return min(in_turn, key=lambda member: _READINESS[member.cell.state])


_READINESS = {
    State.RUNNING: 0,
    State.RESTARTING: 1,
    State.STARTING: 1,
    State.LEAVING: 2,
    State.DRAINING: 3,
    State.STOPPED: 4,
}


def round_robin(roster: Roster) -> Pick:
    """Return what picks each member in its turn."""
    turns = itertools.count()
    running = State.RUNNING

    def pick(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Member:
        members = roster.members
        turn = next(turns)
        if members:
            member = members[turn % len(members)]
            if member.cell.state is running:
                return member
        return _one_of(members, turn)

    return pick


def least_loaded(roster: Roster) -> Pick:
    """Return what picks the member with the fewest messages before it; among equals each in its turn."""
    turns = itertools.count()
    running = State.RUNNING

    def pick(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Member:
        members = roster.members
        turn = next(turns)
        count = len(members)
        least: Member | None = None
        least_load = 0
        for offset in range(count):
            member = members[(turn + offset) % count]
            if member.cell.state is running:
                load = member.cell.load()
                if load == 0:
                    return member
                if least is None or load < least_load:
                    least, least_load = member, load
        return least or _one_of(members, turn)

    return pick


def by_key(roster: Roster, key: Key) -> Pick:
    """Return what picks the same member for the same key, by rendezvous hashing: few keys move with a member."""
    known: tuple[Member, ...] = ()
    owners: dict[Hashable, Member] = {}

    def pick(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Member:
        nonlocal known, owners
        value = key(*args, **kwargs)
        if known is not roster.members:
            known, owners = roster.members, {}
        try:
            return owners[value]
        except KeyError:
            return remember(known, owners, value)
        except TypeError:
            raise WrongCall(f"{value!r} can't be hashed, and so not be routed by; pass key=...") from None

    def remember(members: tuple[Member, ...], owners: dict[Hashable, Member], value: Hashable) -> Member:
        if not members:
            return _one_of(members, 0)
        if len(owners) >= _REMEMBERED:
            owners.clear()
        hashed = hash(value)
        owner = owners[value] = max(members, key=lambda member: weight(hashed, member.number))
        return owner

    return pick


def weight(hashed: int, number: int) -> int:
    """Mix a key's hash with a member's number: the member that gets the most has the key."""
    # The finisher of splitmix64: neighbouring keys, such as ints, end up anywhere.
    mixed = (hashed ^ (number * 0x9E3779B97F4A7C15)) & _64_BITS
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return mixed ^ (mixed >> 31)


_64_BITS = 0xFFFFFFFFFFFFFFFF


def picker(roster: Roster, by: By, key: Key | None) -> Callable[[Method | None], Pick]:
    """Return what makes the choice of a router for each of its methods."""
    if by != "by_key":
        if key is not None:
            raise ConfigurationError(f"key=... has no use with {by!r}; pass 'by_key'")
        pick = round_robin(roster) if by == "round_robin" else least_loaded(roster)
        return lambda _: pick
    return lambda method: by_key(roster, key or _first_argument(method))


def _first_argument(method: Method | None) -> Key:
    if method is None:  # a behaviour's: its message
        return _message
    name = next(iter(method.signature.parameters), None)

    def first(*args: Any, **kwargs: Any) -> Hashable:
        if args:
            value: Hashable = args[0]
            return value
        if name is None or name not in kwargs:
            raise WrongCall(f"{method} was called without a first argument to route by; pass key=...")
        named: Hashable = kwargs[name]
        return named

    return first


def _message(message: Hashable) -> Hashable:
    return message


def router(kind: Any, picks: Callable[[Method | None], Pick]) -> Any:
    """Return what looks like a ref of the pool's kind, and sends each call to the member picked for it."""
    if isinstance(kind, Behaviour):
        return _RefRouter(kind.name, picks(None))
    return _Router(contract_of(kind), picks)


class _Router:
    """Has the handlers of an actor class as its methods, and nothing else."""

    __slots__ = ("__dict__", "_contract", "_picks")

    def __init__(self, contract: Contract, picks: Callable[[Method | None], Pick]) -> None:
        self._contract = contract
        self._picks = picks

    def __getattr__(self, name: str) -> Any:
        # Runs once per handler and router: what it returns stays in the router's own dict.
        method = self._contract.methods.get(name)
        if method is None:
            raise self._contract.unknown(name, self._contract.actor)
        routed = self.__dict__[name] = _ROUTED[method.kind](method, self._picks(method))
        return routed

    def __dir__(self) -> list[str]:
        return [*self._contract.methods]

    def __repr__(self) -> str:
        return f"<router to a pool of {self._contract.name}>"


class _RoutedStream:
    """A stream handler of whichever member is picked."""

    __slots__ = ("_method", "_name", "_pick")

    def __init__(self, method: Method, pick: Pick) -> None:
        self._method = method
        self._name = method.name
        self._pick = pick

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # What the member's handler returns is returned as it is: no coroutine of our own around it.
        return getattr(self._pick(args, kwargs).ref, self._name)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<handler {self._method} of a pool>"


class _Routed(_RoutedStream):
    """A handler of whichever member is picked."""

    __slots__ = ()

    def tell(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._pick(args, kwargs).ref, self._name).tell(*args, **kwargs)

    def tell_nowait(self, *args: Any, **kwargs: Any) -> None:
        getattr(self._pick(args, kwargs).ref, self._name).tell_nowait(*args, **kwargs)


_ROUTED = {Kind.PLAIN: _Routed, Kind.ASYNC: _Routed, Kind.STREAM: _RoutedStream}


class _RefRouter:
    """Takes the messages of a behaviour."""

    __slots__ = ("_name", "_pick")

    def __init__(self, name: str, pick: Pick) -> None:
        self._name = name
        self._pick = pick

    def ask(self, message: Any) -> Any:
        return self._pick((message,), {}).ref.ask(message)

    def tell(self, message: Any) -> Any:
        return self._pick((message,), {}).ref.tell(message)

    def tell_nowait(self, message: Any) -> None:
        self._pick((message,), {}).ref.tell_nowait(message)

    def __repr__(self) -> str:
        return f"<router to a pool of {self._name}>"
