"""Reflection: a client asks which services there are, and of what their messages are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import ReflectionServicer


class Pools:
    """Several pools of descriptors that look like one; the first that knows a name answers."""

    def __init__(self, pools: Callable[[], Iterable[Any]]) -> None:
        self._pools = pools

    def _ask(self, question: str, *args: Any) -> Any:
        for pool in [*self._pools(), descriptor_pool.Default()]:
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
