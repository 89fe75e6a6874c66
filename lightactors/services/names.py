"""Names as protobuf has them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lightactors.errors import ContractError

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

OURS = "lightactors.v1"
"""The package of our own contracts."""

LINK_PROTO = {"Link", "Hello", "Batch"}
"""Names of that package that `link.proto` has: a client that reads both files could not have them twice."""


def camel(name: str) -> str:
    """Return `enqueue_rollout` as `EnqueueRollout`."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def snake(name: str) -> str:
    """Return `ProxyLLM` as `proxy_llm`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def checked(name: str, where: str) -> str:
    """Return a name that protobuf takes; raise `ContractError` for another."""
    if not _IDENTIFIER.fullmatch(name):
        raise ContractError(f"{where}: {name!r} is no name in a proto file; use ASCII letters, digits and _")
    return name


def checked_package(package: str) -> str:
    """Return a package's name; raise `ContractError` for what can't be one."""
    for word in package.split("."):
        if not _IDENTIFIER.fullmatch(word):
            raise ContractError(f"package {package!r} is no name of a package; give one such as 'demo.v1'")
    return package


def package_of(actor: type[object]) -> str:
    """Return the package of an actor's file: its module, or the script that it is declared in."""
    module = actor.__module__
    if module.partition(".")[0] == "lightactors":
        return OURS
    if module == "__main__":
        module = Path(getattr(sys.modules[module], "__file__", None) or "main").stem
    return checked_package(module)


def split_service(service: str) -> tuple[str | None, str]:
    """Return package and name of `demo.v1.Counter`; the package is None in `Counter`."""
    package, _, name = service.rpartition(".")
    if package:
        checked_package(package)
    return package or None, checked(name, f"service {service!r}")
