"""Hooks are told of a rollout's moments, and change nothing."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from lightactors.testing import Gate
from lightactors.training.runners.hooks import Hook
from lightactors.training.runners.runner import run_context
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.tracing.trace import current_trace, emit_message


class Diary(Hook):
    """Writes down every moment; two of its methods are async, two are not."""

    def __init__(self) -> None:
        self.moments: list[str] = []
        self.facts: list[dict[str, Any]] = []

    async def on_rollout_start(self, **facts: Any) -> None:
        self._note("on_rollout_start", facts)

    def on_trace_start(self, **facts: Any) -> None:
        self._note("on_trace_start", facts)
        emit_message("from the hook")

    def on_trace_end(self, **facts: Any) -> None:
        self._note("on_trace_end", facts)

    async def on_rollout_end(self, **facts: Any) -> None:
        self._note("on_rollout_end", facts)

    def _note(self, moment: str, facts: dict[str, Any]) -> None:
        assert current_trace() is not None
        self.moments.append(moment)
        self.facts.append(facts)


ALL = ["on_rollout_start", "on_trace_start", "on_trace_end", "on_rollout_end"]


async def answer(task: str) -> float:
    return 1.0


async def test_moments_come_in_order_with_their_facts() -> None:
    diary = Diary()
    async with run_context(answer, MemoryStore(), hooks=[diary]) as runner:
        rollout = await runner.step("task")
    assert diary.moments == ALL
    assert all(facts["agent"] is answer and facts["runner"] is runner for facts in diary.facts)
    assert {facts["rollout"].rollout_id for facts in diary.facts} == {rollout.rollout_id}
    assert diary.facts[1]["tracer"] is diary.facts[2]["tracer"] is runner.tracer


async def test_spans_at_the_end_are_what_the_store_has() -> None:
    diary, store = Diary(), MemoryStore()
    async with run_context(answer, store, hooks=[diary]) as runner:
        rollout = await runner.step("task")
    spans = await store.query_spans(rollout.rollout_id)
    assert diary.facts[-1]["spans"] == spans
    assert [span.name for span in spans] == ["agentlightning.message", "agentlightning.annotation"]


@pytest.mark.parametrize("moment", ALL)
async def test_failing_hook_is_logged_and_changes_nothing(moment: str, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Hook):
        pass

    def fail(self: Hook, **facts: Any) -> None:
        raise LookupError("of the hook")

    setattr(Failing, moment, fail)
    diary = Diary()
    async with run_context(answer, MemoryStore(), hooks=[Failing(), diary]) as runner:
        rollout = await runner.step("task")
    assert rollout.status == "succeeded"
    assert diary.moments == ALL
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"Failing failed in {moment}" in record.getMessage()


async def test_hooks_hear_the_end_of_a_rollout_that_failed() -> None:
    async def fail(task: str) -> None:
        raise ValueError(task)

    diary = Diary()
    async with run_context(fail, MemoryStore(), hooks=[diary]) as runner:
        with pytest.raises(ValueError, match="task"):
            await runner.step("task")
    assert diary.moments == ALL


async def test_hooks_hear_the_end_of_a_rollout_that_was_cancelled() -> None:
    gate = Gate()

    async def wait(task: str) -> None:
        await gate.wait()

    diary = Diary()
    async with run_context(wait, MemoryStore(), hooks=[diary]) as runner, anyio.create_task_group() as tasks:
        tasks.start_soon(runner.step, "task")
        await gate.reached()
        tasks.cancel_scope.cancel()
    assert diary.moments == ALL


async def test_end_is_not_told_where_the_start_was_not() -> None:
    gate = Gate()

    class Slow(Diary):
        async def on_rollout_start(self, **facts: Any) -> None:
            await super().on_rollout_start(**facts)
            await gate.wait()

    diary = Slow()
    async with run_context(answer, MemoryStore(), hooks=[diary]) as runner, anyio.create_task_group() as tasks:
        tasks.start_soon(runner.step, "task")
        await gate.reached()
        tasks.cancel_scope.cancel()
    assert diary.moments == ["on_rollout_start", "on_rollout_end"]
