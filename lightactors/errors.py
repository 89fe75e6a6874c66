"""Every exception of lightactors, drawn by who can do something about it.

```
LightActorsError
├── SendError               the message had no effect, or nobody knows; `.message` says which
│   ├── ActorNotRunning     it is stopped or was never started: the message did not run
│   ├── ActorStopped        it ended before it replied: the message may have run
│   ├── MailboxFull         only from `tell_nowait`: the message did not run
│   ├── WrongCall           wrong arguments for the handler (a TypeError too)
│   ├── WrongMessage        not a message of the behaviour's mailbox (a TypeError too)
│   ├── UnknownHandler      the actor has no such handler (an AttributeError too)
│   ├── AskCycle            the asked actor waits, directly or not, for the asker
│   ├── CannotTravel        a value that can't leave its process (a TypeError too)
│   ├── AccessDenied        the caller's role may not do this
│   └── LinkLost            the link ended before the reply came: the message may have run
├── ConnectFailed           no node answers at the address, or not as one of ours
├── LinkError               the other end of a link broke the protocol; the link is closed
├── ActorFailed             a remote handler raised an exception whose class is not known here
├── ContractError           an actor, agent or algorithm is declared wrongly (a TypeError too)
├── SpawnError              the actor failed before it was ready; the cause is chained
│   ├── NameTaken           another kind of actor, or another worker, runs under that name
│   └── LaunchFailed        there is no process for the actor: the host, a limit or an import forbids it
├── ProcessDied             the process of an actor ended, and not because it was asked to
├── NotJoined               the worker has not joined the task queue, or is gone from it
├── NotAChild               the supervisor has no child of that name (a KeyError too)
├── RestartsExhausted       children failed more often than `max_restarts` in `period` allows
├── StoreError              the store refused a call; nothing was stored (a ValueError too)
│   ├── NotFound            no such rollout, attempt, worker or resources
│   ├── InvalidArgument     a value outside what the method takes
│   ├── InvalidTransition   the rollout or attempt can't change like that
│   ├── Conflict            the id is taken by something else
│   ├── FencedAttempt       an attempt that is no longer current spoke
│   ├── SpansEvicted        the spans were given up to keep memory bounded
│   ├── StoreUnavailable    its database can't be reached or written now; later it may be
│   └── StoreDamaged        its database can't be used: damaged, another program's or too new
├── ObjectError             a value can't be put into the object store, or not be had from it
│   ├── ObjectReleased      this ref was released
│   ├── ObjectLost          the object is gone: deleted, or lost with its store or its host
│   └── ObjectStoreFull     no memory for it within the time; its text says who holds what
├── ConfigurationError      a trainer or strategy was set up wrongly (a ValueError too)
└── ExecutionError          an execution ended, but not the way it should have
```

A handler's own error arrives at the asker as itself. Deadlines raise Python's `TimeoutError`, as
`anyio.fail_after` does; cancellation is never wrapped; several failures arrive as an `ExceptionGroup`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from typing import Any


class LightActorsError(Exception):
    """Base of every exception that lightactors raises on its own behalf."""


class SendError(LightActorsError):
    """A message had no effect, or nobody knows whether it had.

    `message` is what was sent, where it surely did not run; otherwise None.
    """

    def __init__(self, text: str, message: object = None) -> None:
        super().__init__(text)
        self.message = message


class ActorNotRunning(SendError):
    """The actor is stopped or was never started; the message did not run and may be sent elsewhere."""


class ActorStopped(SendError):
    """The actor ended before it replied; the message may have run in part."""


class MailboxFull(SendError):
    """`tell_nowait` found no room; `tell` would have waited for it."""


class WrongCall(SendError, TypeError):
    """The arguments don't fit the handler's signature."""


class WrongMessage(SendError, TypeError):
    """The value is no message of the behaviour's mailbox."""


class UnknownHandler(SendError, AttributeError):
    """The actor has no handler of that name."""


class AskCycle(SendError):
    """The asked actor waits, directly or through others, for the asker: neither could ever go on."""


class CannotTravel(SendError, TypeError):
    """A value can't leave its process: no bytes stand for its type, or it is too large for the link."""


class AccessDenied(SendError):
    """There was no token, a wrong one, or one whose role may not do this; nothing ran."""


class LinkLost(SendError):
    """The link to the actor ended before the reply came; the message may have run."""


class ConnectFailed(LightActorsError):
    """There is no node of ours at the address, or it could not be reached; nothing was sent."""


class LinkError(LightActorsError):
    """The other end of a link sent what is no frame, or a frame out of turn; the link is closed."""


class ActorFailed(LightActorsError):
    """A handler in another process raised an exception whose class is not known here.

    `kind` is the name of that class; the text of the exception is part of this one's.
    """

    def __init__(self, text: str, kind: str = "") -> None:
        super().__init__(text)
        self.kind = kind


class ContractError(LightActorsError, TypeError):
    """An actor, agent or algorithm is declared in a way that cannot work."""


class SpawnError(LightActorsError):
    """The actor failed before it was ready; what it raised is the cause."""


class NameTaken(SpawnError):
    """A running actor of another kind holds the name, or another worker of the same queue."""


class LaunchFailed(SpawnError):
    """A process could not be started."""


class ProcessDied(LightActorsError):
    """The process of an actor ended, and not because it was asked to.

    `exit` says how (its str is in words), `output` is the last of what it printed.
    """

    def __init__(self, text: str, exit: object = None, output: str = "") -> None:
        super().__init__(text)
        self.exit = exit
        self.output = output


class NotJoined(LightActorsError):
    """The worker has not joined the task queue, or is gone from it."""


class NotAChild(LightActorsError, KeyError):
    """The supervisor has no child of that name."""

    __str__ = Exception.__str__  # KeyError shows its argument's repr


class RestartsExhausted(LightActorsError):
    """Children failed more often than the restart budget allows; `failures` has what they raised, in order."""

    def __init__(self, text: str, failures: Iterable[BaseException] = ()) -> None:
        super().__init__(text)
        self.failures = tuple(failures)


class StoreError(LightActorsError, ValueError):
    """The store refused a call; nothing of it was stored."""


class NotFound(StoreError):
    """The store holds no rollout, attempt, worker or resources of that id."""


class InvalidArgument(StoreError):
    """A value lies outside what the method takes."""


class InvalidTransition(StoreError):
    """A rollout or an attempt cannot go from its status to the one asked for."""


class Conflict(StoreError):
    """The id is already taken by something that differs."""


class FencedAttempt(StoreError):
    """An attempt that is no longer its rollout's current one tried to report."""


class SpansEvicted(StoreError):
    """The spans were given up to keep the store's memory bounded."""


class StoreUnavailable(StoreError):
    """The store's database can't be reached or written now; nothing of the call was kept, and later it may be."""


class StoreDamaged(StoreError):
    """The store's database can't be used: it is damaged, another program's or of a newer version."""


class ObjectError(LightActorsError):
    """A value can't be put into the object store, or not be had from it."""


class ObjectReleased(ObjectError):
    """The ref was released, by `release` or with the process that had it."""


class ObjectLost(ObjectError):
    """The object is gone: it was deleted, or lost with its store, its host or the link to that."""


class ObjectStoreFull(ObjectError):
    """There was no memory for an object; `statistics` says who holds what, as far as the text does not."""

    def __init__(self, text: str, statistics: object = None) -> None:
        super().__init__(text)
        self.statistics = statistics


class ConfigurationError(LightActorsError, ValueError):
    """A trainer, runner or strategy was given a value that it cannot work with."""


class ExecutionError(LightActorsError):
    """An execution ended, but not the way it should have."""


def text_of(error: BaseException) -> str:
    """Return an error's text, whatever its `__str__` does."""
    try:
        return str(error)
    except Exception:
        return "(its text can't be had: __str__ raised)"


def shown(value: object) -> str:
    """Return a value as text for an error's message; never raising, for the user's own repr may be broken."""
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def check_seconds(name: str, value: object) -> float:
    """Return seconds as they are; raise `ConfigurationError` for what can't be a duration."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigurationError(f"{name}={value!r}; give seconds, 0 or more")
    return value


def check_whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number as it is; raise `ConfigurationError` for anything else, and for less than `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name}={reprlib.repr(value)}; give a whole number of at least {least}")
    return value


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise `ConfigurationError` for a value that is none of the choices."""
    if value not in choices:
        raise ConfigurationError(
            f"{name}={reprlib.repr(value)} is unknown; choose from {', '.join(map(repr, choices))}"
        )


def raise_together(text: str, errors: Iterable[BaseException]) -> None:
    """Raise what has gone wrong: nothing for none, one as itself, several as a group called `text`."""
    causes = list({id(error): error for error in errors}.values())
    if len(causes) > 1:
        raise BaseExceptionGroup(text, causes)
    for error in causes:
        context = error.__context__
        try:
            raise error
        finally:
            # Raised while a cancellation is handled that is of our own making: no part of its story.
            error.__context__ = context
