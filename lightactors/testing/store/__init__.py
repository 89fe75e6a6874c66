"""What every store must do, as small checks that run against any store through any door.

```python
async def test_my_store() -> None:
    await check_store(open_my_store)  # an async context manager that yields a store, empty each time
```

`CHECKS` has them one by one, to parametrise a test with. None of them needs a clock that moves, nor a time-out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from lightactors.testing.store import queue, reading, refusals, resources, spans, statuses, waiting, workers
from lightactors.training.stores.contract import Store

OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[Store]]
Check: TypeAlias = Callable[[Store], Awaitable[None]]

CHECKS: tuple[Check, ...] = tuple(
    check
    for subject in (queue, statuses, waiting, reading, spans, resources, workers, refusals)
    for name, check in vars(subject).items()
    if name.startswith("check_")
)


async def check_store(open_store: OpenStore) -> None:
    """Run every check, each against a store of its own; the first that fails raises, with its name in a note."""
    for check in CHECKS:
        await check_rule(check, open_store)


async def check_rule(check: Check, open_store: OpenStore) -> None:
    """Run one check against a store of its own."""
    try:
        async with open_store() as store:
            await check(store)
    except Exception as error:
        error.add_note(f"check_store: {getattr(check, '__name__', check)}")
        raise
