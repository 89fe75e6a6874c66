"""Whatever a database does, the threads of a store live on: every call is answered, and the next one is tried again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from lightactors.errors import StoreDamaged, StoreError, StoreUnavailable
from lightactors.training.records import RolloutConfig
from lightactors.training.stores.sql.database import Interrupted
from lightactors.training.stores.sql.sqlite import SqliteDatabase
from tests.real_time.durability.apsw_driver import store_of
from tests.real_time.marks import chiefly_on

pytestmark = chiefly_on("asyncio")

WITHIN = 20


class Script:
    """What the methods of all connections raise, the next times that they are called."""

    def __init__(self) -> None:
        self.errors: dict[str, list[Exception]] = {}

    def meet(self, name: str) -> None:
        if self.errors.get(name):
            raise self.errors[name].pop()


class Scripted(SqliteDatabase):
    """A connection that raises what a script says."""

    def __init__(self, script: Script, path: Path, is_reader: bool) -> None:
        super().__init__(str(path), is_reader=is_reader)
        self._script = script

    def begin(self) -> bool:
        self._script.meet("begin")
        return super().begin()

    def begin_to_read(self) -> None:
        self._script.meet("begin_to_read")
        super().begin_to_read()

    def commit(self) -> None:
        self._script.meet("commit")
        super().commit()

    def has_news(self) -> bool:
        self._script.meet("has_news")
        return super().has_news()

    def recover(self) -> None:
        self._script.meet("recover")
        super().recover()


@pytest.fixture
def script() -> Script:
    return Script()


@asynccontextmanager
async def opened(script: Script, path: Path) -> AsyncIterator[Any]:
    store = store_of(partial(Scripted, script, path), str(path))
    try:
        await store.statistics()
        yield store
    finally:
        await anyio.to_thread.run_sync(store.close)


MakeError = Callable[[str], Exception]
ERRORS: list[MakeError] = [Interrupted, StoreUnavailable, StoreDamaged, RuntimeError]


async def tried(call: Any, text: str) -> None:
    """Make a call that may be refused, if only with that text."""
    try:
        await call
    except (StoreError, RuntimeError) as error:
        assert text in str(error)  # noqa: PT017


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["begin", "commit", "has_news", "begin_to_read"])
async def test_threads_outlive_errors(script: Script, tmp_path: Path, where: str, error: MakeError) -> None:
    async with opened(script, tmp_path / "run.db") as store:
        script.errors[where] = [error("now and then")] * (1 if where == "has_news" else 2)
        with anyio.fail_after(WITHIN):
            for _ in range(4):
                await tried(store.enqueue_rollout(0), "now and then")
                await tried(store.query_rollouts(), "now and then")
            while script.errors[where]:  # the writer looks for news by itself, each second
                await anyio.lowlevel.checkpoint()
            fresh = await store.enqueue_rollout(1)
            assert (await store.query_rollouts())[-1] == fresh


@pytest.mark.parametrize("error", ERRORS)
async def test_connection_that_can_not_be_made_again_is_tried_again(
    script: Script, tmp_path: Path, error: MakeError
) -> None:
    async with opened(script, tmp_path / "run.db") as store:
        script.errors = {"begin": [Interrupted("lost")], "recover": [error("not yet") for _ in range(2)]}
        with anyio.fail_after(WITHIN):
            while script.errors["recover"]:
                await tried(store.enqueue_rollout(0), "not yet")
            await store.enqueue_rollout(1)


@pytest.mark.parametrize("error", ERRORS)
async def test_deadline_and_waits_outlive_errors_that_nobody_has_called_for(
    script: Script, tmp_path: Path, error: MakeError
) -> None:
    async with opened(script, tmp_path / "run.db") as store:
        started = await store.start_rollout(0, config=RolloutConfig(unresponsive_seconds=0.2))
        claimed: list[Any] = []

        async def claim() -> None:
            # Who has waited for long enough hears that the database can't be had.
            await tried(store.dequeue_rollout("w", timeout=0.5), "now and then")
            claimed.append(None)

        with anyio.fail_after(WITHIN):
            async with anyio.create_task_group() as tg:
                tg.start_soon(claim)
                while not (await store.statistics()).waiters:
                    await anyio.lowlevel.checkpoint()
                script.errors["commit"] = [error("now and then")]
            (ended,) = await store.wait_for_rollouts(rollout_ids=[started.rollout_id])
        assert ended.attempt.status == "unresponsive"
        assert claimed == [None]
