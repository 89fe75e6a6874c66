from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Hello(_message.Message):
    __slots__ = ("protocol", "node", "system", "version", "role", "limit")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    node: str
    system: str
    version: str
    role: str
    limit: int
    def __init__(self, protocol: _Optional[int] = ..., node: _Optional[str] = ..., system: _Optional[str] = ..., version: _Optional[str] = ..., role: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("hello", "frames")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    frames: bytes
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., frames: _Optional[bytes] = ...) -> None: ...
