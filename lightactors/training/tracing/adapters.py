"""Adapters: from the spans of an attempt to what an algorithm learns from.

Spans are taken in the order in which they ended (`end_time`, or else `start_time`); where some have neither
time, in the order of their `sequence_id`. Times decide first, because spans that others wrote into the
attempt, such as the model's proxy, are numbered when they arrive.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypedDict, TypeVar

from lightactors.training.records import Attributes, Span, Triplet
from lightactors.training.tracing import semconv
from lightactors.training.tracing.attributes import unflatten
from lightactors.training.tracing.rewards import get_reward_value

T_co = TypeVar("T_co", covariant=True)

ChatMessage: TypeAlias = dict[str, Any]
"""A message in OpenAI's form: `role`, `content`, and `tool_calls` or `tool_call_id` where there are some."""


class Adapter(ABC, Generic[T_co]):
    """Base of adapters."""

    @abstractmethod
    def adapt(self, spans: Sequence[Span]) -> T_co:
        """Convert the spans of one attempt."""


class TraceToTriplets(Adapter[list[Triplet]]):
    """The steps of a trajectory, with their rewards.

    What a step is depends on the first of these that the trace has:

    1. calls of a language model: `prompt` and `response` are dicts with `token_ids` and `raw_content`, the
       messages, as in Agent-Lightning; `metadata` has the `response_id`, if there is one;
    2. operations with an input and an output, which are the `prompt` and the `response`;
    3. messages and objects: they are the `response`, without a `prompt`; an object with just these two keys
       is both.

    Of steps one inside another only the innermost count. A reward belongs to the last step that ended before
    it; of several for one step the last counts, and one before the first step is nobody's. A step without a
    reward has None.
    """

    def adapt(self, spans: Sequence[Span]) -> list[Triplet]:
        ordered = _ordered(spans)
        steps = _innermost_steps(ordered)
        rewards: dict[str, float] = {}
        latest: str | None = None
        for span in ordered:
            if span.span_id in steps:
                latest = span.span_id
            elif latest is not None and (reward := get_reward_value(span)) is not None:
                rewards[latest] = reward
        return [step.triplet(rewards.get(span_id)) for span_id, step in steps.items()]


class OpenAIMessages(TypedDict):
    """One conversation in the form that OpenAI's fine-tuning takes."""

    messages: list[ChatMessage]
    tools: list[dict[str, Any]] | None


class TraceToMessages(Adapter[list[OpenAIMessages]]):
    """The conversation of each call of a language model: its messages, the answer, and the tools it was offered."""

    def adapt(self, spans: Sequence[Span]) -> list[OpenAIMessages]:
        ordered = _ordered(spans)
        calls = _innermost(ordered, {span.span_id: span for span in ordered if _llm_call(span) is not None})
        return [
            OpenAIMessages(
                messages=[*_messages(span.attributes, _PROMPTS), *_messages(span.attributes, _COMPLETIONS)],
                tools=_tools(span.attributes),
            )
            for span in calls.values()
        ]


def _ordered(spans: Sequence[Span]) -> list[Span]:
    if all(_moment(span) is not None for span in spans):
        return sorted(spans, key=lambda span: (_moment(span), span.sequence_id))
    return sorted(spans, key=lambda span: span.sequence_id)


def _moment(span: Span) -> float | None:
    return span.start_time if span.end_time is None else span.end_time


# Steps


class _Step:
    """A span as a step: what went in and what came out."""

    def __init__(self, span: Span, prompt: object, response: object, **metadata: object) -> None:
        self._span = span
        self._prompt = prompt
        self._response = response
        self._metadata = {key: value for key, value in metadata.items() if value is not None}

    def triplet(self, reward: float | None) -> Triplet:
        metadata = {"name": self._span.name, "span_id": self._span.span_id, **self._metadata}
        return Triplet(self._prompt, self._response, reward, metadata)


def _innermost_steps(spans: Sequence[Span]) -> dict[str, _Step]:
    for read in _STEPS:
        steps = {span.span_id: step for span in spans if (step := read(span)) is not None}
        if steps:
            return _innermost(spans, steps)
    return {}


T = TypeVar("T")


def _innermost(spans: Sequence[Span], chosen: dict[str, T]) -> dict[str, T]:
    """Leave out what contains something else that was chosen."""
    parents = {span.span_id: span.parent_id for span in spans}
    containing: set[str] = set()
    for span_id in chosen:
        above = parents[span_id]
        while above is not None and above not in containing:
            containing.add(above)
            above = parents.get(above)
    return {span_id: value for span_id, value in chosen.items() if span_id not in containing}


def _llm_call(span: Span) -> _Step | None:
    attributes = span.attributes
    prompt, response = _messages(attributes, _PROMPTS), _messages(attributes, _COMPLETIONS)
    prompt_ids, response_ids = attributes.get("prompt_token_ids"), attributes.get("response_token_ids")
    if not (prompt or response or prompt_ids or response_ids):
        return None
    return _Step(
        span,
        {"token_ids": _token_ids(prompt_ids), "raw_content": prompt},
        {"token_ids": _token_ids(response_ids), "raw_content": response},
        response_id=attributes.get("gen_ai.response.id"),
    )


def _token_ids(value: Any) -> list[int]:
    return [int(token) for token in _parsed(value) or ()]


def _operation(span: Span) -> _Step | None:
    if span.name != semconv.OPERATION:
        return None
    name = span.attributes.get(semconv.OPERATION_NAME)
    prompt = unflatten(span.attributes, semconv.OPERATION_INPUT)
    response = unflatten(span.attributes, semconv.OPERATION_OUTPUT)
    return None if prompt is None or response is None else _Step(span, prompt, response, operation=name)


def _emission(span: Span) -> _Step | None:
    if span.name == semconv.MESSAGE:
        return _Step(span, None, span.attributes.get(semconv.MESSAGE_BODY))
    if span.name != semconv.OBJECT:
        return None
    value = _parsed(span.attributes.get(semconv.OBJECT_JSON))
    if isinstance(value, dict) and value.keys() == {"prompt", "response"}:
        return _Step(span, value["prompt"], value["response"])
    return _Step(span, None, value)


_STEPS: Sequence[Callable[[Span], _Step | None]] = (_llm_call, _operation, _emission)


# Messages


_PROMPTS = ("gen_ai.prompt", "gen_ai.input.messages")
_COMPLETIONS = ("gen_ai.completion", "gen_ai.output.messages")
_TOOLS = ("gen_ai.request.functions", "llm.request.functions", "gen_ai.tool.definitions")


def _messages(attributes: Attributes, names: Sequence[str]) -> list[ChatMessage]:
    """Read messages under the first of the names that is there: one attribute each, or all of them as JSON."""
    return [_message(item) for item in _items(attributes, names) if isinstance(item, dict)]


def _items(attributes: Attributes, names: Sequence[str]) -> list[Any]:
    for name in names:
        found = _parsed(unflatten(attributes, name))
        if isinstance(found, list):
            return found
    return []


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _message(item: Mapping[str, Any]) -> ChatMessage:
    if "parts" in item:
        return _message_of_parts(item)
    message: ChatMessage = {"role": _role(item), "content": item.get("content")}
    if "tool_calls" in item:
        message["tool_calls"] = [_tool_call(call) for call in item["tool_calls"]]
    if "tool_call_id" in item:
        message["tool_call_id"] = item["tool_call_id"]
    return message


def _role(item: Mapping[str, Any]) -> str:
    # Some instruments leave the role out where it follows from the rest.
    if "role" in item:
        return str(item["role"])
    return "tool" if "tool_call_id" in item else "assistant"


def _message_of_parts(item: Mapping[str, Any]) -> ChatMessage:
    """Convert a message of OpenTelemetry's newer convention, whose content is a list of parts."""
    parts = item["parts"]
    texts = [part["content"] for part in parts if part.get("type") == "text"]
    message: ChatMessage = {"role": _role(item), "content": "".join(texts) if texts else None}
    if calls := [_tool_call(part) for part in parts if part.get("type") == "tool_call"]:
        message["tool_calls"] = calls
    for part in parts:
        if part.get("type") == "tool_call_response":
            message |= {"role": "tool", "content": part.get("response"), "tool_call_id": part.get("id")}
    return message


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": call.get("id"), "type": "function", "function": {"name": function.get("name"), "arguments": text}}


def _tools(attributes: Attributes) -> list[dict[str, Any]] | None:
    return [_tool(item) for item in _items(attributes, _TOOLS)] or None


def _tool(item: Mapping[str, Any]) -> dict[str, Any]:
    function = dict(item.get("function", item))
    function.pop("type", None)
    return {"type": "function", "function": {**function, "parameters": _parsed(function.get("parameters", {}))}}
