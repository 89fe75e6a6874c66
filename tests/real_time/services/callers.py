"""Callers of typed services that know nothing but their proto files: as other languages do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio.to_thread
import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from msgspec import UNSET

from lightactors import errors
from lightactors.contract import contract_of
from lightactors.services.descriptors import Classes
from lightactors.services.misfit import Misfit
from lightactors.services.model import File, Rpc
from lightactors.services.reading import Readers, take_all
from lightactors.services.schema import file_of
from lightactors.services.writing import Writers
from lightactors.training.stores.contract import Store

Errors = type[Exception]


class Caller:
    """Calls a service with grpc's plain client, in threads: so it does on both loops."""

    def __init__(self, address: str, file: File) -> None:
        self.channel: Any = grpc.insecure_channel(address.removeprefix("grpc://"))
        self.file = file
        self.classes = Classes(file)
        self.rpc_by_name = {rpc.method.name: rpc for rpc in file.rpcs}

    def request(self, name: str, **fields: Any) -> bytes:
        return bytes(self.classes[self.rpc_by_name[name].request](**fields).SerializeToString())

    def path(self, name: str) -> str:
        return f"/{self.file.full_name}/{self.rpc_by_name[name].name}"

    def answer(self, name: str, body: bytes) -> Any:
        return self.classes[self.rpc_by_name[name].response].FromString(body)

    def send_now(self, name: str, body: bytes, **options: Any) -> Any:
        """Send a request as it is; return the response, or raise `grpc.RpcError`."""
        return self.answer(name, self.channel.unary_unary(self.path(name))(body, **options))

    async def send(self, name: str, body: bytes, **options: Any) -> Any:
        """Do the same without blocking the loop."""
        return await anyio.to_thread.run_sync(lambda: self.send_now(name, body, **options))

    async def call(self, name: str, **fields: Any) -> Any:
        return await self.send(name, self.request(name, **fields))

    def stream(self, name: str, **fields: Any) -> Any:
        """Return grpc's iterator of a stream's responses, as bytes."""
        return self.channel.unary_stream(self.path(name))(self.request(name, **fields))

    def items(self, name: str, **fields: Any) -> Iterator[Any]:
        return (self.answer(name, body) for body in self.stream(name, **fields))


async def refusal(call: Callable[[], Any]) -> grpc.RpcError:
    """Return the error that a call ends with."""
    try:
        await call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("nothing was refused")


def reason_of(error: grpc.RpcError) -> str:
    """Return the ErrorInfo's reason."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    assert status.details[0].Unpack(info)
    assert info.domain == "lightactors"
    return str(info.reason)


def violations_of(error: grpc.RpcError) -> dict[str, str]:
    """Return what was wrong, by fields."""
    bad = error_details_pb2.BadRequest()
    status = rpc_status.from_call(error)
    assert status.details[1].Unpack(bad)
    return {violation.field: violation.description for violation in bad.field_violations}


class TypedStore:
    """A `Store` at the other end of its typed service."""

    def __init__(self, address: str) -> None:
        self.caller = Caller(address, file_of(Store))
        self._readers, self._writers = Readers(), Writers()

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: anyio.to_thread.run_sync(lambda: self.call(name, *args, **kwargs))

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method and wait for its answer."""
        rpc = self.caller.rpc_by_name[name]
        body = self._request(rpc, args, kwargs)
        try:
            response = self.caller.send_now(name, body)
        except grpc.RpcError as error:
            raise _as_here(error) from None
        return take_all(self._readers.takers(rpc.response.fields), response).get("value")

    def _request(self, rpc: Rpc, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        arguments = contract_of(Store).methods[rpc.method.name].signature.bind(*args, **kwargs).arguments
        message = self.caller.classes[rpc.request]()
        try:
            for name, put in self._writers.puts(rpc.request.fields):
                if arguments.get(name, UNSET) is not UNSET:
                    put(arguments[name], message)
        except Misfit as misfit:  # what no client of a typed language could even write down
            raise errors.InvalidArgument(str(misfit)) from None
        return bytes(message.SerializeToString())


def _as_here(error: grpc.RpcError) -> Exception:
    cls: Errors = getattr(errors, reason_of(error), errors.ActorFailed)
    return (errors.InvalidArgument if cls is errors.WrongCall else cls)(error.details())
