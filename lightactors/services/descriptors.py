"""A proto file as protobuf's own descriptors, in a pool of its own: the classes of its messages, made at run time."""

from __future__ import annotations

from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
)
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from lightactors.errors import ContractError
from lightactors.services.model import NULL, Enumeration, Field, File, Mapped, Message, Repeated, Single, WellKnown
from lightactors.services.names import camel, snake

_WELL_KNOWN = {module.DESCRIPTOR.name: module for module in (struct_pb2, timestamp_pb2, duration_pb2, empty_pb2)}

_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}


class Classes:
    """The classes of a file's messages, and the pool that knows them."""

    # A pool for each file: in a notebook a class is often declared again, which one pool would refuse.
    def __init__(self, file: File) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        for name in file.imports:
            self.pool.AddSerializedFile(_WELL_KNOWN[name].DESCRIPTOR.serialized_pb)
        self.file = descriptor_of(file)
        try:
            self.pool.AddSerializedFile(self.file.SerializeToString())
            self._descriptor = self.pool.FindFileByName(self.file.name)
        except (TypeError, KeyError) as error:
            raise ContractError(f"{file.source} makes no proto file: {error}") from None
        self._package = file.package

    def __getitem__(self, message: Message) -> Any:
        """Return the class of a message."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"{self._package}.{message.name}"))


def descriptor_of(file: File) -> FileDescriptorProto:
    """Return a file as protobuf describes it."""
    name = f"{file.package.replace('.', '/')}/{snake(file.service)}.proto"
    described = FileDescriptorProto(name=name, package=file.package, syntax="proto3", dependency=file.imports)
    described.message_type.extend(_message(message, file.package) for message in file.messages)
    described.enum_type.extend(_enum(enum) for enum in file.enums)
    service = described.service.add(name=file.service)
    for rpc in file.rpcs:
        method = service.method.add(
            name=rpc.name,
            input_type=f".{file.package}.{rpc.request.name}",
            output_type=f".{file.package}.{rpc.response.name}",
            server_streaming=rpc.streams or None,
        )
        if rpc.method.idempotent:
            method.options.idempotency_level = descriptor_pb2.MethodOptions.IDEMPOTENT
    return described


def _message(message: Message, package: str) -> DescriptorProto:
    described = DescriptorProto(name=message.name)
    fields = list(message.on_wire())
    oneofs = list(dict.fromkeys(field.oneof for field in fields if field.oneof is not None))
    # What is `optional` is to protobuf alone in a oneof of its own; those come after the real ones.
    oneofs += [f"_{field.name}" for field in fields if field.optional]
    for name in oneofs:
        described.oneof_decl.add(name=name)
    for field in fields:
        added = described.field.add(name=field.name, number=field.number, label=FieldDescriptorProto.LABEL_OPTIONAL)
        _set_type(added, field, described, package)
        if field.optional:
            added.proto3_optional = True
        if field.optional or field.oneof is not None:
            added.oneof_index = oneofs.index(field.oneof or f"_{field.name}")
    for number in sorted(message.reserved.numbers):
        described.reserved_range.add(start=number, end=number + 1)
    described.reserved_name.extend(sorted(message.reserved.names))
    return described


def _set_type(added: FieldDescriptorProto, field: Field, message: DescriptorProto, package: str) -> None:
    kind = field.type
    if isinstance(kind, Repeated):
        added.label = FieldDescriptorProto.LABEL_REPEATED
        _set_single(added, kind.item, package)
    elif isinstance(kind, Mapped):
        added.label = FieldDescriptorProto.LABEL_REPEATED
        entry = message.nested_type.add(name=f"{camel(field.name)}Entry")
        entry.options.map_entry = True
        for number, (name, side) in enumerate((("key", kind.key), ("value", kind.value)), 1):
            half = entry.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            _set_single(half, side, package)
        added.type = FieldDescriptorProto.TYPE_MESSAGE
        added.type_name = f".{package}.{message.name}.{entry.name}"
    else:
        _set_single(added, kind, package)


def _set_single(added: FieldDescriptorProto, kind: Single, package: str) -> None:
    if isinstance(kind, Message | Enumeration):
        added.type_name = f".{package}.{kind.name}"
    elif isinstance(kind, WellKnown):
        added.type_name = f".{kind.name}"
    is_enum = isinstance(kind, Enumeration) or kind is NULL
    composed = FieldDescriptorProto.TYPE_ENUM if is_enum else FieldDescriptorProto.TYPE_MESSAGE
    added.type = _SCALARS.get(kind.name, composed)


def _enum(enum: Enumeration) -> descriptor_pb2.EnumDescriptorProto:
    described = descriptor_pb2.EnumDescriptorProto(name=enum.name)
    for member in enum.members:
        described.value.add(name=member.name, number=member.number)
    for number in sorted(enum.reserved.numbers):
        described.reserved_range.add(start=number, end=number)  # of an enum, the end is part of it
    described.reserved_name.extend(sorted(enum.reserved.names))
    return described
