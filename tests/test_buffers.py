"""A large value is a description and its bytes; it comes back as it was, without a copy, and a liar gets ValueError."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from lightactors import buffers
from lightactors.buffers import NEEDS_WRITABLE, Leaf, OutOfReach, is_exact, leaf_of, value_of


def leaf(value: object) -> Leaf:
    leaf = leaf_of(value)
    assert leaf is not None
    return leaf


def filled(leaf: Leaf) -> memoryview:
    """Return memory that the leaf was written to."""
    if leaf.buffer is not None:
        assert leaf.buffer.nbytes == leaf.nbytes
        assert leaf.buffer.format == "B"
        assert leaf.buffer.contiguous
        return memoryview(bytearray(leaf.buffer))
    assert leaf.write is not None
    view = memoryview(bytearray(leaf.nbytes))
    leaf.write(view)
    return view


def travel(value: object) -> Any:
    """Bring a value through bytes, its facts through msgpack."""
    out = leaf(value)
    kind, facts = msgpack.decode(msgpack.encode((out.kind, out.facts)))
    view = filled(out)
    return value_of(kind, facts, view if kind in NEEDS_WRITABLE else view.toreadonly())


def same(came: Any, array: Any) -> bool:
    return bool(came.dtype == array.dtype and came.shape == array.shape and came.tobytes("A") == array.tobytes("A"))


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def lies_in(array: Any, view: memoryview) -> bool:
    start = address(numpy.frombuffer(view, "u1"))
    return start <= address(array) and address(array) + array.nbytes <= start + view.nbytes


def test_value_without_bytes_of_its_own_is_none() -> None:
    assert [leaf_of(value) for value in (None, 1, "text", [b""], {}, object(), numpy.float32(1), int, leaf_of)] == (
        [None] * 9
    )


def test_no_library_is_imported_for_what_is_not_its_own() -> None:
    program = """
import sys
import lightactors
from lightactors.buffers import leaf_of, value_of
for value in (None, 1, "text", [1], {}, object(), int):
    assert leaf_of(value) is None
assert bytes(value_of("bytes", (), leaf_of(b"abc").buffer)) == b"abc"
assert not {"numpy", "torch", "pyarrow"} & set(sys.modules), "imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)


# numpy

ZOO: dict[str, Callable[[], Any]] = {
    "no dimension": lambda: numpy.array(5.0),
    "no element": lambda: numpy.empty((3, 0, 2), "i2"),
    "bools": lambda: numpy.array([True, False]),
    "the other byte order": lambda: numpy.arange(4, dtype=">u4"),
    "complex": lambda: numpy.ones((2, 2), "c16"),
    "half": lambda: numpy.ones(3, "f2"),
    "text": lambda: numpy.array(["ab", "cde"]),
    "bytes": lambda: numpy.array([b"ab", b"cde"]),
    "void": lambda: numpy.zeros(2, "V5"),
    "datetimes": lambda: numpy.array(["2020-01-01", "NaT"], "M8[ns]"),
    "durations": lambda: numpy.array([1, 2], "m8[25s]"),
    "durations of no unit": lambda: numpy.array([1, 2], "m8"),
    "fields": lambda: numpy.ones(3, [("a", "i4"), ("b", ">f8", (2, 3)), ("c", [("d", "M8[s]"), ("é", "S3")])]),
    "fields with gaps": lambda: numpy.ones(3, numpy.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "fields over each other": lambda: numpy.zeros(
        2, {"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 2], "itemsize": 12}
    ),
    "Fortran order": lambda: numpy.asfortranarray(numpy.arange(24.0).reshape(2, 3, 4)),
    "every second": lambda: numpy.arange(10)[::2],
    "backwards": lambda: numpy.arange(10)[::-1],
    "axes swapped": lambda: numpy.arange(24).reshape(2, 3, 4).swapaxes(1, 2),
    "fields, every second": lambda: numpy.ones(4, [("a", "i1"), ("b", "m8[s]")])[::2],
    "one for all": lambda: numpy.broadcast_to(numpy.float32(3), (4, 5)),
    "read-only": lambda: numpy.frombuffer(b"12345678", "i4"),
}


@pytest.mark.parametrize("name", ZOO)
def test_array_comes_back_as_it_was(name: str) -> None:
    array = ZOO[name]()
    came = travel(array)
    assert type(came) is numpy.ndarray
    assert same(came, array)


SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)
DTYPES = st.sampled_from(["?", "i1", "<u2", ">i4", "f4", "f8", "c8", "S3", "U2", "M8[us]", "m8[D]", "V4"])


@given(shape=SHAPES, dtype=DTYPES, data=st.data())
def test_any_array_comes_back(shape: tuple[int, ...], dtype: str, data: st.DataObject) -> None:
    array: Any = numpy.zeros(shape, dtype)
    array.reshape(-1).view("u1")[...] = 1 if dtype == "?" else 65
    axes = data.draw(st.permutations(range(len(shape))))
    steps = tuple(slice(None, None, data.draw(st.sampled_from([1, 2, -1]))) for _ in shape)
    array = array.transpose(axes)[(..., *steps)]
    assert same(travel(array), array)


def test_array_lies_in_the_view() -> None:
    out = leaf(numpy.arange(1000))
    view = filled(out)
    came = value_of(out.kind, out.facts, view)
    assert lies_in(came, view)
    view[0] = 7
    assert came[0] == 7


def test_array_in_either_order_leaves_without_a_copy() -> None:
    for array in (numpy.ones((3, 4)), numpy.ones((3, 4), order="F"), numpy.ones((3, 4, 5)).T):
        buffer = leaf(array).buffer
        assert buffer is not None
        assert address(numpy.frombuffer(buffer, "u1")) == address(array)


def test_fortran_order_stays() -> None:
    assert travel(numpy.ones((3, 4), order="F")).flags.f_contiguous


def test_array_from_a_writable_view_is_read_only_too() -> None:
    came = value_of("numpy", ("<f4", (2,), "C"), memoryview(bytearray(8)))
    with pytest.raises(ValueError, match="read-only"):
        came[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        came.flags.writeable = True


def test_array_holds_the_view() -> None:
    data = bytearray(8)
    came = value_of("numpy", ("<f4", (2,), "C"), memoryview(data))
    with pytest.raises(BufferError):
        data.clear()
    del came
    data.clear()


class OfMyOwn(numpy.ndarray[Any, Any]):
    pass


def test_subclass_of_array_is_bytes_but_not_exact(tmp_path: Any) -> None:
    mine = numpy.ones(3).view(OfMyOwn)
    assert same(travel(mine), numpy.ones(3))
    assert not is_exact(mine)
    mapped = numpy.memmap(tmp_path / "mapped", "f8", "w+", shape=(3,))
    assert same(travel(mapped), numpy.zeros(3))
    assert is_exact(mapped)
    assert is_exact(numpy.ones(3))


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (numpy.array([object()]), r"an array of objects has no plain bytes; convert it with \.astype"),
        (numpy.zeros(2, [("a", "O")]), r"an array of .*'O'.* has no plain bytes"),
        (numpy.zeros(2, "V0"), "no plain bytes"),
        (numpy.zeros(2, []), "no plain bytes"),
        (numpy.zeros(2, [(("title", "a"), "i4")]), r"can't be told by its bytes; send \.view"),
        (numpy.ma.masked_array([1, 2], [True, False]), r"a masked array is two arrays; send \.filled\(\)"),
    ],
)
def test_array_that_is_more_than_bytes_is_refused(array: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        leaf_of(array)


# Bytes


@pytest.mark.parametrize("value", [b"abc", b"", bytearray(b"abc"), memoryview(b"abcdef")[1:3], numpy.bytes_(b"abc")])
def test_bytes_come_back_as_a_read_only_view(value: Any) -> None:
    came = travel(value)
    assert type(came) is memoryview
    assert came.readonly
    assert came == value


def test_bytes_say_what_they_were() -> None:
    assert [leaf(value).kind for value in (b"", bytearray(), memoryview(b""))] == ["bytes", "bytearray", "memoryview"]


def test_memoryview_with_gaps_is_closed_up() -> None:
    assert bytes(travel(memoryview(b"abcdef")[::2])) == b"ace"


def test_memoryview_of_numbers_is_refused() -> None:
    with pytest.raises(OutOfReach, match=r"of format 'd' .* cast it with \.cast\('B'\)"):
        leaf_of(memoryview(bytes(8)).cast("d"))


# Arrow


def table(arrow: Any) -> Any:
    return arrow.table(
        {
            "number": [1, None, 3],
            "text": ["a", "é", None],
            "list": [[1.5], [], None],
            "record": [{"x": 1}, None, {"x": 2}],
            "word": arrow.array(["a", "b", "a"]).dictionary_encode(),
        },
        metadata={"made": "here"},
    )


def test_arrow_table_comes_back() -> None:
    arrow = pytest.importorskip("pyarrow")
    here = table(arrow)
    for value in (
        here,
        here.slice(1, 1),
        arrow.concat_tables([here, here]),
        here.schema.empty_table(),
        arrow.table({}),
    ):
        came = travel(value)
        assert type(came) is arrow.Table
        assert came.equals(value, check_metadata=True)


def test_arrow_batch_comes_back() -> None:
    arrow = pytest.importorskip("pyarrow")
    (batch,) = table(arrow).to_batches()
    for value in (batch, batch.slice(1, 1), batch.slice(0, 0)):
        came = travel(value)
        assert type(came) is arrow.RecordBatch
        assert came.equals(value, check_metadata=True)


def test_arrow_table_lies_in_the_view() -> None:
    arrow = pytest.importorskip("pyarrow")
    out = leaf(arrow.table({"a": numpy.arange(1000)}))
    view = filled(out)
    column = value_of(out.kind, out.facts, view)["a"].chunk(0)
    assert lies_in(column.to_numpy(), view)
    assert not column.buffers()[1].is_mutable


def test_torn_arrow_is_refused() -> None:
    out = leaf(table(pytest.importorskip("pyarrow")))
    view = filled(out)
    for facts, part in ((("table",), view[:60]), (("table",), view[:-400]), (("batch",), view[:0]), (("sheet",), view)):
        with pytest.raises(ValueError, match="no arrow value"):
            value_of("arrow", facts, part)


@given(data=st.data())
def test_arrow_of_a_liar_is_refused_or_sound(data: st.DataObject) -> None:
    arrow = pytest.importorskip("pyarrow")
    view = filled(leaf(table(arrow)))
    for _ in range(data.draw(st.integers(1, 4))):
        view[data.draw(st.integers(0, view.nbytes - 1))] = data.draw(st.integers(0, 255))
    try:
        came = value_of("arrow", ("table",), view)
    except ValueError:
        return
    came.to_pylist()  # reads every value


def test_field_whose_name_is_no_text_is_refused_from_a_stranger() -> None:
    arrow = pytest.importorskip("pyarrow")
    view = filled(leaf(arrow.table({"outer": [{"inner": 1}]})))
    at = bytes(view).index(b"inner")
    view[at] = 0x80
    with pytest.raises(ValueError, match="no arrow value"):
        value_of("arrow", ("table",), view)


def test_string_that_is_no_text_is_refused_from_a_stranger() -> None:
    arrow = pytest.importorskip("pyarrow")
    view = filled(leaf(arrow.table({"a": ["letters"]})))
    at = bytes(view).index(b"letters")
    view[at] = 0xFF
    with pytest.raises(ValueError, match="UTF8"):
        value_of("arrow", ("table",), view)
    value_of("arrow", ("table",), view, trusted=True)


# torch

NO_TORCH = "torch is not installed: NOTHING of how tensors travel is tested here"


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason=NO_TORCH)


TENSORS: dict[str, Callable[[Any], Any]] = {
    "no dimension": lambda torch: torch.tensor(5.0),
    "no element": lambda torch: torch.empty((3, 0)),
    "no element, swapped": lambda torch: torch.empty((3, 0, 2)).permute(2, 0, 1),
    "bools": lambda torch: torch.tensor([True, False]),
    "bfloat16": lambda torch: torch.ones((2, 3), dtype=torch.bfloat16),
    "float8": lambda torch: torch.ones(3).to(torch.float8_e4m3fn),
    "complex": lambda torch: torch.tensor([1 + 2j]),
    "conjugated": lambda torch: torch.tensor([1 + 2j]).conj(),
    "negated": lambda torch: torch.tensor([1 + 2j]).conj().imag,
    "uint16": lambda torch: torch.tensor([1, 2], dtype=torch.uint16),
    "swapped": lambda torch: torch.arange(6).reshape(2, 3).T,
    "every second": lambda torch: torch.arange(6)[::2],
    "channels last": lambda torch: torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "one for all": lambda torch: torch.tensor(3.0).expand(4, 5),
    "from the middle": lambda torch: torch.arange(6, dtype=torch.int16)[3:],
    "parameter": lambda torch: torch.nn.Parameter(torch.ones(3), requires_grad=False),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensor_comes_back(name: str, torch: Any) -> None:
    tensor = TENSORS[name](torch)
    came = travel(tensor)
    assert type(came) is torch.Tensor
    assert came.dtype == tensor.dtype
    assert came.shape == tensor.shape
    assert torch.equal(came.to(torch.complex128), tensor.to(torch.complex128))


def test_tensor_lies_in_the_view(torch: Any) -> None:
    out = leaf(torch.arange(1000))
    view = filled(out)
    came = value_of(out.kind, out.facts, view)
    assert came.data_ptr() == address(numpy.frombuffer(view, "u1"))
    came[0] = 7
    assert view[0] == 7


def test_tensor_leaves_without_a_copy(torch: Any) -> None:
    tensor = torch.ones(4, dtype=torch.bfloat16)
    buffer = leaf(tensor).buffer
    assert buffer is not None
    assert address(numpy.frombuffer(buffer, "u1")) == tensor.data_ptr()


def test_tensor_needs_a_writable_view(torch: Any) -> None:
    assert "torch" in NEEDS_WRITABLE
    with pytest.raises(ValueError, match="writable view"):
        value_of("torch", ("uint8", (3,)), memoryview(b"abc"))


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "on a device": (lambda torch: torch.ones(3, device="meta"), r"a tensor on meta has no bytes .* \.cpu\(\)"),
    "sparse": (lambda torch: torch.eye(3).to_sparse(), r"send \.to_dense\(\)"),
    "requires grad": (lambda torch: torch.ones(3, requires_grad=True), r"send \.detach\(\)"),
    "bits": (lambda torch: torch.empty(3, dtype=torch.uint4), "a tensor of torch.uint4 can't be told by its bytes"),
    "subclass": (
        lambda torch: torch.ones(3).as_subclass(type("Mine", (torch.Tensor,), {})),
        r"a Mine may be more .* send \.as_subclass",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tensor_that_is_more_than_bytes_is_refused(name: str, torch: Any) -> None:
    make, text = REFUSED[name]
    with pytest.raises(TypeError, match=text):
        leaf_of(make(torch))


# Liars


@pytest.mark.parametrize(
    "facts",
    [
        None,
        (),
        ("<f4", (2,)),
        ("<f4", (2,), "K"),
        ("<f4", (3,), "C"),
        ("<f4", (1,), "C"),
        ("<f4", (-2,), "C"),
        ("<f4", (-1, -2), "C"),
        ("<f4", (2.0,), "C"),
        ("<f4", (True, 2), "C"),
        ("<f4", (2**62, 4), "C"),
        ("<f4", (2**70, 0), "C"),
        ("<f4", (1,) * 65 + (2,), "C"),
        ("<f4", 2, "C"),
        ("<f4", "2", "C"),
        ("|O", (1,), "C"),
        ("|O8", (1,), "C"),
        ("O", (1,), "C"),
        ("i4,i4", (1,), "C"),
        ("|V0", (2**40,), "C"),
        ("|S0", (8,), "C"),
        ("<M8[" + "1" * 400 + "s]", (1,), "C"),
        ("<M8[zz]", (1,), "C"),
        ("<f3", (8,), "C"),
        ("|S999999999", (8,), "C"),
        (b"<f4", (2,), "C"),
        ({"names": []}, (2,), "C"),
        ((0, ()), (2**40,), "C"),
        ((8, (("a", "|O", 0, ()),)), (1,), "C"),
        ((8, (("a", "<i4", 6, ()),)), (1,), "C"),
        ((8, (("a", "<i4", -4, ()),)), (1,), "C"),
        ((8, (("a", "<i4", 0, (2**61,)),)), (1,), "C"),
        ((8, (("a", "<i4", 0, (-1,)),)), (1,), "C"),
        ((8, (("a", "<i4", 0, ()), ("a", "<i4", 4, ()))), (1,), "C"),
        ((8, ((1, "<i4", 0, ()),)), (1,), "C"),
        ((8, ((),)), (1,), "C"),
        ((-8, ()), (1,), "C"),
    ],
    ids=str,
)
def test_array_of_a_liar_is_refused(facts: Any) -> None:
    with pytest.raises(ValueError, match="no numpy value"):
        value_of("numpy", facts, memoryview(bytes(8)))


@pytest.mark.parametrize(
    "facts",
    [
        (),
        ("float32", (3,)),
        ("float32", (-2,)),
        ("float32", (-1, -2)),
        ("float32", (2**62, 4)),
        ("float32", (1,) * 65 + (2,)),
        ("Tensor", (2,)),
        ("float99", (2,)),
        ("qint8", (8,)),
        ("uint4", (8,)),
        ("nn.functional", (2,)),
        (None, (2,)),
    ],
    ids=str,
)
def test_tensor_of_a_liar_is_refused(facts: Any, torch: Any) -> None:
    with pytest.raises(ValueError, match="no torch value"):
        value_of("torch", facts, memoryview(bytearray(8)))


def test_facts_of_bytes_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="bytes have no facts"):
        value_of("bytes", (1,), memoryview(b""))
    with pytest.raises(ValueError, match=r"no value is of the kind 'os\.system'"):
        value_of("os.system", (), memoryview(b""))


NONSENSE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.integers()
    | st.sampled_from(["C", "<f4", "|O", "table", "int8"]),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
)


@given(kind=st.sampled_from(["numpy", "arrow", "bytes"]), facts=NONSENSE, size=st.integers(0, 40))
def test_nonsense_raises_value_error_or_is_a_value(kind: str, facts: Any, size: int) -> None:
    with suppress(ValueError):
        value_of(kind, facts, memoryview(bytes(size)))


def test_missing_library_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(buffers._LIBRARIES, "numpy", "numpy_that_nobody_has")  # noqa: SLF001
    with pytest.raises(ImportError, match="`pip install numpy_that_nobody_has`"):
        value_of("numpy", ("<f4", (2,), "C"), memoryview(bytes(8)))
