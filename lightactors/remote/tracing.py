"""Trace context on its way: a handler's spans belong to the trace of who asked, where OpenTelemetry is in use.

As W3C's `traceparent`: version, trace, span and flags in hexadecimal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from lightactors.contract import Kind, Method

_PARTS = (2, 32, 16, 2)
"""Digits of a traceparent's parts."""


def current() -> str:
    """Return the caller's trace context; empty: it has none."""
    otel: Any = sys.modules.get("opentelemetry.trace")
    if otel is None:
        return ""
    span = otel.get_current_span().get_span_context()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}" if span.is_valid else ""


@contextmanager
def entered(trace: str) -> Generator[None]:
    """Be part of a trace inside the block, where OpenTelemetry is in use and the trace is one."""
    otel: Any = sys.modules.get("opentelemetry.trace")
    context = None if otel is None or not trace else _parsed(otel, trace)
    if context is None:
        yield
    else:
        with _attached(context):
            yield


def within(trace: str, method: Method) -> Method:
    """Return a handler that runs as part of a trace; itself, where OpenTelemetry is not in use or the trace is none."""
    otel: Any = sys.modules.get("opentelemetry.trace")
    context = None if otel is None or method.kind is Kind.STREAM else _parsed(otel, trace)
    if context is None:
        return method
    wrapped = _async(method.function, context) if method.kind is Kind.ASYNC else _plain(method.function, context)
    return replace(method, function=wrapped)


def _parsed(otel: Any, trace: str) -> Any | None:
    parts = trace.split("-")
    if len(parts) != len(_PARTS) or any(len(part) != digits for part, digits in zip(parts, _PARTS, strict=True)):
        return None
    try:
        _, trace_id, span_id, flags = (int(part, 16) for part in parts)
    except ValueError:
        return None
    span = otel.SpanContext(trace_id, span_id, is_remote=True, trace_flags=otel.TraceFlags(flags))
    return otel.set_span_in_context(otel.NonRecordingSpan(span)) if span.is_valid else None


@contextmanager
def _attached(context: Any) -> Generator[None]:
    from opentelemetry import context as otel_context  # optional: somebody has imported the rest of it already

    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


def _plain(function: Callable[..., Any], context: Any) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with _attached(context):
            return function(*args, **kwargs)

    return run


def _async(function: Callable[..., Any], context: Any) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        with _attached(context):
            return await function(*args, **kwargs)

    return run
