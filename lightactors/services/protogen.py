"""Writing the proto file of an actor, and keeping it: `lightactors protogen package.module:Actor`."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Any

from lightactors.errors import ConfigurationError, ContractError, text_of
from lightactors.services.descriptors import Classes
from lightactors.services.names import checked_package
from lightactors.services.numbers import Numbers, numbers_in
from lightactors.services.prototext import text_of as proto_text
from lightactors.services.schema import file_of


def protogen(actor: str | type[Any], *, package: str | None = None, before: Numbers | None = None) -> str:
    """Return the text of an actor's proto file. `actor` is its class, or where that is: `package.module:Actor`.

    `package` is the file's package, the actor's module unless said otherwise; `before` are the numbers that an
    earlier text gave. Raises `ConfigurationError` for a class that isn't there, and `ContractError` for one that
    has something that other languages don't know, or a field whose type has changed.
    """
    cls = find(actor) if isinstance(actor, str) else actor
    before = before or Numbers()
    chosen = checked_package(package) if package else before.package
    file = file_of(cls, package=chosen, service=before.service, numbers=before)
    Classes(file)  # raises what protoc would complain of
    return proto_text(file)


def write(
    actor: str | type[Any],
    path: str | Path,
    *,
    package: str | None = None,
    check: bool = False,
    force: bool = False,
) -> bool:
    """Write an actor's proto file, or bring it up to date; return whether anything had to change.

    What the file has keeps its number; what is gone is reserved. A field whose type has changed is refused, unless
    by `force` it is to get a new number. With `check` nothing is written, and `ContractError` raised for a file that
    is missing or out of date. Raises what `protogen` does, besides.
    """
    path = Path(path)
    old = path.read_text() if path.exists() else None
    before = Numbers() if old is None else numbers_in(old, str(path), force=force)
    text = protogen(actor, package=package, before=before)
    if text == old:
        return False
    if check:
        raise ContractError(_out_of_date(actor, path, old, text))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return True


def _out_of_date(actor: str | type[Any], path: Path, old: str | None, text: str) -> str:
    named = actor if isinstance(actor, str) else f"{actor.__module__}:{actor.__qualname__}"
    cure = f"run `lightactors protogen {named} -o {path}` and commit the file"
    if old is None:
        return f"{path} is not there; {cure}"
    changes = difflib.unified_diff(
        old.splitlines(), text.splitlines(), "in the file", "by the contract", lineterm="", n=1
    )
    return f"you changed the wire: {path} is not what {named} says; {cure}\n" + "\n".join(changes)


def find(named: str) -> type[Any]:
    """Return the class that `package.module:Actor` names; raise `ConfigurationError`."""
    module, colon, name = named.partition(":")
    if not (module and colon and name):
        raise ConfigurationError(f"{named!r} names no actor; say package.module:Actor")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(f"{named!r}: {module} can't be imported: {text_of(error)}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{named!r}: {module} has no {name}")
        found = getattr(found, part)
    cls: type[Any] = found
    return cls
