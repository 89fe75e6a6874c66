"""Traces become triplets and conversations."""

from __future__ import annotations

import json
from typing import Any

from lightactors.training.records import Span, Triplet
from lightactors.training.tracing.adapters import TraceToMessages, TraceToTriplets
from lightactors.training.tracing.attributes import flatten
from lightactors.training.tracing.trace import Trace, emit_message, emit_object, emit_reward, operation

QUESTION = {"role": "user", "content": "two and two?"}
ANSWER = {"role": "assistant", "content": "four"}


def span(
    name: str,
    number: int,
    attributes: dict[str, Any] | None = None,
    *,
    end: float | None = None,
    parent: str | None = None,
) -> Span:
    return Span(
        rollout_id="ro-1",
        attempt_id="at-1",
        sequence_id=number,
        trace_id="t",
        span_id=f"{name}-{number}",
        parent_id=parent,
        name=name,
        end_time=end,
        attributes=flatten("", attributes),
    )


def call(number: int, *, end: float | None = None, parent: str | None = None, text: str = "four") -> Span:
    attributes = {"gen_ai.prompt": [QUESTION], "gen_ai.completion": [{"role": "assistant", "content": text}]}
    return span("openai.chat.completion", number, attributes, end=end, parent=parent)


def reward(number: int, value: float, *, end: float | None = None) -> Span:
    return span("agentlightning.annotation", number, {"agentlightning.reward": [{"value": value}]}, end=end)


def rewards(triplets: list[Triplet]) -> list[float | None]:
    return [triplet.reward for triplet in triplets]


# Triplets


def test_llm_call_is_a_step_with_messages_and_tokens() -> None:
    attributes = {
        "gen_ai.prompt": [QUESTION],
        "gen_ai.completion": [ANSWER],
        "prompt_token_ids": [1, 2],
        "response_token_ids": [3],
        "gen_ai.response.id": "r-1",
    }
    spans = [span("llm", 1, attributes), reward(2, 1)]
    (triplet,) = TraceToTriplets().adapt(spans)
    assert triplet.prompt == {"token_ids": [1, 2], "raw_content": [QUESTION]}
    assert triplet.response == {"token_ids": [3], "raw_content": [ANSWER]}
    assert triplet.reward == 1
    assert triplet.metadata == {"name": "llm", "span_id": "llm-1", "response_id": "r-1"}


def test_reward_belongs_to_the_last_step_before_it() -> None:
    spans = [call(1), reward(2, 0.1), call(3), call(4), reward(5, 0.4)]
    assert rewards(TraceToTriplets().adapt(spans)) == [0.1, None, 0.4]


def test_last_of_several_rewards_counts() -> None:
    assert rewards(TraceToTriplets().adapt([call(1), reward(2, 0.1), reward(3, 0.2)])) == [0.2]


def test_reward_before_the_first_step_is_nobodys() -> None:
    assert rewards(TraceToTriplets().adapt([reward(1, 0.1), call(2)])) == [None]


def test_time_goes_before_the_sequence() -> None:
    spans = [call(1, end=1), call(2, end=3), reward(3, 0.1, end=2), reward(4, 0.2, end=4)]
    assert rewards(TraceToTriplets().adapt(spans)) == [0.1, 0.2]


def test_sequence_decides_where_a_span_has_no_time() -> None:
    spans = [call(3, end=1), call(1), reward(2, 0.1, end=9)]
    assert rewards(TraceToTriplets().adapt(spans)) == [0.1, None]


def test_innermost_of_nested_calls_is_the_step() -> None:
    outer, tool, inner = call(3), span("tool", 2, parent="openai.chat.completion-3"), call(1, parent="tool-2")
    (triplet,) = TraceToTriplets().adapt([inner, tool, outer])
    assert triplet.metadata["span_id"] == inner.span_id


def test_operations_are_steps_where_no_model_was_called() -> None:
    trace = Trace("ro-1", "at-1")
    with trace.active():
        with operation("episode"):
            for position in range(2):
                with operation("act") as act:
                    act.set_input(position=position)
                    act.set_output("left")
                emit_reward(position)
        emit_message("not a step here")
    first, second = TraceToTriplets().adapt(trace.spans)
    assert (first.prompt, first.response, first.reward) == ({"position": 0}, "left", 0)
    assert (second.prompt, second.response, second.reward) == ({"position": 1}, "left", 1)
    assert first.metadata["operation"] == "act"


def test_messages_and_objects_are_steps_where_there_is_nothing_else() -> None:
    trace = Trace("ro-1", "at-1")
    with trace.active():
        emit_message("hello")
        emit_object({"prompt": [1], "response": [2]})
        emit_object({"move": "left"})
        emit_reward(1)
    triplets = TraceToTriplets().adapt(trace.spans)
    assert [(triplet.prompt, triplet.response) for triplet in triplets] == [
        (None, "hello"),
        ([1], [2]),
        (None, {"move": "left"}),
    ]
    assert rewards(triplets) == [None, None, 1]


def test_trace_without_steps_has_no_triplets() -> None:
    assert TraceToTriplets().adapt([reward(1, 1)]) == []
    assert TraceToTriplets().adapt([]) == []


# Messages


def test_conversation_has_prompt_answer_and_tools() -> None:
    function = {"name": "add", "description": "adds", "parameters": '{"type": "object"}'}
    attributes = {"gen_ai.prompt": [QUESTION], "gen_ai.completion": [ANSWER], "gen_ai.request.functions": [function]}
    (conversation,) = TraceToMessages().adapt([span("llm", 1, attributes), reward(2, 1)])
    assert conversation["messages"] == [QUESTION, ANSWER]
    assert conversation["tools"] == [
        {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}}}
    ]


def test_conversations_come_in_the_order_of_their_ends() -> None:
    conversations = TraceToMessages().adapt([call(1, end=2, text="second"), call(2, end=1, text="first")])
    assert [conversation["messages"][-1]["content"] for conversation in conversations] == ["first", "second"]
    assert conversations[0]["tools"] is None


def test_tool_calls_take_openais_form() -> None:
    tool_call = {"id": "c-1", "name": "add", "arguments": '{"a": 2}'}
    prompt = [QUESTION, {"tool_calls": [tool_call]}, {"tool_call_id": "c-1", "content": "4"}]
    (conversation,) = TraceToMessages().adapt([span("llm", 1, {"gen_ai.prompt": prompt})])
    _, asked, answered = conversation["messages"]
    assert asked["role"] == "assistant"
    assert asked["tool_calls"] == [
        {"id": "c-1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    ]
    assert answered == {"role": "tool", "content": "4", "tool_call_id": "c-1"}


def test_messages_in_parts_are_put_together() -> None:
    prompt = [
        {"role": "user", "parts": [{"type": "text", "content": "two and "}, {"type": "text", "content": "two?"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c-1", "name": "add", "arguments": {"a": 2}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c-1", "response": "4"}]},
    ]
    answer = [{"role": "assistant", "parts": [{"type": "text", "content": "four"}], "finish_reason": "stop"}]
    attributes = {"gen_ai.input.messages": json.dumps(prompt), "gen_ai.output.messages": json.dumps(answer)}
    (conversation,) = TraceToMessages().adapt([span("chat", 1, attributes)])
    question, asked, answered, said = conversation["messages"]
    assert (question, said) == (QUESTION, ANSWER)
    assert asked["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 2}'}
    assert answered == {"role": "tool", "content": "4", "tool_call_id": "c-1"}
