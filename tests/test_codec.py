"""What is annotated arrives as its type, what is not as plain data, and what can't travel raises at the sender."""

from __future__ import annotations

import datetime
import enum
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lightactors as la
from lightactors.buffers import Leaf
from lightactors.codec import AnyObjectRef, Arrivals, Codec, MethodCodec, Packed, Parcel
from lightactors.contract import contract_of
from lightactors.errors import ActorFailed, CannotTravel, WrongCall
from lightactors.remote import failures


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    tags: frozenset[str] = frozenset()


class Oops(Exception):
    """An error of the user's, whose class is known in the actor's module."""

    def __init__(self, code: int, *, text: str) -> None:
        super().__init__(text)
        self.code = code


@la.actor
class Every:
    @la.handler
    def typed(self, a: Point, b: set[int], c: tuple[int, str], d: Colour, e: datetime.datetime) -> Point: ...  # type: ignore[empty-body]

    @la.handler
    def plain(self, value, other=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        ...

    @la.handler
    def many(self, first: int, /, second: int = 2, *rest: Point, third: int = 3, **more: set[int]) -> None: ...

    @la.handler
    def array(self, values: numpy.ndarray[Any, Any]) -> None: ...

    @la.handler
    def later(self) -> la.Eventually[Point]: ...  # type: ignore[empty-body]

    @la.handler
    async def stream(self) -> AsyncIterator[Point]:
        yield Point(1)


class NoObjects:
    """A codec's objects where no memory is shared."""

    arrivals = Arrivals()

    def place(self, leaf: Leaf) -> None:
        return None

    def refer(self, ref: AnyObjectRef) -> Any:
        raise AssertionError("no object refs here")

    def reopen(self, parcel: Parcel | Packed) -> None:
        raise AssertionError("no parcels here")

    def close(self) -> None: ...
    def kept(self) -> Any:
        raise AssertionError("nothing came here")

    def view(self, wire: Any, *, is_writable: bool) -> memoryview:
        raise ValueError("no objects here")

    def ref(self, wire: Any) -> object:
        raise ValueError("no objects here")


class NoRefs:
    """A codec's refs where there are none."""

    objects = NoObjects()

    def leave(self, value: object) -> bytes | None:
        return None

    def arrive(self, wire: bytes) -> object:
        raise ValueError("no refs here")

    def adopt(self, arrived: object, hint: Any) -> object:
        raise ValueError("no refs here")


def codec(name: str) -> MethodCodec:
    return MethodCodec(contract_of(Every).methods[name], Codec(NoRefs()))


def travel(name: str, *args: Any, **kwargs: Any) -> Any:
    there = codec(name)
    return there.decode_call(codec(name).encode_call(args, kwargs))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN)
def test_plain_data_comes_as_it_was(value: Any) -> None:
    assert travel("plain", value) == ((value,), {})
    assert codec("plain").decode_reply(codec("plain").encode_reply(value)) == value


def test_what_is_annotated_arrives_as_its_type() -> None:
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    values = Point(1, frozenset({"a"})), {1, 2}, (1, "x"), Colour.RED, when
    assert travel("typed", *values) == (values, {})


def test_every_way_to_call() -> None:
    assert travel("many", 1) == ((1,), {})
    assert travel("many", 1, 5) == ((1, 5), {})
    assert travel("many", 1, 5, Point(6)) == ((1, 5, Point(6)), {})
    assert travel("many", 1, third=4, odd={1}) == ((1,), {"third": 4, "odd": {1}})


def test_argument_that_is_unset_stays_away() -> None:
    assert travel("many", 1, third=msgspec.UNSET) == ((1,), {})
    assert travel("plain", 1, msgspec.UNSET) == ((1,), {})


@pytest.mark.parametrize("name", ["later", "stream", "typed"])
def test_reply_has_the_type_that_is_brought(name: str) -> None:
    assert codec(name).decode_reply(codec(name).encode_reply(Point(1))) == Point(1)


@pytest.mark.parametrize("dtype", ["f4", "i8", "?", "c16", ">u2"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3)])
def test_array_travels_where_it_is_annotated(dtype: str, shape: tuple[int, ...]) -> None:
    array = numpy.ones(shape, dtype)
    (came,), _ = travel("array", array)
    assert came.dtype == array.dtype
    assert came.shape == shape
    assert (came == array).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "argument 'value' can't travel: no bytes stand for type object"),
        (2**70, "more than 64 bits"),
        (Every(), "Every is an actor; send its ref"),
        (numpy.array([object()]), "no plain bytes"),
    ],
)
def test_what_cannot_travel_raises_at_the_sender(value: Any, text: str) -> None:
    with pytest.raises(CannotTravel, match=text):
        travel("plain", value)


def test_arguments_that_do_not_fit_raise() -> None:
    with pytest.raises(WrongCall, match=r"Every\.typed.* missing"):
        travel("typed", 1)
    with pytest.raises(WrongCall, match="no array"):
        codec("array").decode_call(codec("plain").encode_call((1,), {}))


@given(st.binary())
def test_any_bytes_are_arguments_or_a_wrong_call(body: bytes) -> None:
    with suppress(WrongCall):
        codec("many").decode_call(body)


def arrived(error: Exception) -> Exception:
    return failures.decode(failures.encode(error), Every)


def test_known_error_is_rebuilt_without_its_init() -> None:
    error = arrived(Oops(3, text="no"))
    assert type(error) is Oops
    assert (error.code, str(error)) == (3, "no")


def test_unknown_error_is_told_by_name_and_text() -> None:
    class Hidden(Exception):
        pass

    error = arrived(Hidden("no"))
    assert isinstance(error, ActorFailed)
    assert "Hidden: no" in str(error)


def test_error_keeps_its_notes_causes_and_parts() -> None:
    try:
        raise KeyError("k") from OSError(2, "gone")
    except KeyError as raised:
        raised.add_note("a note")
        error = arrived(raised)
    assert isinstance(error, KeyError)
    assert error.__notes__ == ["a note"]
    assert isinstance(error.__cause__, FileNotFoundError)
    assert "raise KeyError" in str(error.__cause__.__cause__)
    group = arrived(ExceptionGroup("two", [ValueError("1"), Oops(2, text="2")]))
    assert isinstance(group, ExceptionGroup)
    assert [type(part) for part in group.exceptions] == [ValueError, Oops]


@given(st.binary())
def test_any_bytes_are_an_error(body: bytes) -> None:
    assert isinstance(failures.decode(body, Every), Exception)
