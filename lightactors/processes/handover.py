"""The hand-over: what a new process is to be, pickled by its parent for this one child.

Only here is anything unpickled: by a child, from its own parent, over the socket that it was born with.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import pickle
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing import spawn as multiprocessing_spawn
from typing import Any

from lightactors.contract import Behaviour
from lightactors.errors import SpawnError, shown
from lightactors.supervision.ladder import Ladder
from lightactors.supervision.spec import ChildOptions, ChildSpec

_MAIN = "__main__"
_MAIN_IN_CHILD = "__mp_main__"
"""What multiprocessing, and so we, call the program's main module in a process that has imported it."""

_MAIN_DATA = ("init_main_from_name", "init_main_from_path", "sys_argv")
"""What multiprocessing needs to know to import it there."""

_PREAMBLE = 8
"""Bytes that come before anything else, for the child has to know which loop to run before it can read on it."""


def preamble(backend: str) -> bytes:
    """Return what is sent first: the name of the loop to run."""
    return backend.encode().ljust(_PREAMBLE)


def read_preamble(sock: socket.socket) -> str:
    """Return the name of the loop to run; empty: the parent is gone."""
    return sock.recv(_PREAMBLE, socket.MSG_WAITALL).decode().strip()


@dataclass(frozen=True)
class _Kind:
    """An actor class or behaviour by its name: where a child finds it."""

    module: str
    name: str

    def find(self) -> Any:
        found: Any = importlib.import_module(self.module)
        for part in self.name.split("."):
            found = getattr(found, part)
        return found


@dataclass(frozen=True)
class HandOver:
    """What a child runs, and where in the tree it stands."""

    kind: Any  # a _Kind, or the class or behaviour itself where it has no name to be found by
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    name: str
    owner: str  # the path of its owner
    mailbox: float
    ladder: Ladder

    def spec(self) -> ChildSpec:
        """Return what is to be spawned; on the child's side."""
        kind = self.kind.find() if isinstance(self.kind, _Kind) else self.kind
        # It is its parent who gives the start up; a second bound of time, here, would only cut it short.
        options = ChildOptions(name=self.name, mailbox=self.mailbox, start_timeout=math.inf)
        return ChildSpec(kind, self.args, self.kwargs, options=options)


def pack(what: HandOver, path: str, persistent_id: Callable[[object], object]) -> bytes:
    """Return a hand-over as bytes; raise `SpawnError` that says what can't travel and how it could."""
    kind = what.kind.function if isinstance(what.kind, Behaviour) else what.kind
    named = _Kind(_MAIN if kind.__module__ == _MAIN_IN_CHILD else kind.__module__, kind.__qualname__)
    if _is_importable(named, what.kind):
        body = _body(replace(what, kind=named), path, persistent_id)
    else:
        body = _pickled(what, path, persistent_id, _by_value(kind, path))
    main = _main_module() if _names_main(body) else {}
    # Two pickles, one after the other: the second one may only be read once the main module is imported.
    return pickle.dumps(main) + body


def _body(what: HandOver, path: str, persistent_id: Callable[[object], object]) -> bytes:
    """Pickle by name; where a notebook or a function defines an argument, by value if cloudpickle is there."""
    try:
        body = _pickled(what, path, persistent_id, pickle.Pickler)
    except SpawnError:
        if (by_value := _cloudpickler()) is None:
            raise
        return _pickled(what, path, persistent_id, by_value)
    if not _names_main(body) or _main_module():
        return body
    if (by_value := _cloudpickler()) is None:
        raise SpawnError(
            f"{path} can't live in a process: an argument is defined in a notebook or at a prompt, where a new process "
            "can't import it; move it to a module, or pip install 'lightactors[notebook]' to send it by value"
        )
    return _pickled(what, path, persistent_id, by_value)


def _names_main(body: bytes) -> bool:
    return _MAIN.encode() in body or _MAIN_IN_CHILD.encode() in body


def _is_importable(named: _Kind, kind: Any) -> bool:
    if named.module == _MAIN and not _main_module():
        return False
    try:
        return named.find() is kind
    except (ImportError, AttributeError):
        return False


def _main_module() -> dict[str, Any]:
    """Return how a child finds what this program's main module defines, as multiprocessing does; empty: it can't."""
    data = multiprocessing_spawn.get_preparation_data("")
    if "init_main_from_name" not in data and not os.path.exists(data.get("init_main_from_path", "")):
        return {}  # a notebook, a prompt, or a program that came from a pipe
    return {key: data[key] for key in _MAIN_DATA if key in data}


def _by_value(kind: Any, path: str) -> Any:
    if (by_value := _cloudpickler()) is None:
        raise SpawnError(
            f"{path} can't live in a process: {kind.__qualname__} is defined in {_where(kind)}, where a new process "
            "can't import it; move it to a module, or pip install 'lightactors[notebook]' to send it by value"
        )
    return by_value


def _cloudpickler() -> Any:
    try:
        import cloudpickle  # optional: only what no module holds needs it
    except ImportError:
        return None
    return cloudpickle.Pickler


def _where(kind: Any) -> str:
    if "<locals>" in kind.__qualname__:
        return "a function"
    return "a notebook or at a prompt" if kind.__module__ == _MAIN else f"module {kind.__module__!r} under another name"


def _pickled(what: HandOver, path: str, persistent_id: Callable[[object], object], base: Any) -> bytes:
    class Pickler(base):  # type: ignore[misc]
        def persistent_id(self, value: object) -> object:
            if isinstance(value, io.IOBase):  # cloudpickle would send what is in it
                raise pickle.PicklingError(f"{value!r} is open in this process only")
            return persistent_id(value)

    out = io.BytesIO()
    try:
        Pickler(out, protocol=pickle.HIGHEST_PROTOCOL).dump(what)
    except Exception as error:
        culprit = _culprit(what, Pickler)
        raise SpawnError(
            f"{path} can't live in a process: {culprit} can't be sent there ({error}); pass what it is made of instead"
        ) from error
    return out.getvalue()


def _culprit(what: HandOver, pickler: Any) -> str:
    """Name the argument that can't be pickled."""
    arguments = {f"argument {number}": value for number, value in enumerate(what.args, 1)}
    arguments |= {f"argument {name!r}": value for name, value in what.kwargs.items()}
    for name, value in arguments.items():
        try:
            pickler(io.BytesIO()).dump(value)
        except Exception:
            return f"{name}, {shown(value)},"
    return "its class"


def unpack(payload: bytes, persistent_load: Callable[[Any], object]) -> HandOver:
    """Return the hand-over that came; on the child's side. Raises what importing it raises."""
    source = io.BytesIO(payload)
    main = pickle.load(source)
    if main:
        _import_main(main)

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid: Any) -> object:
            return persistent_load(pid)

    what: HandOver = Unpickler(source).load()
    return what


def _import_main(main: dict[str, Any]) -> None:
    try:
        multiprocessing_spawn.prepare(main)
    except BaseException as error:
        where = main.get("init_main_from_path") or main.get("init_main_from_name")
        raise SpawnError(
            f"the new process could not import the program's main module, {where}: {error!r}; put what the program "
            "runs under `if __name__ == '__main__':`, or move the actor class to a module of its own"
        ) from error
    sys.modules[_MAIN] = sys.modules[_MAIN_IN_CHILD]
