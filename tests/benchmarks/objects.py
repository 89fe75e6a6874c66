"""Large values for other processes: through the object store, as a message, and as a program without it would do it.

Times are those of one operation, in the best of several rounds; what is put is let go of in the same time. Of one that
is got, the time in the process that gets it. Beside: a plain copy in memory, and a `multiprocessing.shared_memory`
segment for each value.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
import psutil

import lightactors as la
from tests.benchmarks.measure import Row

ROUNDS = 10
SIZES = {"1 KB": 1_000, "1 MB": 1_000_000, "100 MB": 100_000_000}
PUTS = {"1 KB": 500, "1 MB": 25, "100 MB": 1}
GETS = {"1 KB": 500, "1 MB": 25, "100 MB": 5}
"""How many of a size are put or got in a round."""

LARGE = 100_000_000
READERS = 8
LAYERS = 16
WEIGHTS = {"100 MB": 100, "1 GB": 1_000}
MESSAGE = "message of 100 MB and its ack"

SEGMENTS = "shared_memory"
COPY = "copy in memory"

_PROOF = 7
"""What every element is: a view that shows it shows the right bytes."""


@la.actor
class Reader:
    """Gets what others have put, in a process of its own."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    @la.handler
    async def get(self, refs: list[la.ObjectRef[Any]]) -> float:
        """Return the seconds that getting one of them takes."""
        start = time.perf_counter()
        arrays = [await la.get(ref) for ref in refs]
        took = time.perf_counter() - start
        assert all(array[-1] == _PROOF for array in arrays)
        return took / len(refs)

    @la.handler
    async def prove(self, ref: la.ObjectRef[Any]) -> float:
        """See that an array lies in memory that is shared and can't be written to; return how much else it took."""
        before = _own_memory()
        array, again = await la.get(ref), await la.get(ref)
        assert int(array.sum(dtype=np.int64)) == _PROOF * array.nbytes
        took = _own_memory() - before
        address = array.__array_interface__["data"][0]
        assert address == again.__array_interface__["data"][0], "two gets, two copies"
        assert _mapping_at(address).split()[1].startswith("r--s"), _mapping_at(address)
        return took / 1e6

    @la.handler
    def size(self, array: np.ndarray[Any, Any]) -> int:
        return int(array.nbytes)

    @la.handler
    async def size_of(self, ref: la.ObjectRef[Any]) -> int:
        array = await la.get(ref)
        return int(array.nbytes)

    @la.handler
    async def hold(self, ref: la.ObjectRef[Any]) -> int:
        """Get weights and keep them."""
        weights = await la.get(ref)
        self.kept.append(weights)
        return sum(int(array[-1]) for array in weights.values())

    @la.handler
    def attach(self, names: list[str], size: int) -> float:
        """Return the seconds that it takes to get one value of so many bytes from a segment."""
        start = time.perf_counter()
        segments = [SharedMemory(name) for name in names]
        arrays = [np.ndarray(size, np.uint8, segment.buf) for segment in segments]
        took = time.perf_counter() - start
        assert all(array[-1] == _PROOF for array in arrays)
        del arrays
        for segment in segments:
            segment.close()
            resource_tracker.unregister(f"/{segment.name}", "shared_memory")  # else it unlinks what is not its own
        return took / len(names)


def _own_memory() -> int:
    return int(psutil.Process().memory_full_info().uss)


def _shared_memory() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Shmem:"))


def _mapping_at(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(number, 16) for number in line.split()[0].split("-"))
        if start <= address < end:
            return line
    raise AssertionError(f"no mapping at {address:#x}")


async def rows(_: str) -> list[Row]:
    """Measure on the running loop."""
    fresh = min([await _first_put() for _ in range(3)])
    async with la.open_system(objects=la.ObjectLimits(capacity=3 * 10**9)) as system:
        readers = [await system.options(place="process").spawn(Reader) for _ in range(READERS)]
        reader = readers[0]
        for one in readers:
            await one.get([await la.put(_array(8))])  # now it has its line to the store
        weights = [row for name in WEIGHTS for row in await _weights(name, readers)]
        found = [_micros("put 100 MB, fresh", fresh)]
        for name, size in SIZES.items():
            found.append(_micros(f"put {name}", await _best(partial(_put, size, PUTS[name]))))
            found.append(_micros(f"get {name}", await _best(partial(_get, reader, size, GETS[name]))))
        found += _rates({row.what: row for row in found})
        found += [await _proof(reader), await _message(reader), *weights]
    await _add_floors({row.what: row for row in found})
    return found


def _micros(what: str, seconds: float) -> Row:
    return Row(what, "µs", seconds * 1e6, more_is_better=False)


def _rates(rows: dict[str, Row]) -> list[Row]:
    return [
        Row("small objects put", "puts/s", 1e6 / rows["put 1 KB"].ours),
        Row("small objects got", "gets/s", 1e6 / rows["get 1 KB"].ours),
    ]


async def _best(work: Callable[[], Awaitable[float]]) -> float:
    return min([await work() for _ in range(ROUNDS)])


def _array(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full(size, _PROOF, np.uint8)


# Ours


async def _first_put() -> float:
    """Return the seconds of a put into memory that nobody has touched yet."""
    array = _array(LARGE)
    async with la.open_system(objects=la.ObjectLimits(capacity=10**9)):
        la.release(await la.put(_array(1_000)))  # the store is there
        start = time.perf_counter()
        await la.put(array)
        return time.perf_counter() - start


async def _put(size: int, count: int) -> float:
    array = _array(size)
    start = time.perf_counter()
    for _ in range(count):
        la.release(await la.put(array))
    return (time.perf_counter() - start) / count


async def _get(reader: Reader, size: int, count: int) -> float:
    array = _array(size)
    return await reader.get([await la.put(array) for _ in range(count)])


async def _proof(reader: Reader) -> Row:
    own = await reader.prove(await la.put(_array(LARGE)))
    row = Row("own memory that reading 100 MB takes", "MB", max(own, 0.01), more_is_better=False)
    row.beside["a copy of it"] = LARGE / 1e6
    return row


async def _message(reader: Reader) -> Row:
    array = _array(LARGE)

    async def as_message() -> float:
        start = time.perf_counter()
        assert await reader.size(array) == LARGE
        return time.perf_counter() - start

    async def by_ref() -> float:
        start = time.perf_counter()
        ref = await la.put(array)
        assert await reader.size_of(ref) == LARGE
        took = time.perf_counter() - start
        la.release(ref)
        return took

    row = _micros(MESSAGE, await _best(as_message))
    row.beside["put, ask and get"] = await _best(by_ref) * 1e6
    return row


async def _weights(name: str, readers: list[Reader]) -> list[Row]:
    """Measure with memory that nobody has touched yet; the readers keep what they get."""
    weights = await anyio.to_thread.run_sync(_new_weights, WEIGHTS[name])
    shared, own = _shared_memory(), _own_memory_of_children()
    start = time.perf_counter()
    ref = await la.put(weights)
    async with anyio.create_task_group() as tg:
        for reader in readers:
            tg.start_soon(_hold, reader, ref)
    took = time.perf_counter() - start
    grown = _shared_memory() - shared + _own_memory_of_children() - own
    return [
        Row(f"{name} of weights to {READERS} processes", "s", took, more_is_better=False),
        Row(f"memory of {name} there", "GB", grown / 1e9, more_is_better=False),
    ]


def _new_weights(megabytes: int) -> dict[str, Any]:
    size = megabytes * 250_000 // LAYERS
    return {f"layer {number}": np.full(size, _PROOF, np.float32) for number in range(LAYERS)}


async def _hold(reader: Reader, ref: la.ObjectRef[Any]) -> None:
    assert await reader.hold(ref) == LAYERS * _PROOF


def _own_memory_of_children() -> int:
    return sum(child.memory_full_info().uss for child in psutil.Process().children(recursive=True))


# What is beside them


async def _add_floors(rows: dict[str, Row]) -> None:
    async with la.open_system() as system:
        reader = await system.options(place="process").spawn(Reader)
        for name, size in SIZES.items():
            put = await anyio.to_thread.run_sync(_put_segments, size, PUTS[name])
            rows[f"put {name}"].beside[SEGMENTS] = put * 1e6
            rows[f"get {name}"].beside[SEGMENTS] = await _get_segments(reader, size, GETS[name]) * 1e6
            if name != "1 KB":
                rows[f"put {name}"].beside[COPY] = _copy(size, PUTS[name]) * 1e6
    fresh = rows["put 100 MB, fresh"].beside
    fresh[SEGMENTS] = rows["put 100 MB"].beside[SEGMENTS]
    fresh["copy to fresh heap memory"] = min(_copy_once(LARGE) for _ in range(ROUNDS)) * 1e6
    rows["small objects put"].beside[SEGMENTS] = 1e6 / rows["put 1 KB"].beside[SEGMENTS]
    rows["small objects got"].beside[SEGMENTS] = 1e6 / rows["get 1 KB"].beside[SEGMENTS]


def _copy(size: int, count: int) -> float:
    source, target = _array(size), _array(size)
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return best / count


def _copy_once(size: int) -> float:
    source, target = _array(size), np.empty(size, np.uint8)
    start = time.perf_counter()
    np.copyto(target, source)
    return time.perf_counter() - start


def _segment_of(array: np.ndarray[Any, Any]) -> SharedMemory:
    segment = SharedMemory(create=True, size=array.nbytes)
    np.copyto(np.ndarray(array.shape, array.dtype, segment.buf), array)
    return segment


def _let_go(segment: SharedMemory) -> None:
    segment.close()
    segment.unlink()


def _put_segments(size: int, count: int) -> float:
    array = _array(size)
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            _let_go(_segment_of(array))
        best = min(best, time.perf_counter() - start)
    return best / count


async def _get_segments(reader: Reader, size: int, count: int) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        segments = await anyio.to_thread.run_sync(_new_segments, size, count)
        best = min(best, await reader.attach([segment.name for segment in segments], size))
        for segment in segments:
            _let_go(segment)
    return best


def _new_segments(size: int, count: int) -> list[SharedMemory]:
    array = _array(size)
    return [_segment_of(array) for _ in range(count)]
