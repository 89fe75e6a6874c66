"""What can't be put or had says so and says the cure; nothing crashes, and nobody gets another's bytes."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import AsyncIterator

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
)
from lightactors.objects.client import Client, Held
from lightactors.objects.founder import Founder
from lightactors.objects.founder import _founders as founders
from lightactors.objects.ref import ObjectRef
from lightactors.objects.values import take_apart

MIB = 2**20


@pytest.fixture(autouse=True)
async def system() -> AsyncIterator[la.System]:
    async with la.open_system("system", objects=la.ObjectLimits(capacity=8 * MIB, spill=None)) as system:
        yield system


# Refs


async def test_ref_that_was_released_is_refused() -> None:
    ref = await la.put(np.arange(1000))
    la.release(ref)
    with pytest.raises(ObjectReleased, match=r"<object \S+ released> was released; put the value again"):
        await la.get(ref)
    la.release(ref)  # again, which does nothing


async def test_view_outlives_its_ref_and_what_is_put_afterwards() -> None:
    array = np.arange(100_000)
    ref = await la.put(array)
    view = await la.get(ref)
    la.release(ref)
    del ref
    for number in range(20):
        await la.put(np.full(50_000, number))
    assert (view == array).all()
    assert (await la.objects.statistics()).total_objects == 1


async def test_object_that_was_deleted_is_lost_to_who_holds_it_and_views_stay() -> None:
    array = np.arange(100_000)
    ref, other = await la.put(array), await la.put(array)
    view = await la.get(ref)
    assert await la.objects.delete(ref)
    assert await la.objects.delete(other)
    assert not await la.objects.delete(ref)
    assert not await la.objects.contains(ref)
    assert (view == array).all()
    with pytest.raises(ObjectLost, match="was deleted, or lost with the process that put it"):
        await la.get(other)


async def test_object_of_an_owner_that_was_killed_is_lost() -> None:
    ref = await la.put(np.arange(100_000))
    held = ref.held
    assert isinstance(held, Held)
    founder = next(founder for founder in founders if founder.name == held.client.name)
    assert founder.pid is not None
    os.kill(founder.pid, signal.SIGKILL)
    with pytest.raises(ObjectLost, match=r"can't be reached .*: what it held is lost"):
        await la.get(ref)


async def test_ref_of_another_program_s_store_that_has_ended_is_lost() -> None:
    founder = Founder(la.ObjectLimits(capacity=MIB))
    client = Client(founder.name, "other")
    lease = client.lease(64, patience=10.0)
    id = client.new_id()
    client.seal(lease, 64, id)
    ref: ObjectRef[object] = ObjectRef(client.new(id), id, 64)
    founder.close()
    with pytest.raises(ObjectLost, match="what it held is lost"):
        await la.get(ref)
    client.close()


async def test_ref_of_another_program_s_store_does_not_unpickle_what_is_in_there() -> None:
    founder = Founder(la.ObjectLimits(capacity=MIB))
    client = Client(founder.name, "other")
    parts = take_apart({1, 2, 3})
    held = client.put(parts, patience=10.0)
    with pytest.raises(ObjectError, match="pickled"):
        await la.get(ObjectRef(held, held.id, parts.size))
    del held
    client.close()
    founder.close()


async def test_object_that_was_never_sealed_is_lost() -> None:
    draft = await la.objects.create(1000)
    held = (await la.put(b"x")).held
    assert isinstance(held, Held)
    unsealed = held.client.hold((held.client.number, 10_000))
    with pytest.raises(ObjectLost):
        await la.get(ObjectRef(unsealed, unsealed.id, 1000))
    draft.discard()


async def test_ref_can_not_be_pickled() -> None:
    ref = await la.put(b"x" * 1000)
    with pytest.raises(TypeError, match="send it in a message"):
        pickle.dumps(ref)


@pytest.mark.parametrize("nonsense", [None, b"x", 3, "ref"])
async def test_what_is_no_ref_is_refused(nonsense: object) -> None:
    with pytest.raises(ObjectError, match=r"get\(.*\) takes a ref of an object"):
        await la.get(nonsense)  # type: ignore[arg-type]
    with pytest.raises(ObjectError, match=r"release\(.*\) takes a ref of an object"):
        la.release(nonsense)  # type: ignore[arg-type]


# Views


async def test_array_is_not_to_be_written_to() -> None:
    view = await la.get(await la.put(np.arange(100_000)))
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    with pytest.raises(TypeError, match="read-only"):
        (await la.get(await la.put(memoryview(b"x" * 1000))))[0] = 1


_WRITES = """
import anyio, ctypes, os, sys
import numpy as np
import lightactors as la

async def main():
    async with la.open_system("system", objects=la.ObjectLimits(capacity=8 * 2**20)):
        ref = await la.put(np.zeros(100_000))
        view = await la.get(ref)
        child = os.fork()
        if not child:
            ctypes.memset(view.ctypes.data, 1, 8)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert view[0] == 0 and (await la.get(ref))[0] == 0
        print(os.waitstatus_to_exitcode(status))

anyio.run(main)
"""


async def test_who_writes_to_a_view_through_its_address_is_killed_and_nobody_else() -> None:
    ran = await anyio.run_process([sys.executable, "-c", _WRITES], check=False)
    assert ran.stdout.decode() == f"{-signal.SIGSEGV}\n", ran.stderr


# Sizes


@pytest.mark.parametrize("empty", [b"", memoryview(b""), np.zeros((0, 5)), np.zeros(0, "S0"), {}, [], ()])
async def test_empty_value_comes_back(empty: object) -> None:
    value = await la.get(await la.put(empty))
    assert type(value) is type(empty)
    assert bytes(value) == b"" if isinstance(value, memoryview) else len(value) == 0  # type: ignore[arg-type]


async def test_value_beyond_the_store_is_refused_with_the_cure() -> None:
    with pytest.raises(ObjectStoreFull, match=r"ObjectLimits\(capacity=\.\.\.\)\) gives it more"):
        await la.put(np.zeros(2 * MIB))


@pytest.mark.parametrize("size", [0, -1, 1.5, "1", None, True])
async def test_draft_of_no_size_is_refused(size: object) -> None:
    with pytest.raises(ConfigurationError, match="size="):
        await la.objects.create(size)  # type: ignore[arg-type]


async def test_draft_beyond_the_store_is_refused() -> None:
    with pytest.raises(ObjectStoreFull):
        await la.objects.create(9 * MIB)


async def test_draft_shows_nothing_of_what_lay_there_before() -> None:
    la.release(await la.put(np.full(4 * MIB, 7, "u1")))
    draft = await la.objects.create(6 * MIB)
    assert not np.frombuffer(draft.view, "u1").any()


async def test_draft_that_is_over_is_not_sealed_again() -> None:
    draft = await la.objects.create(1000)
    array = np.frombuffer(draft.view, "u1")
    with pytest.raises(ObjectError, match="while an array or a slice of its view is there"):
        draft.seal()
    del array
    draft.seal()
    with pytest.raises(ObjectError, match="was sealed or discarded before"):
        draft.seal()
    with pytest.raises(ObjectError, match="was sealed or discarded before"):
        draft.discard()


# Values


async def test_array_of_objects_that_pickle_comes_back_and_of_others_is_refused() -> None:
    array = np.array([{1}, None], dtype=object)
    assert list(await la.get(await la.put(array))) == [{1}, None]
    with pytest.raises(CannotTravel):
        await la.put(np.array([lambda: 1], dtype=object))


async def test_value_that_can_not_be_pickled_is_refused_and_leaves_nothing() -> None:
    before = (await la.objects.statistics()).used
    with pytest.raises(CannotTravel):
        await la.put([np.zeros(100_000), threading.Lock()])
    assert (await la.objects.statistics()).used == before
