"""Calls through protobuf's bytes: what goes in comes out, and what can't be is named."""

from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from lightactors.services.calls import BadReply, BadRequest, Call, Calls
from lightactors.services.schema import file_of
from lightactors.training.records import AttemptedRollout, Rollout, Span
from lightactors.training.stores.contract import Store
from tests.services.zoo import Base, Cat, Colour, Dog, Everything, Label, Node, Point, Wider

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
INT = st.integers(-(2**63), 2**63 - 1)
REAL = st.floats(allow_nan=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | REAL | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
PETS = st.builds(Cat, TEXT, INT) | st.builds(Dog, TEXT) | TEXT
NODES = st.recursive(
    st.builds(Node, INT), lambda inner: st.builds(Node, INT, st.lists(inner, max_size=3)), max_leaves=5
)
MOMENTS = st.datetimes(timezones=st.just(datetime.UTC))
LABELS = st.one_of(
    st.builds(lambda text: Label(text=text), TEXT),
    st.builds(lambda text, size: Label(text=text, size=size), TEXT, INT | st.none()),
)
EVERYTHING = st.builds(
    Everything,
    text=TEXT,
    number=INT,
    real=REAL,
    truth=st.booleans(),
    raw=st.binary(),
    colour=st.sampled_from(Colour),
    point=st.builds(Point, REAL, REAL),
    label=LABELS,
    pet=PETS,
    moment=MOMENTS,
    span=st.timedeltas(),
    day=st.dates(),
    id=st.uuids(),
    price=st.decimals(allow_nan=False),
    anything=PLAIN,
    mode=st.sampled_from(["fast", "slow"]),
    pair=st.tuples(INT, TEXT),
    words=st.lists(TEXT),
    distinct=st.sets(INT),
    table=st.dictionaries(TEXT, st.lists(INT)),
    by_number=st.dictionaries(INT, st.builds(Cat, TEXT)),
    grid=st.lists(st.lists(REAL)),
    holes=st.lists(INT | st.none()),
    pets=st.lists(PETS | st.none()),
    free=st.dictionaries(TEXT, PLAIN),
    maybe_list=st.lists(TEXT) | st.none(),
    maybe_map=st.dictionaries(TEXT, INT) | st.none(),
    maybe_pet=PETS | st.none(),
    five=INT | st.none(),
    colours=st.lists(st.sampled_from(Colour)),
    tree=NODES | st.none(),
)


def again(call: Call, value: Any) -> Any:
    """Send a value through a reply's bytes and read them as the request, which looks the same."""
    _, given = call.read(call.write(value))
    return given["value"]


def request(call: Call, **fields: Any) -> bytes:
    """Return a request as another language would send it, given as protobuf's JSON."""
    message = json_format.ParseDict(fields, call.new_request())
    return bytes(message.SerializeToString())


def refused(call: Call, body: bytes) -> dict[str, str]:
    with pytest.raises(BadRequest) as failure:
        call.read(body)
    return {misfit.field: misfit.text for misfit in failure.value.misfits}


@settings(deadline=None)
@given(EVERYTHING)
def test_everything_comes_back(zoo: dict[str, Call], value: Everything) -> None:
    assert again(zoo["everything"], value) == value


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.zeros((0, 3), np.int8), np.float32(3) * np.ones(()), np.array([True, False])],
    ids=str,
)
def test_arrays_come_back(zoo: dict[str, Call], array: Any) -> None:
    back = again(zoo["tensor"], array)
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert np.array_equal(back, array)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dtype": "|O", "shape": ["1"], "data": "AAAAAAAAAAA="}, "no array"),
        ({"dtype": "nonsense"}, "nonsense"),
        ({"dtype": "<f8", "shape": ["-1"]}, "no array"),
        ({"dtype": "<f8", "shape": ["2"], "data": "AAAAAAAAAAA="}, "no array"),
    ],
)
def test_what_is_no_array_is_refused(zoo: dict[str, Call], fields: dict[str, Any], said: str) -> None:
    assert said in refused(zoo["tensor"], request(zoo["tensor"], value=fields))["value"]


def test_subclass_arrives_as_itself_where_its_base_is_asked_for(zoo: dict[str, Call]) -> None:
    plain = Base(id="a", note="n")
    wide = Wider(id="b", inside=Node(1, [Node(2)]), size=0)
    assert [type(again(zoo["base"], value)) for value in (plain, wide)] == [Base, Wider]
    assert [again(zoo["base"], value) for value in (plain, wide)] == [plain, wide]
    assert again(zoo["wider"], wide) == wide


def test_what_is_left_out_has_its_default(zoo: dict[str, Call]) -> None:
    assert zoo["update"].read(b"") == ([], {})
    assert zoo["plain"].read(request(zoo["plain"], value=1)) == ([1], {})
    everything = zoo["everything"].read(request(zoo["everything"], value=LEAST))[1]["value"]
    assert (everything.mode, everything.five, everything.colours, everything.maybe_list) == (
        "fast",
        5,
        [Colour.RED],
        None,
    )


LEAST = {
    "text": "t",
    "colour": "COLOUR_BLUE",
    "point": {"x": 1},
    "label": {"text": ""},
    "pet": {"cat": {"name": "Tom"}},
    "moment": "2024-02-03T04:05:06Z",
    "span": "-1.5s",
    "day": "2024-02-03",
    "id": "12345678123456781234567812345678",
    "price": "1.50",
    "anything": [1, 1.5, None, {"a": True}],
}


def test_none_is_another_thing_than_absence(zoo: dict[str, Call]) -> None:
    update = zoo["update"]
    assert update.read(request(update, note="x", size="0")) == ([], {"note": "x", "size": 0})
    message = update.new_request()
    message.note_null = 0
    assert update.read(message.SerializeToString()) == ([], {"note": None})
    least = request(zoo["everything"], value={**LEAST, "fiveNull": None})
    assert zoo["everything"].read(least)[1]["value"].five is None


def test_foreign_values_are_read_as_python_s_own(zoo: dict[str, Call]) -> None:
    value = zoo["everything"].read(request(zoo["everything"], value=LEAST))[1]["value"]
    assert (value.pet, value.colour, value.point) == (Cat("Tom"), Colour.BLUE, Point(1.0, 0.0))
    assert value.moment == datetime.datetime(2024, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    assert value.span == datetime.timedelta(seconds=-1.5)
    assert value.anything == [1, 1.5, None, {"a": True}]
    assert type(value.anything[0]) is int


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"mode": "swift"}, "value.mode", "'swift' is unknown; choose from 'fast', 'slow'"),
        ({"colour": 7}, "value.colour", "7 is unknown; choose from COLOUR_RED, COLOUR_BLUE"),
        ({"colour": 0}, "value.colour", "0 is unknown"),
        ({"pet": {}}, "value.pet", "nothing is given; give one of cat, dog, string_value"),
        ({"pet": None}, "value.pet", "it is required"),
        ({"id": "me"}, "value.id", "'me' is no UUID"),
        ({"price": "dear"}, "value.price", "'dear' is no Decimal"),
        ({"day": "today"}, "value.day", "'today' is no date"),
        ({"pets": [{"cat": {}}, {}, {"dog": {}}], "holes": [{}]}, "", ""),
        ({"table": {"a": {"values": ["1"]}}, "anything": None}, "", ""),
        ({"anything": []}, "", ""),
    ],
)
def test_bad_field_is_named(zoo: dict[str, Call], change: dict[str, Any], field: str, said: str) -> None:
    fields = {name: value for name, value in {**LEAST, **change}.items() if name == "anything" or value is not None}
    body = request(zoo["everything"], value=fields)
    if field:
        assert said in refused(zoo["everything"], body)[field]
    else:
        zoo["everything"].read(body)


def test_a_value_without_a_kind_is_named(zoo: dict[str, Call]) -> None:
    body = zoo["plain"].new_request()
    body.value.struct_value.fields["deep"].list_value.values.add()
    (said,) = refused(zoo["plain"], body.SerializeToString()).items()
    assert said == ("value.deep[0]", "a Value without a kind; set one of them, null_value for None")


def test_limits_of_an_annotation_are_kept(zoo: dict[str, Call]) -> None:
    assert "`int` >= 1" in refused(zoo["limited"], request(zoo["limited"], size="0"))["size"]


def test_all_bad_fields_are_told_of(zoo: dict[str, Call]) -> None:
    calls = {call.method.name: call for call in Calls(file_of(Store)).by_name.values()}
    call = calls["enqueue_rollout"]
    body = request(call, mode="banana", config={"maxAttempts": "0"})
    assert refused(call, body) == {
        "input": "it is required, and not there",
        "mode": "'banana' is unknown; choose from 'train', 'val', 'test'",
        "config": "no RolloutConfig: max_attempts is 0; give a whole number, 1 or more",
    }


def test_torn_bytes_are_refused(zoo: dict[str, Call]) -> None:
    with pytest.raises(BadRequest, match=r"Zoo.base\(\): these bytes are no BaseRequest"):
        zoo["base"].read(b"\xff\xff\xff")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (2**53 + 1, "more than 53 bits"),
        ({"a": [b"raw"]}, "value.a[0]: a google.protobuf.Value holds no bytes"),
        ({1: 2}, "the key 1 is no str"),
        (object(), "use plain data"),
    ],
)
def test_reply_that_plain_data_can_t_hold_is_refused(zoo: dict[str, Call], value: Any, said: str) -> None:
    with pytest.raises(BadReply) as failure:
        zoo["plain"].write(value)
    assert said in str(failure.value)


def test_reply_nested_too_deeply_is_refused(zoo: dict[str, Call]) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(BadReply):
        zoo["plain"].write(deep)


@pytest.mark.parametrize("value", [None, 1, Cat("a"), Base])
def test_reply_that_is_not_what_the_annotation_says_is_refused(zoo: dict[str, Call], value: Any) -> None:
    with pytest.raises(BadReply, match=r"the reply of Zoo.base\(\)"):
        zoo["base"].write(value)


def test_plain_data_keeps_what_a_double_can(zoo: dict[str, Call]) -> None:
    body = zoo["plain"].write({"whole": 2**53, "real": 0.5, "infinite": math.inf, "scalar": np.float32(1.5)})
    message = zoo["plain"].new_request()
    message.MergeFromString(body)
    assert zoo["plain"].read(message.SerializeToString())[0] == [
        {"whole": 2**53, "real": 0.5, "infinite": math.inf, "scalar": 1.5}
    ]


@pytest.mark.parametrize("cls", [Rollout, AttemptedRollout, Span])
def test_records_of_the_store_are_messages(cls: type[Any]) -> None:
    assert cls.__name__ in {message.name for message in file_of(Store).messages}


def test_unset_never_arrives(zoo: dict[str, Call]) -> None:
    assert UNSET not in zoo["update"].read(b"")[1].values()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(zoo: dict[str, Call], body: bytes) -> None:
    for call in zoo.values():
        try:
            call.read(body)
        except BadRequest:
            continue


@settings(deadline=None, max_examples=300)
@given(EVERYTHING, st.data())
def test_mutated_requests_are_read_or_refused(zoo: dict[str, Call], value: Everything, data: st.DataObject) -> None:
    body = bytearray(zoo["everything"].write(value))
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        zoo["everything"].read(bytes(body))
    except BadRequest:
        return
