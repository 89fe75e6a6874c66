"""Records check what they can, travel as they are, and convert from and to OpenTelemetry."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from lightactors.errors import InvalidArgument
from lightactors.training.records import (
    LLM,
    Attempt,
    AttemptedRollout,
    Event,
    Link,
    OtelResource,
    PromptTemplate,
    ProxyLLM,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    Span,
    SpanContext,
    TraceStatus,
)

SPAN = Span(
    rollout_id="ro-1",
    attempt_id="at-1",
    sequence_id=3,
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="b7ad6b7169203331",
    parent_id="00f067aa0ba902b7",
    name="call",
    status=TraceStatus("ERROR", "no answer"),
    attributes={"tokens": 12, "model": "m", "stops": ["a", "b"]},
    events=[Event("retry", {"n": 1}, 2.5)],
    links=[Link(SpanContext("0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7", True), {"why": "cause"})],
    start_time=1.25,
    end_time=2.75,
    context=SpanContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", False, {"vendor": "x"}),
    parent=SpanContext("0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"),
    resource=OtelResource({"service.name": "agent"}, "https://schema"),
)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds is 0"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds is nan"),
        ({"unresponsive_seconds": -1.0}, "unresponsive_seconds is -1.0"),
        ({"unresponsive_seconds": "5"}, "unresponsive_seconds is '5'"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_attempts": 1.5}, "max_attempts is 1.5"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"retry_condition": "failed"}, "retry_condition is 'failed'; give a list"),
        ({"retry_condition": ["cancelled"]}, "retry_condition is 'cancelled'; use one of"),
    ],
)
def test_senseless_config_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        RolloutConfig(**fields)


def test_config_is_not_changed_through_the_callers_list() -> None:
    conditions: list[Any] = ["failed"]
    config = RolloutConfig(retry_condition=conditions)
    conditions.append("timeout")
    assert config.retry_condition == ("failed",)


def test_attempt_of_another_rollout_is_refused() -> None:
    attempt = Attempt(rollout_id="ro-2", attempt_id="at-1", sequence_id=1, start_time=0)
    with pytest.raises(InvalidArgument, match=r"at-1 belongs to rollout 'ro-2', not to 'ro-1'"):
        AttemptedRollout.of(Rollout(rollout_id="ro-1", input=1, start_time=0), attempt)


def test_attempted_rollout_has_every_field_of_the_rollout() -> None:
    fields: dict[str, Any] = {
        "rollout_id": "ro-1",
        "input": 1,
        "start_time": 2.0,
        "end_time": 3.0,
        "mode": "val",
        "resources_id": "rs-1",
        "status": "failed",
        "config": RolloutConfig(max_attempts=2),
        "metadata": {"a": 1},
    }
    assert set(fields) == set(Rollout.__struct_fields__)
    attempt = Attempt(rollout_id="ro-1", attempt_id="at-1", sequence_id=1, start_time=0)
    assert AttemptedRollout.of(Rollout(**fields), attempt) == AttemptedRollout(**fields, attempt=attempt)


@pytest.mark.parametrize(
    "record",
    [
        SPAN,
        RolloutConfig(timeout_seconds=1.5, retry_condition=["failed", "timeout"]),
        ResourcesUpdate(
            resources_id="rs-1",
            create_time=1.0,
            update_time=2.0,
            version=3,
            resources={
                "llm": LLM("http://a", "m", sampling_parameters={"top_p": 0.5}),
                "proxy": ProxyLLM("http://a/v1", "m", "key"),
                "prompt": PromptTemplate("{x}"),
                "weights": b"\x00\x01",
            },
        ),
    ],
    ids=lambda record: type(record).__name__,
)
def test_record_survives_the_wire(record: Any) -> None:
    packed = msgspec.msgpack.encode(msgspec.structs.replace(record))
    again = msgspec.msgpack.decode(packed, type=type(record), dec_hook=lambda hint, value: hint.from_plain(value))
    assert msgspec.to_builtins(again) == msgspec.to_builtins(record)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://proxy", "http://proxy/rollout/ro-1/attempt/at-1"),
        ("http://proxy/", "http://proxy/rollout/ro-1/attempt/at-1"),
        ("http://proxy/v1", "http://proxy/rollout/ro-1/attempt/at-1/v1"),
        ("http://proxy/v1/", "http://proxy/rollout/ro-1/attempt/at-1/v1"),
    ],
)
def test_proxy_url_carries_both_ids(endpoint: str, url: str) -> None:
    proxy = ProxyLLM(endpoint, "m", "key", {"top_p": 1})
    assert proxy.get_base_url("ro-1", "at-1") == url
    rollout = Rollout(rollout_id="ro-1", input=1, start_time=0)
    attempt = Attempt(rollout_id="ro-1", attempt_id="at-1", sequence_id=1, start_time=0)
    baked = proxy.with_attempted_rollout(AttemptedRollout.of(rollout, attempt))
    assert baked == LLM(url, "m", "key", {"top_p": 1})


def test_proxy_url_needs_both_ids_or_none() -> None:
    proxy = ProxyLLM("http://proxy/v1", "m")
    assert proxy.get_base_url() == "http://proxy/v1"
    with pytest.raises(InvalidArgument, match="attempt_id None; give both or none"):
        proxy.get_base_url("ro-1")
    assert LLM("http://llm/v1", "m").get_base_url("ro-1", "at-1") == "http://llm/v1"


def test_api_key_stays_out_of_reprs() -> None:
    assert "sk-secret" not in repr(ProxyLLM("http://a", "m", "sk-secret"))
    assert repr(LLM("http://a", "m")) == "LLM('http://a', 'm', api_key=None, {})"


@pytest.mark.parametrize(
    ("template", "engine"), [("Say {word} {n:02}", "f-string"), ("Say {{ word }} {{ '%02d' % n }}", "jinja")]
)
def test_prompt_is_filled_in(template: str, engine: Any) -> None:
    prompt = PromptTemplate(template, engine)
    assert prompt.format(word="hi", n=3) == "Say hi 03"
    with pytest.raises(InvalidArgument, match=r"no value for 'word'; it was given n$"):
        prompt.format(n=3)


def test_jinja_template_can_not_break_out() -> None:
    prompt = PromptTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}", "jinja")
    with pytest.raises(Exception, match="unsafe"):
        prompt.format()


def test_unknown_engine_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="engine is 'mustache'; use one of 'jinja'"):
        PromptTemplate("x", "mustache").format()  # type: ignore[arg-type]


def test_poml_is_called_for_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def poml(markup: str, **options: Any) -> str:
        assert options == {"context": {"a": 1}, "chat": False, "format": "raw"}
        return f"rendered {markup}"

    monkeypatch.setitem(sys.modules, "poml", SimpleNamespace(poml=poml))
    assert PromptTemplate("<p/>", "poml").format(a=1) == "rendered <p/>"


@pytest.mark.parametrize(("engine", "cure"), [("poml", "pip install poml"), ("jinja", r"lightactors\[templates\]")])
def test_missing_engine_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch, engine: Any, cure: str) -> None:
    monkeypatch.setitem(sys.modules, {"jinja": "jinja2"}.get(engine, engine), None)
    with pytest.raises(ModuleNotFoundError, match=cure):
        PromptTemplate("x", engine).format()


def test_span_goes_to_opentelemetry_and_back() -> None:
    pytest.importorskip("opentelemetry.sdk")
    again = Span.from_otel(SPAN.to_otel(), rollout_id="ro-1", attempt_id="at-1", sequence_id=3)
    assert again == SPAN


def test_span_of_the_sdk_is_read_while_it_runs() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    tracer = sdk.TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with (
        tracer.start_as_current_span("outer") as outer,
        tracer.start_as_current_span("inner", attributes={"n": 1}) as inner,
    ):
        span = Span.from_otel(inner, rollout_id="ro-1", attempt_id="at-1", sequence_id=1)
    assert (span.name, span.attributes, span.end_time) == ("inner", {"n": 1}, None)
    assert span.parent_id == f"{outer.get_span_context().span_id:016x}"
    assert span.start_time == pytest.approx(inner.start_time / 1e9)


def test_what_is_no_span_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="readable_span is 'x'"):
        Span.from_otel("x", rollout_id="ro-1", attempt_id="at-1", sequence_id=1)  # type: ignore[arg-type]
