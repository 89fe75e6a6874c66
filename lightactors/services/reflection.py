"""Reflection: a client asks which services there are, and of what their messages are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import ReflectionServicer

ALPHA, NEWER = "grpc.reflection.v1alpha", "grpc.reflection.v1"
"""The package's name that grpcio knows, and the one that newer clients ask for first; its messages are the same."""


def _newer() -> Any:
    """Return a pool that knows the service by its newer name."""
    file = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    file.name, file.package = file.name.replace("v1alpha", "v1"), NEWER
    for field in (field for message in file.message_type for field in message.field):
        if field.HasField("type_name"):
            field.type_name = field.type_name.replace(ALPHA, NEWER)
    for method in file.service[0].method:
        method.input_type = method.input_type.replace(ALPHA, NEWER)
        method.output_type = method.output_type.replace(ALPHA, NEWER)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


class Pools:
    """Several pools of descriptors that look like one; the first that knows a name answers."""

    def __init__(self, pools: Callable[[], Iterable[Any]]) -> None:
        self._pools = pools
        self._fixed = (_newer(), descriptor_pool.Default())

    def _ask(self, question: str, *args: Any) -> Any:
        for pool in [*self._pools(), *self._fixed]:
            try:
                return getattr(pool, question)(*args)
            except KeyError:
                continue
        raise KeyError(args)

    def FindFileByName(self, name: str) -> Any:
        return self._ask("FindFileByName", name)

    def FindFileContainingSymbol(self, name: str) -> Any:
        return self._ask("FindFileContainingSymbol", name)

    def FindMessageTypeByName(self, name: str) -> Any:
        return self._ask("FindMessageTypeByName", name)

    def FindExtensionByNumber(self, *_: Any) -> Any:
        raise KeyError("proto3 has no extensions")

    def FindAllExtensions(self, _: Any) -> list[Any]:
        return []


class Reflection(ReflectionServicer):  # type: ignore[misc]
    """Answers for the services that there are when it is asked."""

    def __init__(self, names: Callable[[], Iterable[str]], pools: Callable[[], Iterable[Any]]) -> None:
        super().__init__((), Pools(pools))
        self._names = names

    def _list_services(self, request: Any) -> Any:
        services = [reflection_pb2.ServiceResponse(name=name) for name in sorted(self._names())]
        listed = reflection_pb2.ListServiceResponse(service=services)
        return reflection_pb2.ServerReflectionResponse(list_services_response=listed, original_request=request)
