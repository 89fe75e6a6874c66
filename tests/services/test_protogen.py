"""Writing proto files: numbers stay, what is gone is reserved, what would break a client is refused."""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

import lightactors as la
from lightactors.errors import ConfigurationError, ContractError
from lightactors.services.calls import Calls
from lightactors.services.numbers import numbers_in
from lightactors.services.protogen import protogen, write
from lightactors.services.prototext import text_of
from lightactors.services.schema import file_of
from tests.services.zoo import Colour

ROOT = Path(__file__).parents[2]


def test_store_s_proto_file_is_up_to_date() -> None:
    """The wire is what clients of old were built for: add at the end, and let protogen write the file."""
    write("lightactors:Store", ROOT / "protos/lightactors/v1/store.proto", check=True)


def test_store_is_served_with_the_numbers_of_its_proto_file() -> None:
    """An installed package has no `protos/`: pin what would get another number there with a `FieldNumber`."""
    committed = (ROOT / "protos/lightactors/v1/store.proto").read_text()
    served = numbers_in(protogen("lightactors:Store"), "the classes")
    assert {name: block.fields for name, block in served.blocks.items()} == {
        name: block.fields for name, block in numbers_in(committed, "the file").blocks.items()
    }


def actor_of(**fields: Any) -> type[Any]:
    """Return an actor that takes a record of these fields."""
    record = make_dataclass("Record", fields.items(), namespace={"__doc__": "One."})

    @la.actor
    class Keeper:
        @la.handler
        def keep(self, record: Any) -> None: ...

    Keeper.keep.function.__annotations__["record"] = record
    return Keeper


def record_in(path: Path) -> list[str]:
    """Return the lines of the record's message."""
    text = path.read_text()
    lines = text[text.index("message Record {") :].partition("}")[0].splitlines()[1:]
    return [line.strip() for line in lines]


@pytest.fixture
def proto(tmp_path: Path) -> Path:
    path = tmp_path / "protos" / "keeper.proto"
    assert write(actor_of(a=int, b=str, c=list[int]), path, package="demo.v1")
    return path


def test_first_numbers_are_the_order_of_declaration(proto: Path) -> None:
    assert record_in(proto) == ["int64 a = 1;", "string b = 2;", "repeated int64 c = 3;"]


def test_written_again_nothing_changes(proto: Path) -> None:
    assert not write(actor_of(a=int, b=str, c=list[int]), proto)


def test_numbers_are_kept_in_another_order(proto: Path) -> None:
    assert write(actor_of(c=list[int], new=float, a=int, b=str), proto)
    assert record_in(proto) == ["repeated int64 c = 3;", "double new = 4;", "int64 a = 1;", "string b = 2;"]


def test_package_is_kept(proto: Path) -> None:
    write(actor_of(a=int), proto)
    assert "package demo.v1;" in proto.read_text()


def test_what_is_gone_is_reserved_for_ever(proto: Path) -> None:
    write(actor_of(a=int, c=list[int]), proto)
    assert record_in(proto) == ["reserved 2;", 'reserved "b";', "int64 a = 1;", "repeated int64 c = 3;"]
    write(actor_of(c=list[int], d=str), proto)
    assert record_in(proto) == ["reserved 1, 2;", 'reserved "a", "b";', "repeated int64 c = 3;", "string d = 4;"]


def test_name_that_comes_back_gets_a_new_number(proto: Path) -> None:
    write(actor_of(a=int, c=list[int]), proto)
    write(actor_of(a=int, c=list[int], b=str), proto)
    assert record_in(proto) == ["reserved 2;", "int64 a = 1;", "repeated int64 c = 3;", "string b = 4;"]


def test_changed_type_is_refused_by_name(proto: Path) -> None:
    before = proto.read_text()
    with pytest.raises(ContractError, match=r"Record\.a, which was int64 and is string; Record\.c, which was repeated"):
        write(actor_of(a=str, b=str, c=dict[str, int]), proto)
    assert proto.read_text() == before


def test_changed_type_gets_a_new_number_by_force(proto: Path) -> None:
    write(actor_of(a=str, b=str, c=list[int]), proto, force=True)
    assert record_in(proto) == ["reserved 1;", "string a = 4;", "string b = 2;", "repeated int64 c = 3;"]


def test_field_that_becomes_optional_keeps_its_number(proto: Path) -> None:
    write(actor_of(a=int | None, b=str, c=list[int]), proto)
    assert record_in(proto)[0] == "optional int64 a = 1;"


def test_check_writes_nothing_and_tells_what_changed(proto: Path) -> None:
    before = proto.read_text()
    with pytest.raises(ContractError, match=r"you changed the wire: .*lightactors protogen") as failure:
        write(actor_of(a=int, b=str, c=list[int], d=float), proto, check=True)
    assert "+  double d = 4;" in str(failure.value)
    assert proto.read_text() == before


def test_check_of_what_was_never_written(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="is not there"):
        write(actor_of(a=int), tmp_path / "none.proto", package="demo", check=True)


def test_members_of_an_enum_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "keeper.proto"
    write(actor_of(colour=Colour), path, package="demo")
    path.write_text(path.read_text().replace("COLOUR_RED = 1;", "COLOUR_OLD = 1;\n  COLOUR_RED = 7;"))
    write(actor_of(colour=Colour), path)
    assert path.read_text().endswith(
        "enum Colour {\n"
        "  reserved 1;\n"
        '  reserved "COLOUR_OLD";\n'
        "  COLOUR_UNSPECIFIED = 0;\n"
        "  COLOUR_RED = 7;\n"
        "  COLOUR_BLUE = 2;\n"
        "}\n"
    )


def test_served_by_the_file_that_was_written(proto: Path) -> None:
    turned = actor_of(c=list[int], b=str, a=int)
    numbers = numbers_in(proto.read_text(), "it")
    calls = Calls(file_of(turned, package="demo.v1", numbers=numbers))
    assert [field.number for field in calls.by_name["Keep"].rpc.request.fields[0].type.fields] == [3, 2, 1]  # type: ignore[union-attr]


def test_pinned_number_is_kept_without_a_file() -> None:
    text = protogen(actor_of(new=int, a=Annotated[int, la.FieldNumber(1)], b=str), package="demo")
    assert "int64 new = 2;\n  int64 a = 1;\n  string b = 3;" in text


def test_number_pinned_twice_is_refused() -> None:
    one = Annotated[int, la.FieldNumber(1)]
    with pytest.raises(ContractError, match=r"Record\.b can't have the number 1: it is taken"):
        protogen(actor_of(a=one, b=one))


def test_pin_that_the_file_contradicts_is_refused(proto: Path) -> None:
    with pytest.raises(ContractError, match=r"Record\.a, whose number was 1 and is 7"):
        write(actor_of(a=Annotated[int, la.FieldNumber(7)], b=str, c=list[int]), proto)


def test_every_file_of_ours_reads_back() -> None:
    for actor in ("lightactors:Store", "tests.services.zoo:Zoo"):
        text = protogen(actor)
        assert protogen(actor, before=numbers_in(text, actor)) == text


def test_reserved_ranges_of_hands_are_read() -> None:
    numbers = numbers_in(
        'message Record { reserved 1 to 3, 9; reserved "x", "y"; int64 a = 4 [deprecated = true]; }', ""
    )
    assert numbers.blocks["Record"].reserved.numbers == {1, 2, 3, 9}
    assert numbers.blocks["Record"].fields == {"a": ("int64", 4)}


@pytest.mark.parametrize("text", ["message Record {", "message Record = 3;", "message Record { int64 a; }", "x"])
def test_what_is_no_proto_file_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match=r"broken\.proto"):
        numbers_in(text, "broken.proto")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("lightactors", "say package.module:Actor"),
        ("no.such.module:Actor", "no.such.module can't be imported: No module named 'no'"),
        ("lightactors:Shop", "lightactors has no Shop"),
    ],
)
def test_wrong_name_is_refused(named: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        protogen(named)
    assert said in str(failure.value)


def test_what_is_no_actor_is_refused() -> None:
    with pytest.raises(ContractError, match="is not an actor"):
        protogen("pathlib:Path")


def test_names_that_protobuf_takes_for_one_are_refused() -> None:
    with pytest.raises(ContractError, match="makes no proto file"):
        protogen(actor_of(maybe=int, maybe_=str), package="demo")


def test_record_may_be_called_as_the_service() -> None:
    record = make_dataclass("Keeper", [("a", int)])
    actor = actor_of(a=int)
    actor.keep.function.__annotations__["record"] = record
    assert "message KeeperRecord {" in protogen(actor, package="demo")


def test_bad_package_is_refused() -> None:
    with pytest.raises(ContractError, match="'my-demo' is no name of a package"):
        protogen("tests.services.zoo:Zoo", package="my-demo")


def test_text_is_the_same_with_and_without_a_file() -> None:
    @dataclass
    class Unused: ...

    assert text_of(file_of(la.Store)) == protogen(la.Store)
