"""The server: what a node listens with. Who comes over it gets a link, or calls a typed service."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

from lightactors.address import Address
from lightactors.contract import Role
from lightactors.errors import ConfigurationError, LinkError
from lightactors.remote.grpc import options
from lightactors.remote.grpc.carrier import StreamCarrier
from lightactors.remote.grpc.credentials import TokenInterceptor, role_of, server_credentials
from lightactors.remote.grpc.greeting import WELCOME, from_wire, greeting
from lightactors.remote.hello import Hello

if TYPE_CHECKING:
    from lightactors.remote.grpc.io import Io
    from lightactors.security import Tls, Tokens

_GREETS_WITHIN = 10.0
"""Seconds that a caller has to say who it is."""

_CLOSES_WITHIN = 1.0
"""Seconds that calls of typed services have to end when the node does; links have said goodbye before."""

_LOOPBACKS = (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")

MAX_MESSAGE = 4 * 2**20
"""Bytes that one gRPC message may have. A link's larger messages come in pieces."""

MAX_LINKS = 4_096
"""Links that a node serves at once, those included whose other end has not said its hello."""

Accept = Callable[[StreamCarrier, Hello, str, Role], None]
"""What is done at home about a new link: its carrier, who speaks, from where, and as what."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Server:
    """One gRPC server on all addresses of a node."""

    def __init__(self, io: Io, hello: Callable[[Role], Hello], accept: Accept, tokens: Tokens | None) -> None:
        self._io = io
        self._hello = hello
        self._accept = accept
        self._tokens = tokens
        self._services: list[grpc.GenericRpcHandler] = [_LinkHandler(self._serve_link)]
        self._server: grpc.aio.Server
        self._links = 0
        self.addresses: list[Address] = []

    # At home

    async def open(self, addresses: Sequence[Address], tls: Tls | None) -> None:
        """Listen; raise `ConfigurationError` for an address that can't be had."""
        self.addresses = await self._io.call(lambda: self._open(addresses, tls))

    async def close(self) -> None:
        """Take no more calls, and end those that are under way.

        gRPC removes its socket files, first of all: later there may be those of a successor.
        """
        await self._io.call(lambda: self._server.stop(_CLOSES_WITHIN))

    def add(self, service: grpc.GenericRpcHandler) -> None:
        """Serve this too, from now on."""
        self._services.append(service)

    def role_of(self, context: grpc.aio.ServicerContext[Any, Any]) -> Role:
        """Return what the caller may do; without tokens everybody is an admin."""
        role = role_of(self._tokens, context.invocation_metadata())
        assert role is not None, "the interceptor has refused who has no role"
        return role

    # Among gRPC's tasks

    async def _open(self, addresses: Sequence[Address], tls: Tls | None) -> list[Address]:
        interceptors = [] if self._tokens is None else [TokenInterceptor(self._tokens)]
        self._server = grpc.aio.server(interceptors=interceptors, options=options.server(MAX_MESSAGE))
        self._server.add_generic_rpc_handlers((_All(self._services),))
        try:
            bound = [self._bind(address, tls) for address in addresses]
        except BaseException:
            await self._give_up()
            raise
        await self._server.start()
        return bound

    async def _give_up(self) -> None:
        """Let go of what is bound: gRPC does so for a server that has run, and for no other."""
        self._services.clear()
        await self._server.start()
        await self._server.stop(0)

    def _bind(self, address: Address, tls: Tls | None) -> Address:
        if address.scheme == "unix":
            return self._bind_unix(address)
        if not _is_localhost(address):
            return self._bind_port(address, tls)
        # gRPC would be content with one of them, and a caller may try the other one first.
        port = address.port or _free_port()
        for host in _loopbacks():
            self._bind_port(replace(address, host=host, port=port), tls)
        return address.with_port(port)

    def _bind_port(self, address: Address, tls: Tls | None) -> Address:
        try:
            if address.is_tls:
                assert tls is not None, "check_listen has refused this"
                port = self._server.add_secure_port(address.grpc_target(), server_credentials(tls))
            else:
                port = self._server.add_insecure_port(address.grpc_target())
        except RuntimeError:
            raise ConfigurationError(_why_not(address)) from None
        return address.with_port(port)

    def _bind_unix(self, address: Address) -> Address:
        _clear(address.socket)
        before = os.umask(0o177)  # so that nobody else may open it, not even at first
        try:
            self._server.add_insecure_port(address.grpc_target())
        except RuntimeError:
            raise ConfigurationError(f"{address} can't be listened on; can its folder be written to?") from None
        finally:
            os.umask(before)
        return address

    async def _serve_link(self, _: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        if self._links >= MAX_LINKS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_LINKS} links are open; try again later")
        self._links += 1
        try:
            await self._greet_and_carry(context)
        finally:
            self._links -= 1

    async def _greet_and_carry(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        role = self.role_of(context)
        await context.send_initial_metadata((WELCOME,))
        try:
            async with asyncio.timeout(_GREETS_WITHIN):
                first = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"no hello came within {_GREETS_WITHIN} s")
        try:
            hello = from_wire(first)
        except LinkError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if (objection := hello.objection()) is not None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, objection)
        await context.write(greeting(self._hello(role)))
        carrier = StreamCarrier(self._io, context)
        self._io.to_home(self._accept, carrier, hello, context.peer(), role)
        ended_by = await carrier.run()
        if isinstance(ended_by, LinkError):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(ended_by))


class _All(grpc.GenericRpcHandler):
    """All services of a server, those too that come while it runs."""

    def __init__(self, services: list[grpc.GenericRpcHandler]) -> None:
        self._services = services

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        found = (service.service(handler_call_details) for service in self._services)
        return next((handler for handler in found if handler is not None), None)


class _LinkHandler(grpc.GenericRpcHandler):
    """The method that opens links."""

    def __init__(self, serve: Callable[..., Coroutine[Any, Any, None]]) -> None:
        self._handler: Handler = grpc.stream_stream_rpc_method_handler(serve)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._handler if handler_call_details.method == "/lightactors.v1.Link/Open" else None


def _is_localhost(address: Address) -> bool:
    return address.host.lower().rstrip(".") == "localhost"


def _loopbacks() -> list[str]:
    """Return the addresses of localhost that this machine has."""
    return [host for family, host in _LOOPBACKS if _can_bind(family, host, 0)]


def _free_port() -> int:
    """Return a port that is free on all of them."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if all(_can_bind(family, host, port) for family, host in _LOOPBACKS if _can_bind(family, host, 0)):
            return port


def _can_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, port))
    except OSError:
        return False
    return True


def _why_not(address: Address) -> str:
    """Return why an address can't be listened on, in the words of the system: gRPC only says that it can't."""
    try:
        family, kind, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(place)
    except OSError as error:
        return f"{address} can't be listened on: {error.strerror or error}; choose another port, or 0 for any"
    return f"{address} can't be listened on; try another port, or 0 for any"


def _clear(path: str) -> None:
    """Remove the socket file of a node that died; raise `ConfigurationError` if one is alive, or if it is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigurationError(f"unix:{path} is a file, and no socket; choose another path, or remove it")
        if _is_alive(path):
            raise ConfigurationError(f"unix:{path} is in use by another process; choose another path, or stop that one")
        os.unlink(path)
    except FileNotFoundError:
        return
    except PermissionError:
        raise ConfigurationError(f"unix:{path} is not ours to open or remove; choose another path") from None


def _is_alive(path: str) -> bool:
    """Tell whether somebody listens there, though he may be too busy to answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # too many wait to be let in
            return True
    return True
