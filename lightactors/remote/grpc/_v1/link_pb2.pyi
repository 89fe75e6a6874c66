from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("node", "protocol", "role", "system", "version")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    node: str
    system: str
    version: str
    role: str
    def __init__(self, protocol: int | None = ..., node: str | None = ..., system: str | None = ..., version: str | None = ..., role: str | None = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("frames", "hello")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    frames: bytes
    def __init__(self, hello: Hello | _Mapping | None = ..., frames: bytes | None = ...) -> None: ...
