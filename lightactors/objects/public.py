"""The object store for its users: what is put once is read in place by every process of the host."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

from lightactors.actors.root import system_here
from lightactors.errors import ObjectError, check_seconds, check_whole, shown
from lightactors.objects.client import Client, Held
from lightactors.objects.draft import Draft
from lightactors.objects.figures import Figures
from lightactors.objects.lent import Lent
from lightactors.objects.ref import ObjectRef
from lightactors.objects.sharing import Sharing
from lightactors.objects.store import WITHIN
from lightactors.remote.node import node_of

T = TypeVar("T")


def _sharing() -> Sharing:
    """Return the objects of the system that the code runs in."""
    sharing = node_of(system_here()).sharing
    assert isinstance(sharing, Sharing)
    return sharing


async def put(value: T, *, within: float = WITHIN) -> ObjectRef[T]:
    """Put a value into the object store; return a ref, which travels in messages and keeps it.

    Arrays, tensors, Arrow tables and bytes, also deep inside of dicts, lists and tuples, are copied once, into memory
    that all processes of the program share; every other value is pickled around them. The store belongs to the
    system that the code runs in, and ends with it.

    If there is no memory for it, what nobody looks at is written to the disk (`ObjectLimits`), and the value waits for
    `within` seconds. Raises `ObjectStoreFull`, which says who holds what, and `CannotTravel` for what can't be pickled.
    """
    check_seconds("within", within)
    return await _sharing().store.put(value, within=within)


async def get(ref: ObjectRef[T]) -> T:
    """Return the value of a ref: its arrays and tables are read-only and lie where they were put, without a copy.

    A tensor, for torch knows nothing read-only, may be written to: what is written is this process's alone. `bytes` are
    copied; put a `memoryview` of them to get one. An object of another host is brought here first, once for all
    processes. A view outlives its ref: the object stays until the last array of it is gone.

    Raises `ObjectReleased`, `ObjectLost` if the object was deleted or lost with its store or host, and `ObjectError`
    for a value that another program has pickled.
    """
    held = _checked(ref, "get").held
    sharing = _sharing()
    if isinstance(held, Lent):
        ref.came_nearer(await sharing.pulling.nearer(held, ref.size))
    return await sharing.store.get(ref)


def release(ref: ObjectRef[Any]) -> None:
    """Let go of an object now, and not when the ref is garbage; views of it stay. A released ref does nothing here."""
    _checked(ref, "release").let_go()


async def create(size: int, *, within: float = WITHIN) -> Draft:
    """Return a draft of `size` bytes, to be written to in place: `draft.view`, then `ref = draft.seal()`.

    `get` returns a `memoryview` of it. A draft that is not to be sealed is discarded, or forgotten. Raises
    `ObjectStoreFull`.
    """
    return await _sharing().store.create(check_whole("size", size), within=check_seconds("within", within))


async def contains(ref: ObjectRef[Any]) -> bool:
    """Tell whether an object is in the store of this host."""
    store = _sharing().store
    return await store.contains(_checked(ref, "contains").id, _line(ref))


async def delete(ref: ObjectRef[Any]) -> bool:
    """Drop an object of this host's store, whoever holds it; views of it stay. False: it is not there (any more)."""
    store = _sharing().store
    return await store.delete(_checked(ref, "delete").id, _line(ref))


async def statistics() -> Figures:
    """Return what is in the store: sizes, holders, what was spilled, how much is free."""
    return await _sharing().store.statistics()


def _checked(ref: ObjectRef[T], what: str) -> ObjectRef[T]:
    if isinstance(ref, ObjectRef):
        return ref
    cure = "takes a ref of an object, as put() returns one"
    if isinstance(ref, Awaitable):
        cure = f"lacks an await: {what}(await put(...))"
    elif isinstance(ref, (list, tuple)):
        cure = "takes one ref; call it for each"
    raise ObjectError(f"{what}({shown(ref)[:80]}) {cure}")


def _line(ref: ObjectRef[Any]) -> Client | None:
    """Return the line to the store that an object lies in; None: it is this program's own."""
    held = None if ref.is_released else ref.held
    return held.client if isinstance(held, Held) and held.client.error is None else None
