"""A typed service: the handlers of one actor as methods that any language calls.

A client's deadline, and its cancelling, cancel the handler. Requests are read here and not by gRPC, which would
answer one that can't be read with INTERNAL or UNKNOWN. Nor does a handler's `sys.exit()` get to gRPC, which crashes
on it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from grpc_status import rpc_status

from lightactors.actors import loops
from lightactors.actors.ref import cell_of
from lightactors.errors import AccessDenied, LightActorsError, SendError
from lightactors.remote import tracing
from lightactors.remote.standin import StandIn
from lightactors.services.calls import BadRequest, Call, Calls
from lightactors.services.model import File
from lightactors.services.status import TooLarge, status_of

logger = logging.getLogger("lightactors")

RoleOf: TypeAlias = Callable[[Any], str]
"""Tells the role of a call's sender by the call's context."""

LIMIT = 4 * 1024 * 1024
"""Bytes of a reply: more than that no client takes unless it was told to."""


def everybody_is_admin(_: Any) -> str:
    """Where nobody needs a token."""
    return "admin"


class TypedService:
    """An actor's handlers, as gRPC calls them."""

    def __init__(self, ref: Any, file: File, role_of: RoleOf = everybody_is_admin, *, limit: int = LIMIT) -> None:
        self.ref = ref
        self._cell = cell_of(ref, "a typed service")
        self._methods = self._cell.contract.methods  # the actor's own: the file may be of a base class
        self.name = file.full_name
        self.calls = Calls(file)
        self._role_of = role_of
        self._limit = limit
        self._handlers = {name: self._handler(call) for name, call in self.calls.by_name.items()}

    def handler(self, method: str) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        """Return what serves a method; None: there is no such method."""
        return self._handlers.get(method)

    def _handler(self, call: Call) -> grpc.RpcMethodHandler[bytes, bytes]:
        # Without a deserializer the request comes as bytes.
        if call.rpc.streams:
            return grpc.unary_stream_rpc_method_handler(self._streamer(call))
        return grpc.unary_unary_rpc_method_handler(self._unary(call))

    def _unary(self, call: Call) -> Any:
        async def unary(body: bytes, context: Any) -> bytes:
            try:
                args, kwargs = self._admit(call, body, context)
                with tracing.entered(trace := _trace_of(context)):  # for an actor elsewhere, or one that answers here
                    value = await self._bound(call, trace)(*args, **kwargs)
                return self._reply(call, value)
            except BaseException as raised:
                await _abort(context, loops.current().failure(raised), call)
                raise  # never reached: `abort` raises

        return unary

    def _streamer(self, call: Call) -> Any:
        async def stream(body: bytes, context: Any) -> AsyncIterator[bytes]:
            try:
                args, kwargs = self._admit(call, body, context)
                async with aclosing(self._bound(call)(*args, **kwargs)) as items:
                    async for item in items:
                        yield self._reply(call, item)
            except BaseException as raised:
                await _abort(context, loops.current().failure(raised), call)

        return stream

    def _admit(self, call: Call, body: bytes, context: Any) -> tuple[list[Any], dict[str, Any]]:
        role = self._role_of(context)
        if not self._methods[call.method.name].admits(role):
            raise AccessDenied(f"{call.method} is not for a {role}; use a token of another role")
        return call.read(body)

    def _bound(self, call: Call, trace: str = "") -> Any:
        """Return the handler, as part of a trace if there is one."""
        method = self._methods[call.method.name]
        # An actor elsewhere is sent the trace that its caller is in; its stand-in has a codec for each method it sees.
        if trace and not isinstance(self._cell, StandIn) and (traced := tracing.within(trace, method)) is not method:
            return self._cell.bind(traced)
        return getattr(self.ref, method.name)

    def _reply(self, call: Call, value: Any) -> bytes:
        body = call.write(value)
        if len(body) > self._limit:
            raise TooLarge(
                f"the reply of {call.method} has {len(body):,} bytes, more than the {self._limit:,} that may travel; "
                "ask for less at once"
            )
        return body


def _trace_of(context: Any) -> str:
    """Return the caller's trace context; empty: it sent none."""
    return next((value for key, value in context.invocation_metadata() or () if key == "traceparent"), "")


async def _abort(context: Any, error: Exception, call: Call) -> None:
    status = status_of(error, str(call.method))
    if not isinstance(error, (BadRequest, SendError, LightActorsError, TooLarge)):
        logger.debug("a call of %s failed", call.method, exc_info=error)
    await context.abort_with_status(rpc_status.to_status(status))
