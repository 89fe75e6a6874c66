"""What one gRPC server answers besides links: typed services, health and reflection.

One generic handler for all of them, so that services come and go while the server runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from lightactors.services.reflection import ALPHA, NEWER, Reflection
from lightactors.services.servicer import TypedService

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Board(grpc.GenericRpcHandler):
    """The services of one server, by their names. `others` are services that the server has from elsewhere."""

    def __init__(self, others: Iterable[str] = ()) -> None:
        self._others = tuple(others)
        self._typed: dict[str, TypedService] = {}
        self._health = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
        reflection = Reflection(self.names, lambda: [one.calls.classes.pool for one in self._typed.values()])
        plain = _Plain()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, plain)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection, plain)
        self._plain = plain.handlers
        self._plain[f"{NEWER}.ServerReflection"] = self._plain[f"{ALPHA}.ServerReflection"]

    def names(self) -> list[str]:
        """Return the names of all services."""
        return [*self._typed, *self.fixed()]

    def fixed(self) -> list[str]:
        """Return the names that no typed service can have."""
        return [*self._plain, *self._others]

    async def add(self, service: TypedService) -> None:
        """Serve; in place of another one of that name, if there is one."""
        self._typed[service.name] = service
        await self._health.set(service.name, _SERVING)

    async def close(self, service: TypedService) -> None:
        """Let health say that a service, whose actor has ended, is not to be had."""
        if self._typed.get(service.name) is service:
            await self._health.set(service.name, _NOT_SERVING)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return what serves a call: see `grpc.GenericRpcHandler`."""
        # Anything may have come as a method's name, and what is raised here ends the whole server.
        service, _, method = handler_call_details.method.removeprefix("/").rpartition("/")
        if (typed := self._typed.get(service)) is not None:
            return typed.handler(method)
        return self._plain.get(service, {}).get(method)


class _Plain:
    """Stands for a server where generated code registers its handlers, and notes them."""

    def __init__(self) -> None:
        self.handlers: dict[str, dict[str, Any]] = {}

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.handlers[service] = handlers

    def add_generic_rpc_handlers(self, _: Any) -> None:
        """Nothing: what this would add was noted above."""
