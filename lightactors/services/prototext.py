"""A proto file as text, to be read by people and by the generators of other languages."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from itertools import groupby

from lightactors.services.model import Enumeration, Field, File, Message, Reserved, Rpc, type_text


def text_of(file: File) -> str:
    """Return a proto file's text."""
    blocks = ["\n".join(_head(file)), "\n".join(_service(file))]
    blocks += ["\n".join(_message(message)) for message in file.messages]
    blocks += ["\n".join(_enum(enum)) for enum in file.enums]
    return "\n\n".join(blocks) + "\n"


def _head(file: File) -> Iterator[str]:
    yield f"// {file.source}, as other languages see it: written by `lightactors protogen`."
    yield "// Written again, it keeps the numbers of its fields. What is left out has its default; `x_null` says None"
    yield "// where that is something else than to leave `x` out."
    if "google/protobuf/struct.proto" in file.imports:
        yield "// A whole number in a google.protobuf.Value is an int in Python."
    yield ""
    yield 'syntax = "proto3";'
    yield ""
    yield f"package {file.package};"
    if file.imports:
        yield ""
        yield from (f'import "{name}";' for name in file.imports)


def _service(file: File) -> Iterator[str]:
    yield from _comment(file.doc)
    yield f"service {file.service} {{"
    for number, rpc in enumerate(file.rpcs):
        if number:
            yield ""
        yield from _indented(_rpc(rpc))
    yield "}"


def _rpc(rpc: Rpc) -> Iterator[str]:
    yield from _comment(rpc.doc)
    stream = "stream " if rpc.streams else ""
    head = f"rpc {rpc.name}({rpc.request.name}) returns ({stream}{rpc.response.name})"
    if rpc.method.idempotent:
        yield f"{head} {{"
        yield "  option idempotency_level = IDEMPOTENT;"
        yield "}"
    else:
        yield f"{head};"


def _message(message: Message) -> Iterator[str]:
    yield from _comment(message.doc)
    lines = [*_reserved(message.reserved), *_fields(message.on_wire())]
    if not lines:
        yield f"message {message.name} {{}}"
        return
    yield f"message {message.name} {{"
    yield from _indented(lines)
    yield "}"


def _fields(fields: Iterable[Field]) -> Iterator[str]:
    for oneof, group in groupby(fields, key=lambda field: field.oneof):
        lines = [line for field in group for line in _field(field)]
        if oneof is None:
            yield from lines
        else:
            yield f"oneof {oneof} {{"
            yield from _indented(lines)
            yield "}"


def _field(field: Field) -> Iterator[str]:
    yield from _comment(field.comment)
    label = "optional " if field.optional else ""
    yield f"{label}{type_text(field.type)} {field.name} = {field.number};"


def _enum(enum: Enumeration) -> Iterator[str]:
    yield from _comment(enum.doc)
    yield f"enum {enum.name} {{"
    yield from _indented(_reserved(enum.reserved))
    yield from _indented(f"{member.name} = {member.number};" for member in enum.members)
    yield "}"


def _reserved(reserved: Reserved) -> Iterator[str]:
    if reserved.numbers:
        yield f"reserved {', '.join(map(str, sorted(reserved.numbers)))};"
    if reserved.names:
        names = ", ".join(f'"{name}"' for name in sorted(reserved.names))
        yield f"reserved {names};"


def _comment(doc: str) -> Iterator[str]:
    return (f"// {line}".rstrip() for line in inspect.cleandoc(doc).splitlines())


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" if line else "" for line in lines)
