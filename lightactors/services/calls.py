"""The calls of one actor's handlers as bytes of protobuf: what a typed service reads and answers."""

from __future__ import annotations

from inspect import Parameter
from typing import Any

from google.protobuf.message import DecodeError, EncodeError

from lightactors.services.descriptors import Classes
from lightactors.services.misfit import Misfit
from lightactors.services.model import File, Rpc
from lightactors.services.reading import Readers, Takers
from lightactors.services.writing import Writers

VIOLATIONS = 10
"""Misfits of one request that are told of."""


class BadRequest(Exception):
    """A request that can't be read, and what is wrong with its fields."""

    def __init__(self, text: str, misfits: list[Misfit]) -> None:
        super().__init__(text)
        self.misfits = misfits


class BadReply(Exception):
    """A reply that is not what the handler's annotation says, or that other languages can't hold."""


class Call:
    """One method: its request read, its reply written."""

    def __init__(self, rpc: Rpc, classes: Classes, readers: Readers, writers: Writers) -> None:
        self.rpc = rpc
        self.method = rpc.method
        self.new_request = classes[rpc.request]
        self.new_response = classes[rpc.response]
        self._takers: Takers = readers.takers(rpc.request.fields)
        self._puts = writers.puts(rpc.response.fields)
        parameters = rpc.method.signature.parameters.values()
        self._positional = [p for p in parameters if p.kind is Parameter.POSITIONAL_ONLY]

    def read(self, body: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments; raise `BadRequest`."""
        try:
            message = self.new_request.FromString(body)
        except DecodeError as error:
            raise BadRequest(f"{self.method}: these bytes are no {self.rpc.request.name}: {error}", []) from None
        given: dict[str, Any] = {}
        misfits = []
        for name, take in self._takers:
            try:
                take(message, given)
            except Misfit as misfit:
                misfits.append(misfit.under(name))
        if misfits:
            raise BadRequest(f"{self.method}: {'; '.join(map(str, misfits[:VIOLATIONS]))}", misfits[:VIOLATIONS])
        args = [given.pop(p.name, p.default) for p in self._positional]
        return args, given

    def write(self, value: Any) -> bytes:
        """Return a reply, or an item of a stream, as bytes; raise `BadReply`."""
        message = self.new_response()
        try:
            for _, put in self._puts:
                put(value, message)
            return bytes(message.SerializeToString())
        except (Misfit, EncodeError, RecursionError) as error:
            raise BadReply(f"the reply of {self.method} is nothing for other languages: {error}") from None


class Calls:
    """The calls of a file's methods, by their names in it."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.classes = Classes(file)
        readers, writers = Readers(), Writers()
        self.by_name = {rpc.name: Call(rpc, self.classes, readers, writers) for rpc in file.rpcs}
