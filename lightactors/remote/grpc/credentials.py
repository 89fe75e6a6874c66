"""What gRPC is given to know who is there: TLS credentials, and tokens in a call's metadata."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio

from lightactors.contract import Role
from lightactors.errors import ConfigurationError
from lightactors.security import Tls, Tokens

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]

_AUTHORIZATION = "authorization"
_BEARER = "bearer "

_REFUSAL = "give a valid token of this node as metadata 'authorization: Bearer <token>'"
"""The same for no token, a wrong one and an unknown method: it tells nothing to who has none."""

_log = logging.getLogger("lightactors.remote")


def server_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return what a server shows, and with a `ca` demands of its clients too."""
    cert, key, ca = tls.read("cert"), tls.read("key"), tls.read("ca")
    if cert is None or key is None:
        raise ConfigurationError(f"{tls} has no certificate to listen with; pass Tls(cert=..., key=...)")
    return grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=ca is not None)


def channel_credentials(tls: Tls | None) -> grpc.ChannelCredentials:
    """Return what a client believes, and shows where a server demands it; without a `ca` it believes the system's."""
    tls = tls or Tls()
    roots = tls.read("ca") or _system_roots()
    return grpc.ssl_channel_credentials(roots, private_key=tls.read("key"), certificate_chain=tls.read("cert"))


def _system_roots() -> bytes | None:
    """Return the authorities that this machine trusts; None: gRPC's own list."""
    file = ssl.get_default_verify_paths().cafile  # None where there is no such file, whatever its stub says
    return Path(file).read_bytes() if file else None


def metadata_of(token: str | None) -> tuple[tuple[str, str], ...]:
    """Return the metadata that a call is to carry."""
    return () if token is None else ((_AUTHORIZATION, f"Bearer {token}"),)


def role_of(tokens: Tokens | None, metadata: Metadata | None) -> Role | None:
    """Return what a call's metadata lets its caller be; None: nobody. Without tokens everybody is an admin."""
    if tokens is None:
        return "admin"
    given = [value for key, value in metadata or () if key == _AUTHORIZATION]
    # Two of them: somebody on the way may have looked at the other one.
    if len(given) != 1 or not isinstance(given[0], str) or given[0][: len(_BEARER)].lower() != _BEARER:
        return None
    return tokens.role_of(given[0][len(_BEARER) :])


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses every call without a valid token before a byte of its body is read, whatever is called."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Go on to the method, or to the one that refuses."""
        if role_of(self._tokens, handler_call_details.invocation_metadata) is None:
            return _REFUSE
        return await continuation(handler_call_details)


async def _refuse(requests: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    _log.info("refused a call from %s: no valid token", context.peer())
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, _REFUSAL)


# As a stream, whatever the caller takes it for: the server reads the body of other kinds before it calls them.
_REFUSE: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(_refuse)
