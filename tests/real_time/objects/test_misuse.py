"""What newcomers do with objects that can't work, and what they are told."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import numpy as np
import pytest

import lightactors as la
from lightactors.errors import (
    CannotTravel,
    ConfigurationError,
    ObjectError,
    ObjectLost,
    ObjectReleased,
    ObjectStoreFull,
    WrongCall,
)

MIB = 2**20
SMALL = la.ObjectLimits(capacity=16 * MIB, spill=None)


@la.actor
class Guest:
    def __init__(self, luggage: object) -> None:
        self.luggage = luggage

    @la.handler
    def what(self) -> str:
        return type(self.luggage).__name__

    @la.handler
    def add(self, array: np.ndarray) -> float:
        return float(array.sum())

    @la.handler
    async def add_object(self, ref: la.ObjectRef[np.ndarray]) -> float:
        return float((await la.get(ref)).sum())


async def test_get_says_what_it_takes() -> None:
    ref = await la.put([1])
    wrong: list[tuple[Any, str]] = [
        (np.ones(3), "takes a ref of an object, as put() returns one"),
        ([ref], "takes one ref; call it for each"),
        (pending := la.put(1), "lacks an await: get(await put(...))"),
    ]
    for value, cure in wrong:
        with pytest.raises(ObjectError, match=r"^get\(") as raised:
            await la.get(value)
        assert str(raised.value).endswith(cure)
    pending.close()


async def test_ref_that_is_used_like_its_value_says_how_to_get_that() -> None:
    ref: Any = await la.put(np.ones(3))
    with pytest.raises(AttributeError, match=r"<object .* has no 'sum'; it is a ref, and `await get\(ref\)` returns"):
        ref.sum()
    assert not hasattr(ref, "__array__")


async def test_ref_is_equal_to_itself_and_copied_as_itself() -> None:
    ref, other = await la.put(1), await la.put(1)
    assert ref == ref
    assert {ref: 1, other: 2}[ref] == 1
    assert copy.copy(ref) is ref
    assert copy.deepcopy({"ref": ref})["ref"] is ref


async def test_ref_is_not_pickled() -> None:
    ref = await la.put(1)
    with pytest.raises(TypeError, match="send it in a message, or pass it to spawn"):
        pickle.dumps(ref)
    with pytest.raises(CannotTravel, match=r"its \['a'\] is the obstacle: <object .* to spawn\(\)$"):
        await la.put({"a": ref})


@pytest.mark.parametrize("use", [la.get, la.objects.contains, la.objects.delete], ids=["get", "contains", "delete"])
async def test_ref_whose_system_has_ended_says_so(use: Callable[[Any], Any]) -> None:
    async with la.open_system("theirs"):
        ref = await la.put([1])
    if use is la.get:
        with pytest.raises(ObjectLost, match="system 'theirs' has ended"):
            await use(ref)
    else:
        assert await use(ref) is False


async def test_ref_of_another_system_is_looked_for_where_it_is() -> None:
    async with la.open_system("theirs"):
        ref = await la.put(np.ones(3))
        async with la.open_system("ours"):
            assert (await la.get(ref)).sum() == 3
            assert await la.objects.contains(ref)
            assert await la.objects.delete(ref)
            assert not await la.objects.contains(ref)


async def test_released_ref_is_over() -> None:
    ref = await la.put(np.ones(3))
    view = await la.get(ref)
    la.release(ref)
    la.release(ref)
    with pytest.raises(ObjectReleased, match="put the value again, or release its ref later"):
        await la.get(ref)
    assert view.sum() == 3


async def test_draft_can_not_be_written_to_once_it_is_sealed() -> None:
    draft = await la.objects.create(10)
    draft.view[:] = b"0123456789"
    array, part = np.frombuffer(draft.view, dtype=np.uint8), draft.view[:3]
    for _ in range(2):
        with pytest.raises(ObjectError, match="can't be sealed while an array or a slice of its view is there"):
            draft.seal()
    del array
    with pytest.raises(ObjectError, match="can't be discarded while"):
        draft.discard()
    del part
    draft.view[0] = ord("9")
    view = draft.view
    ref = draft.seal()
    assert bytes(await la.get(ref)) == b"9123456789"
    with pytest.raises(ValueError, match="released"):
        view[0] = 0
    with pytest.raises(ObjectError, match="sealed or discarded before"):
        draft.discard()


async def test_full_store_says_who_fills_it_and_what_helps() -> None:
    async with la.open_system("shop", objects=SMALL):
        ref = await la.put(np.ones(MIB))
        view = await la.get(ref)
        with pytest.raises(ObjectStoreFull) as raised:
            await la.put(np.ones(3 * MIB // 2), within=0.1)
        assert view.sum() == MIB
    for words in (
        "has no 12.0 MiB for another object: none became free within 0.1 s: ",
        "; shop has put 8.0 MiB of it; 8.0 MiB of it can't be moved, for arrays in use lie there; ",
        "nothing is written to the disk (spill=None). Release refs, let go of arrays, or give it more by ",
    ):
        assert words in str(raised.value)


async def test_value_that_is_larger_than_the_store_is_refused_at_once() -> None:
    async with la.open_system(objects=SMALL):
        with pytest.raises(ObjectStoreFull, match=r"has no 24.0 MiB .* it has 16.0 MiB in all; open_system\(objects="):
            with anyio.fail_after(5):
                await la.put(np.ones(3 * MIB))


@pytest.mark.parametrize("objects", [2**30, {"capacity": 2**30}], ids=["number", "dict"])
async def test_limits_are_object_limits(objects: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"objects=.*; give ObjectLimits\(capacity=...\)"):
        async with la.open_system(objects=objects):
            pytest.fail("it was opened")


def test_more_memory_than_the_host_has_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"capacity=\d+; give a whole number of bytes, 1048576 to \d+"):
        la.ObjectLimits(capacity=2**60)


@pytest.mark.parametrize(
    "luggage", [np.ndarray, np.full(50_000, None), np.ma.ones(50_000), b"x" * MIB], ids=lambda value: str(type(value))
)
async def test_process_is_spawned_with_whatever_can_be_pickled(luggage: object) -> None:
    async with la.open_system():
        guest = await la.options(place="process").spawn(Guest, luggage)
        assert await guest.what() == type(luggage).__name__


async def test_ref_and_value_are_not_sent_for_each_other() -> None:
    async with la.open_system():
        guest: Any = await la.options(place="process").spawn(Guest, None)
        with pytest.raises(WrongCall, match=r"a ref of an object; send await get\(ref\), or annotate it as ObjectRef"):
            await guest.add(await la.put(np.ones(3)))
        with pytest.raises(WrongCall, match=r"no ref of an object, but a ndarray; the sender is to put\(\) it first"):
            await guest.add_object(np.ones(3))


def test_names_that_are_elsewhere_are_told() -> None:
    module: Any = la.objects
    with pytest.raises(AttributeError, match=r"has no attribute 'put'; it is lightactors\.put"):
        _ = module.put
    with pytest.raises(AttributeError, match=r"has no attribute 'puts'$"):
        _ = module.puts


async def test_forgotten_draft_gives_its_memory_back_when_nothing_can_write_to_it_any_more() -> None:
    async with la.open_system(objects=la.ObjectLimits(capacity=64 * 2**20)):
        draft = await la.objects.create(2**20)
        array = np.frombuffer(draft.view, dtype=np.uint8)
        del draft
        gc.collect()
        assert (await la.objects.statistics()).leased > 2**20
        del array
        gc.collect()
        assert (await la.objects.statistics()).leased == 0
