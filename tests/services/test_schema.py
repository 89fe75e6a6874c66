"""Contracts as proto files: the text is what protoc reads, and what other languages can't know is refused by name."""

from __future__ import annotations

import enum
import typing
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

import lightactors as la
from lightactors.errors import ContractError
from lightactors.services.descriptors import descriptor_of
from lightactors.services.model import File
from lightactors.services.prototext import text_of
from lightactors.services.schema import file_of
from lightactors.training.stores.memory import MemoryStore
from tests.services import zoo
from tests.services.zoo import Zoo


@la.actor
class Counter:
    """Counts."""

    @la.handler(idempotent=True)
    def value(self) -> int:
        """Return the count."""
        return 0

    @la.handler
    def add(self, amount: int = 1, *, why: str | None = "because") -> int:
        return amount

    @la.handler
    async def until(self, end: int) -> AsyncIterator[int]:
        """Count on.

        One by one.
        """
        yield end


TEXT = """\
// tests.services.test_schema.Counter, as other languages see it: written by `lightactors protogen`.
// Written again, it keeps the numbers of its fields. What is left out has its default; `x_null` says None
// where that is something else than to leave `x` out.
// A whole number in a google.protobuf.Value is an int in Python.

syntax = "proto3";

package demo.v1;

import "google/protobuf/struct.proto";

// Counts.
service Counter {
  // Return the count.
  rpc Value(ValueRequest) returns (ValueResponse) {
    option idempotency_level = IDEMPOTENT;
  }

  rpc Add(AddRequest) returns (AddResponse);

  // Count on.
  //
  // One by one.
  rpc Until(UntilRequest) returns (stream UntilResponse);
}

message ValueRequest {}

message ValueResponse {
  int64 value = 1;
}

message AddRequest {
  // Default: 1.
  optional int64 amount = 1;
  oneof why_or_null {
    // Default: because.
    string why = 2;
    google.protobuf.NullValue why_null = 3;
  }
}

message AddResponse {
  int64 value = 1;
}

message UntilRequest {
  int64 end = 1;
}

message UntilResponse {
  int64 value = 1;
}
"""


def test_text_reads_like_one_by_hand() -> None:
    assert text_of(file_of(Counter, package="demo.v1")) == TEXT


def by_protoc(file: File, folder: Path) -> FileDescriptorProto:
    """Return a file's text as protoc understands it."""
    described = descriptor_of(file)
    path = folder / described.name
    path.parent.mkdir(parents=True)
    path.write_text(text_of(file))
    out = folder / "set"
    google = Path(protoc.__file__).parent / "_proto"
    assert protoc.main(["protoc", f"-I{folder}", f"-I{google}", f"--descriptor_set_out={out}", str(path)]) == 0
    (parsed,) = FileDescriptorSet.FromString(out.read_bytes()).file
    return parsed


@pytest.mark.parametrize("actor", [la.Store, Zoo, Counter], ids=lambda actor: actor.__name__)
def test_text_says_what_is_served(actor: type[Any], tmp_path: Path) -> None:
    file = file_of(actor)
    parsed, described = by_protoc(file, tmp_path), descriptor_of(file)
    for one in parsed.message_type:
        for field in [*one.field, *(half for entry in one.nested_type for half in entry.field)]:
            field.ClearField("json_name")  # protoc writes down what follows from the name
    assert parsed == described


def test_engine_is_served_as_the_store_that_it_is() -> None:
    assert file_of(MemoryStore).full_name == "lightactors.v1.Store"
    assert text_of(file_of(MemoryStore)) == text_of(file_of(la.Store))


def test_engine_with_handlers_of_its_own_is_served_as_itself() -> None:
    class More(MemoryStore):
        @la.handler
        def more(self) -> int:
            return 1

    assert file_of(More, package="demo").full_name == "demo.More"


def test_what_is_for_python_only_is_left_out() -> None:
    file = file_of(Zoo)
    requests = {rpc.method.name: [field.name for field in rpc.request.fields] for rpc in file.rpcs}
    assert "local" not in requests
    assert requests["half_local"] == ["shown"]
    assert "AddOtelSpan" not in {rpc.name for rpc in file_of(la.Store).rpcs}


def test_package_is_the_module_s_name() -> None:
    assert file_of(Zoo).package == zoo.__name__


def test_union_takes_the_name_that_its_module_gives_it() -> None:
    assert "Pet" in {message.name for message in file_of(Zoo).messages}


class Other:
    """Nothing that another language knows."""


class Mixed(enum.Enum):
    ONE = 1


@dataclass
class Holder:
    inside: Other


def actor_taking(hint: Any) -> type[Any]:
    """Return an actor with a handler of one parameter, annotated so."""

    class Taker:
        def take(self, it: Any) -> None: ...

    Taker.take.__annotations__["it"] = hint
    Taker.take = la.handler(Taker.take)  # type: ignore[method-assign,assignment]
    Taker.take.__set_name__(Taker, "take")  # type: ignore[attr-defined]
    return la.actor(Taker)


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (Counter, "is a ref of Counter, which other languages can't hold"),
        (la.Ref[int], "is a ref of Ref"),
        (Other, "is Other, which no other language knows"),
        (list[Other], "is Other"),
        (Holder, "field 'inside' of Holder is Other"),
        (dict[Other, int], "is Other"),
        (dict[float, int], "has no keys that protobuf knows"),
        (list[int] | list[str], "nothing tells one list from another"),
        (typing.Literal["a", 1], "mixes types"),
        (typing.Callable[[], int], "which no other language knows"),
    ],
    ids=str,
)
def test_what_no_other_language_knows_is_refused_by_name(hint: Any, said: str) -> None:
    with pytest.raises(ContractError) as failure:
        file_of(actor_taking(hint))
    assert "parameter 'it' of Taker.take()" in str(failure.value)
    assert said in str(failure.value)


def test_variadic_handler_is_refused() -> None:
    @la.actor
    class Greedy:
        @la.handler
        def eat(self, *things: int) -> None: ...

    with pytest.raises(ContractError, match=r"Greedy.eat\(\) takes \*things"):
        file_of(Greedy)


def test_two_classes_of_one_name_are_refused() -> None:
    @dataclass
    class Node:
        name: str

    @la.actor
    class Two:
        @la.handler
        def a(self, node: Node) -> None: ...
        @la.handler
        def b(self, node: zoo.Node) -> None: ...

    Two.a.function.__annotations__["node"] = Node
    with pytest.raises(ContractError, match="two types are called Node"):
        file_of(Two)


def test_behaviour_is_refused() -> None:
    @la.actor
    async def echo(mailbox: la.Mailbox[int]) -> None: ...

    with pytest.raises(ContractError, match="echo is a behaviour"):
        file_of(echo)


def test_actor_without_handlers_is_refused() -> None:
    @la.actor
    class Mute: ...

    with pytest.raises(ContractError, match="Mute has no handler that another language could call"):
        file_of(Mute)
