"""Errors as wire values: type name, text, arguments, notes, remote traceback and causes; and errors of them again.

An error is rebuilt as itself if its class is a builtin, one of lightactors, or known in the module of the actor's
class here; a user's `__init__` is not run for it. Otherwise it arrives as `ActorFailed`.
"""

from __future__ import annotations

import builtins
import math
import sys
import traceback
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.msgpack import Decoder, Encoder

from lightactors import errors
from lightactors.codec import MALFORMED
from lightactors.errors import ActorFailed, CannotTravel, LightActorsError, text_of
from lightactors.remote.frames import NONE

_TRACEBACK = 64 * 1024
"""Characters of a traceback that travel; of a longer one, its end."""

_DEPTH = 16
"""Causes of causes, and groups within groups, that travel."""

_BRIEF = 1000
"""Bytes of arguments, and characters of text, of an error in brief."""

_plain = Encoder()


class WireError(msgspec.Struct, array_like=True):
    """An error on its way."""

    module: str
    name: str
    text: str
    args: list[Any]
    attributes: dict[str, Any]
    notes: list[str]
    traceback: str
    cause: WireError | None = None
    parts: list[WireError] = []


class RemoteTraceback(Exception):
    """The traceback that an error had in the process where it was raised; shown as its cause."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


_decoder = Decoder(WireError)


def encode(error: BaseException) -> bytes:
    """Return an error as bytes; what of it can't travel is left out."""
    return _plain.encode(_wire(error, with_traceback=True, depth=_DEPTH))


def _wire(error: BaseException, *, with_traceback: bool, depth: int) -> WireError:
    cause = error.__cause__ if depth and not isinstance(error.__cause__, RemoteTraceback) else None
    parts = error.exceptions if depth and isinstance(error, BaseExceptionGroup) else ()
    args = [error.message] if isinstance(error, BaseExceptionGroup) else error.args
    return WireError(
        module=type(error).__module__,
        name=type(error).__qualname__,
        text=_unicode(text_of(error)),
        args=list(args) if _can_travel(args) else [],
        attributes={k: v for k, v in vars(error).items() if k != "__notes__" and _can_travel(v)},
        notes=[_unicode(str(note)) for note in getattr(error, "__notes__", ())],
        traceback=_unicode("".join(traceback.format_exception(error))[-_TRACEBACK:]) if with_traceback else "",
        cause=None if cause is None else _wire(cause, with_traceback=False, depth=depth - 1),
        parts=[_wire(part, with_traceback=False, depth=depth - 1) for part in parts],
    )


def brief(error: BaseException) -> WireError:
    """Return as much of an error as a line about it needs: not what it carries, nor what led to it."""
    cls = type(error)
    args = list(error.args) if _can_travel(error.args, _BRIEF) else []
    return WireError(cls.__module__, cls.__qualname__, _unicode(text_of(error)[:_BRIEF]), args, {}, [], "")


def _unicode(text: str) -> str:
    """Return a text as it can be sent: a file's name, say, may have bytes in it that are no Unicode."""
    return text.encode(errors="replace").decode()


def _can_travel(value: object, limit: float = math.inf) -> bool:
    try:
        return len(_plain.encode(value)) <= limit
    except (TypeError, OverflowError, ValueError, RecursionError):
        return False


def decode(body: Any, known: type[Any] | None) -> Exception:
    """Return the error that came, of a class that the module of `known` has, where it can."""
    try:
        wire = _decoder.decode(body)
    except MALFORMED as error:
        return CannotTravel(f"an error came, but not in one piece: {error}")
    return rebuilt(wire, known)


def rebuilt(wire: WireError, known: type[Any] | None) -> Exception:
    """Return an error again, of a class that the module of `known` has, where it can."""
    error = _error(wire, known)
    for note in wire.notes:
        error.add_note(note)
    if wire.cause is not None:
        error.__cause__ = rebuilt(wire.cause, known)
    if wire.traceback:
        _innermost(error).__cause__ = RemoteTraceback(wire.traceback)
    return error


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _error(wire: WireError, known: type[Any] | None) -> Exception:
    cls = _local_class(wire, known)
    if wire.parts:
        parts = [rebuilt(part, known) for part in wire.parts]
        return ExceptionGroup(str(wire.args[0]) if wire.args else wire.text, parts)
    made = None if cls is None else _made(cls, wire)
    return made or ActorFailed(f"{wire.name}: {wire.text}", f"{wire.module}.{wire.name}")


def _made(cls: type[Exception], wire: WireError) -> Exception | None:
    # Never `cls(...)`: a user's __init__ may do anything, and may want other arguments than it keeps.
    builtin = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    try:
        error: Exception = builtin.__new__(cls, *wire.args)
        if issubclass(cls, LightActorsError) or not wire.args:
            error.args = tuple(wire.args) or (wire.text,)
        if isinstance(error, errors.SendError):
            error.message = None
        if cls is builtin and wire.args:
            builtin.__init__(error, *wire.args)
    except (TypeError, ValueError):  # a builtin that is made of other things than it keeps
        return None
    vars(error).update(wire.attributes)
    return error


def _local_class(wire: WireError, known: type[Any] | None) -> type[Exception] | None:
    """Look the name up among what is declared here; nothing is imported for it."""
    if wire.module == "builtins":
        found = vars(builtins).get(wire.name)
    elif wire.module == errors.__name__:
        found = vars(errors).get(wire.name)
    else:
        found = _declared_near(known, wire.name)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _declared_near(known: type[Any] | None, name: str) -> object:
    for cls in known.__mro__ if known is not None else ():
        module = sys.modules.get(cls.__module__)
        for value in list(vars(module).values()) if module else ():
            if isinstance(value, type) and value.__qualname__ == name and issubclass(value, Exception):
                return value
    return None


def encode_cause(error: BaseException | None) -> Raw:
    """Return what an actor died of as bytes; of nothing, too."""
    return NONE if error is None else Raw(encode(error))


def decode_cause(cause: Raw, known: type[Any] | None = None) -> Exception | None:
    """Return what an actor died of; None: of nothing."""
    return None if bytes(cause) == bytes(NONE) else decode(cause, known)
