"""A hello as gRPC carries it."""

from __future__ import annotations

from lightactors.contract import ROLES, Role
from lightactors.errors import LinkError
from lightactors.remote.grpc._v1.link_pb2 import Batch
from lightactors.remote.grpc._v1.link_pb2 import Hello as WireHello
from lightactors.remote.grpc.wire import parse
from lightactors.remote.hello import Hello

WELCOME = "lightactors-link", "welcome"
"""The metadata that a node answers with first to whom it does not refuse."""


def greeting(said: Hello) -> bytes:
    """Return the first message of one end."""
    hello = WireHello(
        protocol=said.protocol,
        node=said.node,
        system=said.system,
        version=said.version,
        role=said.role,
        limit=said.limit,
    )
    return Batch(hello=hello).SerializeToString()


def from_wire(data: object) -> Hello:
    """Return who speaks; raise `LinkError` for what is no hello. A role that nobody knows here is the least of them."""
    batch = parse(data) if isinstance(data, bytes) else Batch()
    if not batch.HasField("hello"):
        raise LinkError("the first message of a link is a hello")
    came = batch.hello
    role = _ROLES.get(came.role, "viewer")
    return Hello(came.node[:_LONG], came.system[:_LONG], came.version[:_LONG], came.limit, role, came.protocol)


_ROLES: dict[str, Role] = {role: role for role in ROLES}

_LONG = 200
"""Characters that are kept of what a stranger says of itself."""
