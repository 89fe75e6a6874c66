"""Components by any spelling: an instance, a class, a factory, a name, or `{"type": …, …}`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lightactors.errors import ConfigurationError

T = TypeVar("T")


def build(what: str, given: Any, kind: type[T], names: Mapping[str, Callable[..., T]], **defaults: Any) -> T:
    """Return the component that `given` describes.

    A name is one of `names` or `"package.module:attribute"`; a dict names its `"type"` and gives arguments.
    `defaults` are passed to what is made here, where its signature has them. Raises `ConfigurationError`.
    """
    if isinstance(given, kind):
        return given
    arguments: dict[str, Any] = {}
    if isinstance(given, Mapping):
        arguments = {str(key): value for key, value in given.items()}
        given = arguments.pop("type", None)
    factory = _by_name(what, given, names) if isinstance(given, str) else given
    if not callable(factory):
        raise ConfigurationError(
            f"{what}={given!r}; give a {kind.__name__}, a class or function that makes one, "
            f"one of {', '.join(map(repr, names)) or 'no names'}, or {{'type': ..., ...}}"
        )
    made = _make(what, factory, defaults, arguments)
    if not isinstance(made, kind):
        raise ConfigurationError(f"{what}: {given!r} made {made!r}, which is no {kind.__name__}")
    return made


def _make(what: str, factory: Callable[..., Any], defaults: dict[str, Any], arguments: dict[str, Any]) -> Any:
    accepted = inspect.signature(factory).parameters
    wanted = {name: value for name, value in defaults.items() if name in accepted} | arguments
    try:
        inspect.signature(factory).bind(**wanted)
    except TypeError as error:
        raise ConfigurationError(f"{what}: {factory!r} {error}; it takes {', '.join(accepted) or 'nothing'}") from None
    return factory(**wanted)


def _by_name(what: str, name: str, names: Mapping[str, Callable[..., T]]) -> Any:
    if name in names:
        return names[name]
    module, _, attribute = name.partition(":")
    if not attribute.isidentifier():
        raise ConfigurationError(
            f"{what}={name!r} is unknown; choose from {', '.join(map(repr, names))} or give 'package.module:attribute'"
        )
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{what}={name!r} can't be imported: {error}") from error
