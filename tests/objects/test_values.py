"""A value comes back from an object as it was, in place; a stranger's object is a value or `ObjectError`."""

from __future__ import annotations

import dataclasses
import gc
import pickle
import random
import threading
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext, encode

import lightactors as la
from lightactors import buffers
from lightactors.errors import CannotTravel, ObjectError
from lightactors.objects.arena import GRAIN, LARGE, PAGE
from lightactors.objects.values import put_together, take_apart


def no_tensor() -> memoryview:
    raise AssertionError("a private view was asked for")


def written(value: object, *, plain: bool | None = None) -> bytearray:
    """Return a value as the bytes of an object."""
    parts = take_apart(value)
    if plain is not None:
        assert parts.is_plain is plain
    data = bytearray(random.Random(0).randbytes(parts.size))
    target = memoryview(data)

    def copy(offset: int, buffer: memoryview) -> None:
        target[offset : offset + buffer.nbytes] = buffer

    parts.write_into(target, copy)
    return data


def read(data: bytes | bytearray, *, trusted: bool = False) -> Any:
    return put_together(memoryview(data).toreadonly(), private=lambda: memoryview(bytearray(data)), trusted=trusted)


def travel(value: object, *, plain: bool = True) -> Any:
    return read(written(value, plain=plain), trusted=not plain)


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def lies_in(array: Any, data: bytes | bytearray | memoryview) -> bool:
    start = address(numpy.frombuffer(data, "u1"))
    return start <= address(array) and address(array) + array.nbytes <= start + len(data)


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same classes, all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, numpy.ndarray):
        equal = one.tolist() == other.tolist() if one.dtype.hasobject else one.tobytes() == other.tobytes()
        return bool(one.dtype == other.dtype and one.shape == other.shape and equal)
    return bool(one == other) or one != one  # NaN


# What comes back

ARRAYS = st.builds(
    lambda shape, dtype, fill: numpy.full(shape, fill).astype(dtype),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.sampled_from(["?", "i1", ">u2", "f4", "f8", "S2", "M8[s]"]),
    st.integers(0, 1),
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)
LEAVES = (
    SCALARS
    | ARRAYS
    | st.binary(max_size=5)
    | st.binary(max_size=5).map(bytearray)
    | st.sampled_from([bytes(4096), bytes(4097), b"x" * 70_000])
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text("abcé", max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(TREES)
@example([])
@example(())
@example({})
@example([(), [()], {"": ()}])
@example(((1, (2,)), [(3, b"")]))
def test_plain_tree_comes_back_as_it_was(tree: Any) -> None:
    assert same(travel(tree), tree)


@given(st.dictionaries(st.integers() | st.tuples(st.integers()) | st.binary(max_size=2), TREES, min_size=1, max_size=3))
def test_tree_with_keys_that_are_no_text_comes_back_pickled(tree: Any) -> None:
    assert same(travel(tree, plain=False), tree)


@dataclasses.dataclass
class Rollout:
    tokens: Any
    note: str = ""


Point = namedtuple("Point", "x y")


class Text(str):
    __slots__ = ()


NOT_PLAIN: dict[str, Callable[[], Any]] = {
    "a large int": lambda: 2**64,
    "a broken text": lambda: "\ud800",
    "a broken key": lambda: {"\ud800": 1},
    "a named tuple": lambda: Point(1, (2,)),
    "a set": lambda: {1, 2},
    "a subclass of str": lambda: [Text("a")],
    "an ordered dict": lambda: OrderedDict(a=1),
    "a dataclass": lambda: Rollout([1], "é"),
    "a complex": lambda: 1j,
    "a scalar of numpy's": lambda: numpy.float32(1.5),
    "an array of objects": lambda: numpy.array(["a", None], object),
    "a class": lambda: Rollout,
    "a function": lambda: travel,
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_not_plain_comes_back_pickled(name: str) -> None:
    value = NOT_PLAIN[name]()
    assert same(travel(value, plain=False), value)


def test_array_in_what_is_pickled_lies_in_the_object() -> None:
    value = Rollout([numpy.arange(1000), numpy.ones((30, 40), order="F"), numpy.arange(10)[::2]])
    data = written(value, plain=False)
    came = read(data, trusted=True)
    assert same(came.tokens, value.tokens)
    assert all(lies_in(array, data) and not array.flags.writeable for array in came.tokens)


class Buffered:
    """Pickles itself with buffers of its own, as pandas does."""

    def __init__(self, first: Any, second: Any, *rest: Any) -> None:
        self.parts = [first, second, *rest]

    def __reduce_ex__(self, protocol: Any) -> Any:
        first, second, *rest = self.parts
        return Buffered, (pickle.PickleBuffer(first), second, *rest)


def test_buffers_of_a_pickle_and_leaves_keep_their_order() -> None:
    value = [
        Buffered(b"one", numpy.arange(3), Buffered(b"two", b"2")),
        numpy.ones(2),
        Buffered(b"three", memoryview(b"4")),
    ]
    one, ones, three = travel(value, plain=False)
    assert bytes(one.parts[0]) == b"one"
    assert same(one.parts[1], numpy.arange(3))
    assert bytes(one.parts[2].parts[0]) == b"two"
    assert same(ones, numpy.ones(2))
    assert [bytes(part) for part in three.parts] == [b"three", b"4"]


def test_list_that_contains_itself_comes_back() -> None:
    value: list[Any] = [1]
    value.append(value)
    came = travel(value, plain=False)
    assert came[1] is came


def test_bytes_like_comes_back_as_it_was() -> None:
    for size in (0, 10, 5000, 100_000):
        for value in (b"x" * size, bytearray(b"x" * size)):
            assert same(travel(value), value)
        data = written(memoryview(b"x" * size))
        came = read(data)
        assert type(came) is memoryview
        assert came.readonly
        assert came == b"x" * size
        assert lies_in(numpy.frombuffer(came, "u1"), data)


def test_arrow_table_in_a_tree_lies_in_the_object() -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"a": numpy.arange(100), "b": ["é"] * 100})
    for value, plain in (({"table": table, "n": 1}, True), (Rollout(table), False)):
        data = written(value, plain=plain)
        came = read(data, trusted=not plain)
        came = came["table"] if plain else came.tokens
        assert came.equals(table)
        assert lies_in(came["a"].chunk(0).to_numpy(), data)


# In place


def test_array_comes_back_bare_in_place_and_read_only() -> None:
    data = written(numpy.arange(1000))
    came = read(data)
    assert type(came) is numpy.ndarray
    assert lies_in(came, data)
    assert address(came) % 8 == 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        came.flags.writeable = True


def test_array_of_a_writable_view_is_read_only_too() -> None:
    data = written([numpy.arange(10)])
    (came,) = put_together(memoryview(data), private=no_tensor, trusted=True)
    with pytest.raises(ValueError, match="WRITEABLE"):
        came.flags.writeable = True


@pytest.mark.parametrize("value", [{"a": numpy.arange(10)}, Rollout(numpy.arange(10))], ids=["plain", "pickled"])
def test_last_array_lets_go_of_the_object_at_once(value: Any) -> None:
    gc.disable()
    try:
        data: Any = numpy.frombuffer(written(value), "u1").copy()
        gone = weakref.ref(data)
        came = put_together(memoryview(data), private=no_tensor, trusted=True)
        del data
        assert gone() is not None
        del came
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("value", [{"a": numpy.arange(10)}, Rollout(numpy.arange(10))], ids=["plain", "pickled"])
def test_parts_let_go_of_the_value_at_once(value: Any) -> None:
    array = numpy.arange(10)
    gone = weakref.ref(array)
    gc.disable()
    try:
        parts = take_apart({"a": array} if isinstance(value, dict) else Rollout(array))
        del array
        assert gone() is not None
        del parts
        assert gone() is None
    finally:
        gc.enable()


def test_buffers_are_aligned() -> None:
    parts = take_apart([numpy.ones(1, "u1"), numpy.ones(3), numpy.ones(LARGE, "u1"), numpy.ones(1, "u1")])
    assert parts.align == PAGE
    assert [offset % GRAIN for offset in parts.offsets] == [0, 0, 0, 0]
    assert parts.offsets[2] % PAGE == 0
    assert take_apart(numpy.ones(3)).align == GRAIN


def test_only_large_buffers_go_through_the_fast_copy() -> None:
    parts = take_apart([numpy.zeros(10), numpy.ones(100_000), numpy.ones(200_000)[::2]])
    target, copied = memoryview(bytearray(parts.size)), list[tuple[int, int]]()
    parts.write_into(target, lambda offset, buffer: copied.append((offset, buffer.nbytes)))
    assert copied == [(parts.offsets[1], 800_000)]


def test_same_value_is_written_as_the_same_bytes_wherever() -> None:
    # written() fills the memory with noise first: what lay there must not show.
    parts = take_apart([numpy.ones(LARGE, "u1"), numpy.ones(3)])
    target = memoryview(bytearray(parts.size))
    parts.write_into(target, lambda offset, buffer: target.__setitem__(slice(offset, offset + buffer.nbytes), buffer))
    assert target == written([numpy.ones(LARGE, "u1"), numpy.ones(3)])


def test_same_array_twice_is_one_buffer() -> None:
    array = numpy.arange(1000)
    assert len(take_apart([array, {"again": array}]).leaves) == 1
    one, other = travel([array, array])
    assert address(one) == address(other)


# Tensors

NO_TORCH = "torch is not installed: NOTHING of how tensors travel is tested here"


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason=NO_TORCH)


def test_tensor_is_a_private_copy_on_write_view(torch: Any) -> None:
    value = {"weights": torch.ones(1000, dtype=torch.bfloat16), "ids": numpy.arange(3)}
    data = written(value, plain=True)
    private = bytearray(data)
    opened = iter([memoryview(private)])
    came = put_together(memoryview(data).toreadonly(), private=lambda: next(opened), trusted=False)
    assert torch.equal(came["weights"], value["weights"])
    start = address(numpy.frombuffer(private, "u1"))
    assert start <= came["weights"].data_ptr() < start + len(private)
    assert lies_in(came["ids"], data)
    before = bytes(data)
    came["weights"][:] = 7
    assert data == before


def test_two_tensors_share_one_private_view(torch: Any) -> None:
    opened = iter([memoryview(data := written([torch.ones(3), torch.zeros(3)]))])
    came = put_together(memoryview(data), private=lambda: next(opened), trusted=False)
    assert [tensor.sum().item() for tensor in came] == [3, 0]


def test_module_comes_back_with_its_parameters_in_place(torch: Any) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(30, 40), torch.nn.BatchNorm1d(40))
    parts = take_apart(module)
    assert sum(leaf.nbytes for leaf in parts.leaves) >= sum(p.nbytes for p in module.parameters())
    came = travel(module, plain=False)
    for name, tensor in module.state_dict().items():
        assert torch.equal(came.state_dict()[name], tensor)
    assert all(parameter.requires_grad for parameter in came.parameters())
    came(torch.ones(2, 30)).sum().backward()


def test_tensor_that_requires_grad_still_does(torch: Any) -> None:
    tensor = torch.arange(3.0, requires_grad=True)
    came = travel([tensor], plain=False)[0]
    assert came.requires_grad
    assert torch.equal(came, tensor)


def test_sparse_tensor_comes_back(torch: Any) -> None:
    came = travel(torch.eye(3).to_sparse(), plain=False)
    assert torch.equal(came.to_dense(), torch.eye(3))


def test_tensor_on_a_device_says_what_to_do(torch: Any) -> None:
    with pytest.raises(CannotTravel, match=r"its \['a'\]\[0\] is the obstacle: a tensor on meta .* \.cpu\(\)$"):
        take_apart({"a": [torch.ones(3, device="meta")]})


# What can't travel


class Holder:
    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


@la.actor
class Worker:
    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (threading.Lock(), r"^the value can't travel: cannot pickle '_thread.lock' object; use a dataclass"),
        ({"a": [1, threading.Lock()]}, r"its \['a'\]\[1\] is the obstacle: cannot pickle '_thread.lock'"),
        (
            Holder(a=1, b=(Holder(c=threading.Lock()),)),
            r"its \.b\[0\]\.c is the obstacle: cannot pickle '_thread.lock'",
        ),
        ([lambda: None], r"its \[0\] is the obstacle: .*lambda"),
        ([numpy], r"its \[0\] is the obstacle: cannot pickle 'module' object"),
        ({"x": Worker()}, r"its \['x'\].*cannot pickle '_thread.lock'|Worker is an actor; send its ref"),
        (memoryview(bytes(8)).cast("d"), r"cast it with \.cast\('B'\)$"),
        (numpy.array([threading.Lock()], object), "cannot pickle '_thread.lock'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_pickled_is_named(value: Any, text: str) -> None:
    with pytest.raises(CannotTravel, match=text) as caught:
        take_apart(value)
    assert caught.value.message is value


def test_what_is_nested_too_deeply_cannot_travel() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(CannotTravel, match="nested too deeply"):
        take_apart(value)
    while value:  # else its end would recurse as deeply
        value = value.pop()


def test_list_that_contains_itself_and_a_lock_cannot_travel() -> None:
    value: list[Any] = []
    value += [value, threading.Lock()]
    with pytest.raises(CannotTravel, match=r"cannot pickle '_thread.lock'"):
        take_apart(value)


# Strangers


def test_pickled_object_of_a_stranger_is_refused() -> None:
    with pytest.raises(ObjectError, match=r"is pickled, .* not trusted with that; put plain data there"):
        read(written(Rollout(1)))


def test_what_cannot_be_unpickled_is_an_object_error(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(Rollout(1))
    monkeypatch.delattr(f"{__name__}.Rollout")
    with pytest.raises(ObjectError, match=r"the value can't be had from its object: .*Rollout") as caught:
        read(data, trusted=True)
    assert isinstance(caught.value.__cause__, AttributeError)


def test_loss_while_a_private_view_is_opened_stays_what_it_is(torch: Any) -> None:
    class Lost(ObjectError):
        pass

    def lost() -> memoryview:
        raise Lost("gone")

    with pytest.raises(Lost):
        put_together(memoryview(written(torch.ones(3))), private=lost, trusted=False)


def test_missing_library_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(numpy.ones(3))
    monkeypatch.setitem(buffers._LIBRARIES, "numpy", "numpy_that_nobody_has")  # noqa: SLF001
    with pytest.raises(ObjectError, match="`pip install numpy_that_nobody_has`"):
        read(data)


def forged(head: Any, *sizes: int, magic: bytes = b"laP1", body: bytes = b"") -> bytes:
    packed = encode(head)
    table = b"".join(size.to_bytes(8, "little") for size in sizes)
    start = magic + len(sizes).to_bytes(4, "little") + len(packed).to_bytes(8, "little") + table + packed
    return start.ljust(-(-len(start) // 64) * 64, b"\0") + body


def leaf(kind: Any, facts: Any, index: Any = 0) -> Ext:
    return Ext(1, encode((kind, facts, index)))


def nested(depth: int) -> Ext:
    ext = Ext(2, encode([]))
    for _ in range(depth):
        ext = Ext(2, encode([ext]))
    return ext


FORGED: dict[str, bytes] = {
    "nothing": b"",
    "half a header": b"laP1\0",
    "another magic": forged(1, magic=b"zip1"),
    "a head beyond the end": b"laP1" + bytes(4) + (2**63).to_bytes(8, "little"),
    "a table beyond the end": b"laP1" + b"\xff" * 4 + bytes(8) + bytes(50),
    "no head": forged(1)[:16],
    "a buffer beyond the end": forged(leaf("numpy", ("|u1", (100,), "C")), 100, body=bytes(99)),
    "a buffer of all memory": forged(leaf("numpy", ("|u1", (2**63,), "C")), 2**63),
    "a buffer too small for its array": forged(leaf("numpy", ("<f8", (9,), "C")), 64, body=bytes(64)),
    "buffers that add up to too much": forged([leaf("bytes", ())], *([2**64 - 1] * 9)),
    "a leaf without a buffer": forged(leaf("bytes", ())),
    "a leaf before the first buffer": forged(leaf("bytes", (), -2), 1, body=b"1"),
    "an index that is no number": forged(leaf("bytes", (), "0"), 1, body=b"1"),
    "objects": forged(leaf("numpy", ("|O", (1,), "C")), 8, body=bytes(8)),
    "a kind that nobody knows": forged(leaf("pickle", ()), 1, body=b"."),
    "the kind of a pickle's buffer": forged(leaf("", ()), 1, body=b"."),
    "a leaf of nothing": forged(Ext(1, b"")),
    "an extension of nobody's": forged(Ext(7, b"")),
    "a tuple that is no list": forged(Ext(2, encode("ab"))),
    "a tuple of nothing": forged(Ext(2, b"")),
    "an array as a key": forged({"a": 1}).replace(encode("a"), b"\x90"),
    "tuples without end": forged(nested(3000)),
    "lists without end": forged(1).replace(b"\x01", b"\x91" * 100_000),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_object_is_refused(name: str) -> None:
    with pytest.raises(ObjectError):
        read(FORGED[name])


def arrays_in(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from arrays_in(part)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.items()))
    elif isinstance(value, numpy.ndarray):
        yield value
    elif isinstance(value, memoryview):
        yield numpy.frombuffer(value, "u1")


SAMPLE = bytes(
    written(
        {
            "tokens": numpy.arange(20, dtype="i4"),
            "when": (numpy.array(["2020"], "M8[D]"), 1.5, None),
            "record": [numpy.ones(2, [("a", "i4"), ("b", "f8")]), numpy.ones((2, 3), order="F")],
            "raw": memoryview(b"12345"),
            "text": ["a", ("b", ())],
        }
    )
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_changed_object_is_refused_or_a_value_inside_the_view(data: st.DataObject) -> None:
    memory = bytearray(SAMPLE + bytes(64))
    view = memoryview(memory)[: data.draw(st.integers(len(SAMPLE) - 200, len(SAMPLE)) | st.just(len(SAMPLE)))]
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4)):
        memory[at] = byte
    with suppress(ObjectError):
        came = put_together(view, private=no_tensor, trusted=False)
        for array in arrays_in(came):
            assert not array.flags.writeable
            assert array.size == 0 or lies_in(array, view)


@given(st.binary(max_size=200), st.sampled_from([b"", b"laP1"]))
def test_noise_is_refused_or_a_value(noise: bytes, magic: bytes) -> None:
    with suppress(ObjectError):
        read(magic + noise)
