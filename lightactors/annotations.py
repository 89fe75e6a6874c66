"""What the annotations of handlers and messages say of the values that come: the types, as msgspec takes them."""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec

from lightactors.contract import Message, Method, is_actor_class
from lightactors.errors import ContractError


class RefTo(type):
    """The type of the classes that stand for an actor class in a decoder's hint."""

    # msgspec lets `dec_hook` make what it does not know, and then checks it by isinstance: a ref passes for its actor.
    actor: Any

    def __instancecheck__(cls, instance: object) -> bool:
        return True


def wire_hint(hint: Any) -> Any:
    """Return an annotation as msgspec takes it: with a mark for each actor class, and `Any` for `object`.

    A `msgspec.Struct` that has a tag stands for its subclasses too, which their own tags tell.
    """
    if hint is object or isinstance(hint, TypeVar):
        return Any
    if isinstance(hint, type) and is_actor_class(hint):
        return RefTo(hint.__name__, (), {"actor": hint})
    if variants := _variants(hint):
        return typing.Union[(hint, *variants)]
    arguments = typing.get_args(hint)
    if not arguments or not any(_is_marked(argument) for argument in arguments):
        return hint
    inner = tuple(wire_hint(argument) for argument in arguments)
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.Union[inner]  # noqa: UP007 (made of a tuple)
    origin: Any = typing.get_origin(hint)
    return hint.copy_with(inner) if hasattr(hint, "copy_with") else origin[inner]


def _is_marked(hint: Any) -> bool:
    """Tell whether `wire_hint` would change an annotation."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return hint is object or is_actor_class(hint) or bool(_variants(hint))
    return any(_is_marked(argument) for argument in typing.get_args(hint))


def _variants(hint: Any) -> list[type[Any]]:
    """Return the subclasses of a record that their tags tell from it."""
    if not (isinstance(hint, type) and issubclass(hint, msgspec.Struct)) or hint.__struct_config__.tag is None:
        return []
    direct = [cls for cls in hint.__subclasses__() if cls.__struct_config__.tag is not None]
    return [*direct, *(below for cls in direct for below in _variants(cls))]


def hints_of(method: Method) -> dict[str, Any]:
    """Evaluate a handler's annotations; raise `ContractError` naming one that can't be."""
    try:
        return typing.get_type_hints(method.function, include_extras=True)
    except NameError as error:
        raise ContractError(
            f"{method} can't be reached from another process, because an annotation means nothing at run time: "
            f"{error}; import that name outside `if TYPE_CHECKING`, at the top of the module"
        ) from None


def choices_of(hint: Any) -> tuple[Any, ...]:
    """Return the values that the literals of an annotation allow."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return arguments
    return tuple(choice for argument in arguments for choice in choices_of(argument))


_BRINGS_FIRST = {AsyncIterator, AsyncGenerator, AsyncIterable, Awaitable}


def reply_hint(hint: Any) -> Any:
    """Return what a handler's return annotation says of the reply, or of each item."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _BRINGS_FIRST and arguments:
        return arguments[0]
    if origin is Coroutine:
        return arguments[2]
    if origin in (typing.Union, types.UnionType):
        members = tuple(reply_hint(argument) for argument in arguments)
        return typing.Union[members]  # noqa: UP007 (made of a tuple)
    return hint


def reply_of_message(message: type[Any]) -> Any:
    """Return the `R` of a `Message[R]`."""
    for cls in message.__mro__:
        for base in getattr(cls, "__orig_bases__", ()):
            if typing.get_origin(base) is Message:
                return _evaluated(typing.get_args(base)[0], cls)
    return Any


def _evaluated(hint: Any, cls: type[Any]) -> Any:
    if isinstance(hint, typing.ForwardRef):
        module: Mapping[str, Any] = vars(sys.modules[cls.__module__])
        return typing.get_type_hints(type("_", (), {"__annotations__": {"reply": hint}}), dict(module))["reply"]
    return hint


def name_of(hint: Any) -> str:
    return getattr(hint, "__name__", None) or str(hint)
