"""Serving an actor to other languages: its handlers as a gRPC service, on the addresses that its system listens on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lightactors.actors.elsewhere import run_on
from lightactors.actors.ref import Ref, cell_of
from lightactors.errors import ConfigurationError, ContractError
from lightactors.remote.node import node_of
from lightactors.services.board import Board
from lightactors.services.names import split_service
from lightactors.services.numbers import Numbers, numbers_in
from lightactors.services.schema import file_of
from lightactors.services.servicer import TypedService

if TYPE_CHECKING:
    from lightactors.actors.cell import Cell
    from lightactors.actors.system import System
    from lightactors.remote.grpc.server import Server
    from lightactors.services.model import File

_LINK = "lightactors.v1.Link"

_boards: WeakKeyDictionary[Server, Board] = WeakKeyDictionary()


async def serve(ref: object, *, service: str | None = None, proto: str | Path | None = None) -> str:
    """Let other languages call an actor's handlers, on every address that its system listens on; return the name.

    `service` is the full name, `demo.v1.Counter`; by default the actor's module and class. Where a `.proto` was
    written (`lightactors protogen`) and the class has changed since, `proto` is that file: its numbers are kept, and
    its name too unless you give one. Health and reflection know the service at once. Served again under the same
    name, it takes the place of the one before.

    Each method has a request and a response of its own; what a request leaves out has its default in Python. A
    token's role decides who may call, as with a ref. Errors come as a `google.rpc.Status` with the name of their
    class; a deadline, and a call that is cancelled, cancel the handler.

    Raises `ContractError` for a handler that no other language could call, and `ConfigurationError` for a system
    that doesn't listen.
    """
    if isinstance(ref, Ref):
        raise ContractError(f"{ref!r} is a behaviour; only the handlers of an actor class can be served")
    cell = cell_of(ref, "serve()")
    file = _file(cell.contract.actor, service, proto)
    system = cell.system
    await run_on(system.loop, partial(_put_up, system, cell, file), system.context)
    return file.full_name


def _file(actor: type[Any], service: str | None, proto: str | Path | None) -> File:
    before = Numbers() if proto is None else numbers_in(Path(proto).read_text(), str(proto))
    package, name = (None, None) if service is None else split_service(service)
    return file_of(actor, service=name or before.service, package=package or before.package, numbers=before)


async def _put_up(system: System, cell: Cell, file: File) -> None:
    outside = node_of(system).outside
    server = outside.server
    if server is None:
        raise ConfigurationError(
            f"system {system.name!r} listens nowhere, so nobody could call {file.full_name}; "
            "open it with open_system(listen='grpc://127.0.0.1:0')"
        )
    board = board_of(server)
    if file.full_name in board.fixed():
        raise ConfigurationError(f"every system that listens serves {file.full_name} itself; choose another name")
    typed = TypedService(cell.ref, file, server.role_of)
    await outside.io.call(lambda: board.add(typed))

    def has_ended(_: object) -> None:
        system.loop.order(outside.io.to_io, lambda: outside.io.start(board.close(typed)))

    cell.when_ended(has_ended)


def board_of(server: Server) -> Board:
    """Return what a server answers besides links; from the first time on it answers health and reflection."""
    board = _boards.get(server)
    if board is None:
        board = _boards[server] = Board([_LINK])
        server.add(board)
    return board


def open_board(system: System) -> None:
    """Let a system that listens answer health and reflection."""
    server = node_of(system).outside.server
    assert server is not None, "its doors are open"
    board_of(server)
