"""Spans from OpenTelemetry's SDK and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lightactors.errors import InvalidArgument
from lightactors.training.records import (
    Attributes,
    Event,
    Link,
    OtelResource,
    Span,
    SpanContext,
    TraceStatus,
)

if TYPE_CHECKING:
    from opentelemetry.sdk import trace as sdk
    from opentelemetry.trace import SpanContext as OtelContext

NANOSECONDS = 1_000_000_000


class ReadableSpan(Protocol):
    """What is read of a span of OpenTelemetry's SDK: its `ReadableSpan`, or anything with these members."""

    @property
    def name(self) -> str: ...
    @property
    def context(self) -> Any: ...
    @property
    def parent(self) -> Any: ...
    @property
    def resource(self) -> Any: ...
    @property
    def status(self) -> Any: ...
    @property
    def attributes(self) -> Mapping[str, Any] | None: ...
    @property
    def events(self) -> Sequence[Any]: ...
    @property
    def links(self) -> Sequence[Any]: ...
    @property
    def start_time(self) -> int | None: ...
    @property
    def end_time(self) -> int | None: ...


def from_otel(span: ReadableSpan, *, rollout_id: str, attempt_id: str, sequence_id: int) -> Span:
    if not hasattr(span, "context") or not hasattr(span, "resource"):
        raise InvalidArgument(f"readable_span is {span!r}; give a span of OpenTelemetry's SDK")
    context = _context(span.context)
    parent = _context(span.parent)
    return Span(
        rollout_id=rollout_id,
        attempt_id=attempt_id,
        sequence_id=sequence_id,
        trace_id=context.trace_id if context else f"{0:032x}",
        span_id=context.span_id if context else f"{0:016x}",
        parent_id=parent.span_id if parent else None,
        name=span.name,
        status=TraceStatus(span.status.status_code.name, span.status.description),
        attributes=_attributes(span.attributes),
        events=[_event(event) for event in span.events],
        links=[_link(link) for link in span.links],
        start_time=_seconds(span.start_time),
        end_time=_seconds(span.end_time),
        context=context,
        parent=parent,
        resource=OtelResource(_attributes(span.resource.attributes), span.resource.schema_url or ""),
    )


def _context(context: OtelContext | None) -> SpanContext | None:
    if context is None:
        return None
    state = dict(context.trace_state or {})
    return SpanContext(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.is_remote, state)


def _event(event: Any) -> Event:
    return Event(event.name, _attributes(event.attributes), _seconds(event.timestamp))


def _link(link: Any) -> Link:
    context = _context(link.context)
    assert context is not None, "OpenTelemetry has no link without a context"
    return Link(context, _attributes(link.attributes) or None)


def _attributes(attributes: Mapping[str, Any] | None) -> Attributes:
    # Lists for OpenTelemetry's tuples: so they come off the wire, and a span is the same through every door.
    return {key: list(value) if isinstance(value, tuple) else value for key, value in (attributes or {}).items()}


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / NANOSECONDS


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * NANOSECONDS)


def to_otel(span: Span) -> sdk.ReadableSpan:
    # Imported here: `from_otel` does without the SDK, which is optional and slow to import.
    from opentelemetry.sdk import trace as sdk
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.trace import Link as OtelLink
    from opentelemetry.trace import Status, StatusCode

    return sdk.ReadableSpan(
        name=span.name,
        context=_otel_context(span.context or SpanContext(span.trace_id, span.span_id)),
        parent=_otel_context(span.parent or SpanContext(span.trace_id, span.parent_id)) if span.parent_id else None,
        resource=Resource(dict(span.resource.attributes), span.resource.schema_url),
        attributes=dict(span.attributes),
        events=[sdk.Event(event.name, dict(event.attributes), _nanoseconds(event.timestamp)) for event in span.events],
        links=[OtelLink(_otel_context(link.context), dict(link.attributes or {})) for link in span.links],
        status=Status(StatusCode[span.status.status_code], span.status.description),
        start_time=_nanoseconds(span.start_time),
        end_time=_nanoseconds(span.end_time),
    )


def _otel_context(context: SpanContext) -> OtelContext:
    # Imported here for the same reason.
    from opentelemetry.trace import SpanContext as OtelContext
    from opentelemetry.trace import TraceState

    state = TraceState(list(context.trace_state.items()))
    return OtelContext(int(context.trace_id, 16), int(context.span_id, 16), context.is_remote, trace_state=state)
