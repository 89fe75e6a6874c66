"""What an agent emits becomes the spans of its attempt."""

from __future__ import annotations

import contextvars
import json
import logging
import math
import threading
from collections.abc import Sequence
from typing import Any

import anyio.to_thread
import msgspec
import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider

from lightactors.errors import ContractError, InvalidArgument, StoreError
from lightactors.training.records import AttemptedRollout, Span
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.tracing import semconv
from lightactors.training.tracing.attributes import flatten, unflatten
from lightactors.training.tracing.rewards import find_final_reward, find_reward_spans, get_reward_value
from lightactors.training.tracing.trace import (
    Trace,
    Tracer,
    current_trace,
    emit_annotation,
    emit_exception,
    emit_message,
    emit_object,
    emit_reward,
    operation,
    otel_span_processor,
)


@pytest.fixture
def trace() -> Trace:
    return Trace("ro-1", "at-1")


def names(trace: Trace) -> list[str]:
    return [span.name for span in trace.spans]


# Emitting


def test_reward_is_an_annotation_in_agent_lightnings_form(trace: Trace) -> None:
    with trace.active():
        emit_reward(0.5)
    (span,) = trace.spans
    assert (span.name, span.status.status_code) == ("agentlightning.annotation", "OK")
    assert span.attributes == {"agentlightning.reward.0.name": "primary", "agentlightning.reward.0.value": 0.5}
    assert (span.rollout_id, span.attempt_id, span.trace_id) == ("ro-1", "at-1", trace.trace_id)


def test_primary_dimension_of_a_reward_comes_first(trace: Trace) -> None:
    with trace.active():
        emit_reward({"speed": 0.1, "truth": 0.9}, primary_key="truth")
    assert get_reward_value(trace.spans[0]) == 0.9
    assert trace.spans[0].attributes["agentlightning.reward.1.name"] == "speed"


@pytest.mark.parametrize("reward", [True, 1, np.float32(1), np.array(1)])
def test_reward_may_be_any_number(trace: Trace, reward: Any) -> None:
    with trace.active():
        emit_reward(reward)
    assert get_reward_value(trace.spans[0]) == 1.0


@pytest.mark.parametrize("reward", [math.nan, math.inf, "0.5", None, np.array([1, 2])])
def test_reward_that_is_no_finite_number_is_refused(reward: Any) -> None:
    with pytest.raises(InvalidArgument, match="give a finite number"):
        emit_reward(reward)


def test_reward_of_several_dimensions_needs_its_primary_one() -> None:
    with pytest.raises(InvalidArgument, match="primary_key is None; name one of 'truth', 'speed'"):
        emit_reward({"truth": 1.0, "speed": 1.0})


def test_last_reward_is_the_reward(trace: Trace) -> None:
    with trace.active():
        emit_reward(0.1)
        emit_message("in between")
        emit_reward(0.9)
        emit_annotation({"note": "after"})
    assert find_final_reward(trace.spans) == 0.9
    assert [get_reward_value(span) for span in find_reward_spans(trace.spans)] == [0.1, 0.9]
    assert find_final_reward([]) is None


def test_message_and_object_keep_what_they_are_given(trace: Trace) -> None:
    with trace.active():
        emit_message("hello", attributes={"tone": "kind"})
        emit_object({"steps": [1, np.float32(2)], "left": None})
    message, thing = trace.spans
    assert message.attributes == {semconv.MESSAGE_BODY: "hello", "tone": "kind"}
    assert json.loads(str(thing.attributes[semconv.OBJECT_JSON])) == {"steps": [1, 2], "left": None}
    assert thing.attributes[semconv.OBJECT_TYPE] == "dict"


def test_object_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"the object is a ndarray.*convert it first"):
        emit_object(np.zeros(3))


def test_message_that_is_no_text_is_refused() -> None:
    wrong: Any = 5
    with pytest.raises(InvalidArgument, match="give a string"):
        emit_message(wrong)


def test_exception_comes_with_its_traceback(trace: Trace) -> None:
    try:
        raise LookupError("no such tool")
    except LookupError as error:
        with trace.active():
            emit_exception(error)
    (span,) = trace.spans
    assert span.status.status_code == "ERROR"
    assert span.attributes["exception.type"] == "LookupError"
    assert span.attributes["exception.message"] == "no such tool"
    assert "test_exception_comes_with_its_traceback" in str(span.attributes["exception.stacktrace"])


def test_annotation_flattens_what_is_nested(trace: Trace) -> None:
    class Point(msgspec.Struct):
        x: int

    with trace.active():
        emit_annotation({"a": {"b": 1, "c": None}, "tags": ["x", "y"], "points": [Point(1), Point(2)]})
    assert trace.spans[0].attributes == {"a.b": 1, "tags": ["x", "y"], "points.0.x": 1, "points.1.x": 2}


def test_unflatten_undoes_flatten() -> None:
    value = {"messages": [{"role": "user", "parts": [{"n": 1}, {"n": 2}]}, {"role": "tool"}], "ids": [1, 2]}
    assert unflatten(flatten("x", value), "x") == value
    assert unflatten({"x.1.a": 1, "x": 2}, "y") is None
    assert unflatten({f"x.{index}": index for index in reversed(range(11))}, "x") == list(range(11))


def test_outside_an_attempt_nothing_is_recorded_and_nothing_fails() -> None:
    emit_reward(1.0)
    emit_message("hello")
    with operation("search") as search:
        search.set_output("found")
    assert current_trace() is None


def test_closed_trace_takes_no_more(trace: Trace) -> None:
    with trace.active():
        trace.close()
        emit_message("too late")
    assert trace.spans == []


# Operations


def test_operation_is_the_parent_of_what_happens_in_it(trace: Trace) -> None:
    with trace.active():
        with operation("outer"):
            emit_message("first")
            with operation("inner"):
                emit_message("second")
        emit_message("outside")
    first, second, inner, outer, outside = trace.spans
    assert (first.parent_id, second.parent_id) == (outer.span_id, inner.span_id)
    assert (inner.parent_id, outer.parent_id, outside.parent_id) == (outer.span_id, None, None)


def test_operation_records_input_output_and_attributes(trace: Trace) -> None:
    with trace.active(), operation("search", engine="local") as search:
        search.set_input("lights", limit=3)
        search.set_output({"hits": [1, 2]})
    assert trace.spans[0].attributes == {
        "engine": "local",
        semconv.OPERATION_NAME: "search",
        "agentlightning.operation.input.args.0": "lights",
        "agentlightning.operation.input.limit": 3,
        "agentlightning.operation.output.hits": [1, 2],
    }


def test_operation_that_fails_has_the_error_as_its_status(trace: Trace) -> None:
    with trace.active(), pytest.raises(ZeroDivisionError), operation("divide"):
        _ = 1 / 0
    (span,) = trace.spans
    assert span.status.status_code == "ERROR"
    assert span.status.description == "ZeroDivisionError: division by zero"
    assert span.events[0].attributes["exception.type"] == "ZeroDivisionError"


async def test_decorated_function_is_an_operation_at_each_call(trace: Trace) -> None:
    @operation
    def add(left: int, right: int) -> int:
        return left + right

    @operation("twice")
    async def double(value: int, noise: Any) -> int:
        return add(value, right=value)

    with trace.active():
        assert await double(2, np.zeros(3)) == 4
    inner, outer = trace.spans
    assert inner.parent_id == outer.span_id
    assert inner.attributes == {
        semconv.OPERATION_NAME: "add",
        "agentlightning.operation.input.left": 2,
        "agentlightning.operation.input.right": 2,
        "agentlightning.operation.output": 4,
    }
    assert outer.attributes[semconv.OPERATION_NAME] == "twice"
    assert "agentlightning.operation.input.noise" not in outer.attributes
    assert add(1, 2) == 3


def test_generator_cannot_be_an_operation() -> None:
    with pytest.raises(ContractError, match="use `with operation"):

        @operation
        def count() -> Any:
            yield 1


# Threads and tasks


async def test_worker_threads_add_to_the_trace_of_their_attempt(trace: Trace) -> None:
    with trace.active(), operation("in threads"):
        await anyio.to_thread.run_sync(emit_message, "from a worker thread")
        thread = threading.Thread(target=contextvars.copy_context().run, args=(emit_message, "from a bare one"))
        thread.start()
        thread.join()
    assert {span.parent_id for span in trace.spans[:2]} == {trace.spans[2].span_id}


async def test_tasks_at_the_same_time_add_to_their_own_traces() -> None:
    traces = [Trace(f"ro-{number}", "at-1") for number in range(2)]
    both = anyio.Event()

    async def attempt(trace: Trace) -> None:
        with trace.active():
            await both.wait()
            emit_message(trace.rollout_id)

    async with anyio.create_task_group() as tasks:
        for trace in traces:
            tasks.start_soon(attempt, trace)
        both.set()
    assert [span.attributes[semconv.MESSAGE_BODY] for trace in traces for span in trace.spans] == ["ro-0", "ro-1"]


def test_threads_lose_no_spans(trace: Trace) -> None:
    def many() -> None:
        for number in range(500):
            emit_object(number)

    with trace.active():
        contexts = [contextvars.copy_context() for _ in range(4)]
    threads = [threading.Thread(target=context.run, args=(many,)) for context in contexts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trace.spans) == 2000


# Sending


async def attempted(store: MemoryStore) -> tuple[AttemptedRollout, Trace]:
    rollout = await store.start_rollout("task")
    with Tracer().trace(rollout) as trace:
        return rollout, trace


async def test_sequence_ids_increase_and_leave_room_for_what_others_wrote() -> None:
    store = MemoryStore()
    rollout, trace = await attempted(store)
    trace.add("first", {})
    trace.add("second", {})
    await trace.send(store)
    others = await store.get_next_span_sequence_id(rollout.rollout_id, rollout.attempt.attempt_id)
    trace.add("third", {})
    await trace.send(store)
    await trace.send(store)
    kept = await store.query_spans(rollout.rollout_id)
    assert [(span.name, span.sequence_id) for span in kept] == [("first", 1), ("second", 2), ("third", others + 1)]
    assert kept == trace.spans
    assert not trace.has_unsent


class LosesAnswers(MemoryStore):
    """A store whose first answer to spans is lost on its way."""

    is_lost = True

    def _add_spans(self, spans: Sequence[Span]) -> list[Span]:
        added = super()._add_spans(spans)
        if self.is_lost:
            self.is_lost = False
            raise ConnectionError("the answer was lost")
        return added


async def test_batch_whose_answer_was_lost_is_sent_again_without_duplicates() -> None:
    store = LosesAnswers()
    rollout, trace = await attempted(store)
    trace.add("first", {})
    with pytest.raises(ConnectionError):
        await trace.send(store)
    trace.add("second", {})
    await trace.send(store)
    assert [span.name for span in await store.query_spans(rollout.rollout_id)] == ["first", "second"]


async def test_what_the_store_refuses_is_given_up() -> None:
    store = MemoryStore()
    rollout, trace = await attempted(store)
    trace.add("wrong", {}, span_id=None)
    trace.spans[0] = msgspec.structs.replace(trace.spans[0], span_id="")
    with pytest.raises(StoreError):
        await trace.send(store)
    trace.add("right", {})
    await trace.send(store)
    assert [span.name for span in await store.query_spans(rollout.rollout_id)] == ["right"]


def test_full_batch_is_announced_once() -> None:
    announced: list[int] = []
    trace = Trace("ro-1", "at-1", batch=3)
    trace.when_full = lambda: announced.append(len(trace.spans))
    for _ in range(5):
        trace.add("span", {})
    assert announced == [3]


def test_span_of_somebody_elses_making_becomes_one_of_this_attempt(trace: Trace) -> None:
    foreign = Span(rollout_id="?", attempt_id="?", sequence_id=7, trace_id="t", span_id="s", name="foreign")
    trace.take(foreign)
    (span,) = trace.spans
    assert (span.rollout_id, span.attempt_id, span.sequence_id, span.span_id) == ("ro-1", "at-1", 0, "s")


# OpenTelemetry


def test_otel_spans_of_an_attempt_land_in_its_trace(trace: Trace) -> None:
    provider = TracerProvider()
    provider.add_span_processor(otel_span_processor())
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("before"):
        pass
    with trace.active(), operation("ours"):
        with tracer.start_as_current_span("outer", attributes={"gen_ai.system": "x"}):
            tracer.start_span("inner").end()
        late = tracer.start_span("late")
    late.end()
    inner, outer, ours, ended_late = trace.spans
    assert [inner.name, outer.name, ended_late.name] == ["inner", "outer", "late"]
    assert inner.parent_id == outer.span_id
    assert outer.parent_id == ours.span_id
    assert {span.trace_id for span in trace.spans} == {trace.trace_id}
    assert outer.attributes == {"gen_ai.system": "x"}


def test_otel_span_after_the_attempt_is_dropped(trace: Trace, caplog: pytest.LogCaptureFixture) -> None:
    provider = TracerProvider()
    provider.add_span_processor(otel_span_processor())
    with trace.active():
        late = provider.get_tracer("test").start_span("late")
    trace.close()
    with caplog.at_level(logging.DEBUG, "lightactors"):
        late.end()
    assert names(trace) == []
    assert "dropped" in caplog.text
