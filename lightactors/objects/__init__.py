"""The shared-memory object store: more than `put`, `get` and `release`, which `lightactors` has itself."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightactors.objects.draft import Draft as Draft
    from lightactors.objects.figures import Figures as Figures
    from lightactors.objects.public import contains as contains
    from lightactors.objects.public import create as create
    from lightactors.objects.public import delete as delete
    from lightactors.objects.public import statistics as statistics

_HOME = {
    "Draft": "draft",
    "Figures": "figures",
    "contains": "public",
    "create": "public",
    "delete": "public",
    "statistics": "public",
}


def __getattr__(name: str) -> Any:
    # Imported late: the owner's process is of this package, too, and has the standard library alone.
    if name not in _HOME:
        where = f"; it is lightactors.{name}" if name in ("ObjectRef", "get", "put", "release") else ""
        raise AttributeError(f"module 'lightactors.objects' has no attribute {name!r}{where}")
    return getattr(importlib.import_module(f"lightactors.objects.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
