"""A ref of an object has the type of what was put, and `get` gives that back."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np

import lightactors as la
from lightactors.objects import Draft, Figures

Array = np.ndarray[Any, np.dtype[np.float64]]


@la.actor
class Keeper:
    @la.handler
    def weights(self) -> la.ObjectRef[Array]:
        raise NotImplementedError

    @la.handler
    def keep(self, weights: la.ObjectRef[Array]) -> int:
        return weights.size


async def there_and_back(array: Array, tree: dict[str, list[Array]]) -> None:
    ref = await la.put(array)
    assert_type(ref, la.ObjectRef[Array])
    assert_type(await la.get(ref), Array)
    assert_type(await la.get(await la.put(tree)), dict[str, list[Array]])
    assert_type(await la.get(await la.put("text", within=1)), str)
    assert_type(ref.size, int)
    assert_type(ref.is_released, bool)
    la.release(ref)


async def through_an_actor(keeper: Keeper, array: Array) -> None:
    assert_type(await keeper.weights(), la.ObjectRef[Array])
    assert_type(await la.get(await keeper.weights()), Array)
    assert_type(await keeper.keep(await la.put(array)), int)
    text = await la.put("text")
    await keeper.keep(text)  # E: "ObjectRef[str]"
    await keeper.keep(array)  # E(mypy): expected "ObjectRef  # E(pyright): is not assignable to "ObjectRef


async def more(ref: la.ObjectRef[Array]) -> None:
    assert_type(await la.objects.statistics(), Figures)
    assert_type(await la.objects.contains(ref), bool)
    assert_type(await la.objects.delete(ref), bool)
    draft = await la.objects.create(100)
    assert_type(draft, Draft)
    assert_type(draft.view, memoryview)
    assert_type(draft.seal(), la.ObjectRef[memoryview])


def a_ref_of_something_is_one_of_anything(ref: la.ObjectRef[Array]) -> la.ObjectRef[object]:
    return ref


async def wrong(array: Array, ref: la.ObjectRef[Array]) -> None:
    await la.get(array)  # E(mypy): expected "ObjectRef  # E(pyright): is not assignable to "ObjectRef
    (await la.put(array)).sum()  # E: sum
    (await la.get(ref)).upper()  # E: upper
    la.put(array)  # E(mypy): must be used  # E(pyright): is not used
    await la.get(la.put(array))  # E(mypy): "Coroutine[  # E(pyright): "CoroutineType[
    la.release(array)  # E(mypy): expected "ObjectRef  # E(pyright): is not assignable to "ObjectRef
    await la.put(array, within="long")  # E(mypy): expected "float"  # E(pyright): "within"
    await la.put()  # E: "value"
    await la.objects.create("1 GB")  # E(mypy): expected "int"  # E(pyright): "size"
    la.open_system(objects=la.ObjectLimits(capacity="1 GB"))  # E(mypy): "capacity"  # E(pyright): "capacity"
    la.open_system(objects=2**30)  # E(mypy): "objects"  # E(pyright): "objects"
