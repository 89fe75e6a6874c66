"""What an attempt records of itself: its trace, and the functions by which an agent adds to it.

The trace of the attempt under way is in a context variable, so it is found in every task and worker thread
that the agent starts. A bare `threading.Thread` starts with an empty context: give it
`contextvars.copy_context().run`. Outside an attempt everything here does nothing, so that agents can be
called and tested as the functions they are.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, SupportsFloat, TypeVar, cast, overload
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace

from lightactors.errors import ContractError, InvalidArgument, StoreError
from lightactors.training.otel import ReadableSpan
from lightactors.training.records import AttemptedRollout, Attributes, AttributeValue, Event, Span, TraceStatus
from lightactors.training.stores.contract import Store
from lightactors.training.tracing import semconv
from lightactors.training.tracing.attributes import flatten, plain_scalar
from lightactors.training.tracing.rewards import as_reward

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

F = TypeVar("F", bound=Callable[..., Any])

logger = logging.getLogger("lightactors")

BATCH = 64
"""Spans that wait at most before they are sent."""

_OK = TraceStatus("OK")


class Trace:
    """The spans of one attempt, in the order in which they ended. Any thread may add to it."""

    def __init__(self, rollout_id: str, attempt_id: str, *, batch: int = BATCH) -> None:
        self.rollout_id = rollout_id
        self.attempt_id = attempt_id
        self.trace_id = os.urandom(16).hex()
        self.spans: list[Span] = []
        self.when_full: Callable[[], object] | None = None  # called, from any thread, when a batch waits
        self._batch = batch
        self._numbered = 0  # how many have their sequence ids
        self._sent = 0
        self._is_full = False  # a batch is complete, and `when_full` was told
        self._closed = False

    def add(
        self,
        name: str,
        attributes: Attributes,
        *,
        status: TraceStatus = _OK,
        span_id: str | None = None,
        parent_id: str | None = None,
        start_time: float | None = None,
        events: Sequence[Event] = (),
    ) -> None:
        """Add a span that ends now; one of a trace that is closed is dropped."""
        now = time.time()
        self.take(
            Span(
                rollout_id=self.rollout_id,
                attempt_id=self.attempt_id,
                sequence_id=0,
                trace_id=self.trace_id,
                span_id=span_id or new_span_id(),
                parent_id=parent_id,
                name=name,
                status=status,
                attributes=attributes,
                events=list(events),
                start_time=now if start_time is None else start_time,
                end_time=now,
            )
        )

    def take(self, span: Span) -> None:
        """Add a span as it is, but as one of this attempt."""
        if self._closed:
            logger.debug("a span %r came after the end of rollout %s and is dropped", span.name, self.rollout_id)
            return
        if (span.rollout_id, span.attempt_id, span.sequence_id) != (self.rollout_id, self.attempt_id, 0):
            span = replace(span, rollout_id=self.rollout_id, attempt_id=self.attempt_id, sequence_id=0)
        # No lock: appending is one step, and nothing but `send` touches what is in the list.
        self.spans.append(span)
        # At least, and not equal: two threads may append before either of them counts.
        if self.when_full is not None and not self._is_full and len(self.spans) - self._sent >= self._batch:
            self._is_full = True
            self.when_full()

    def take_otel(self, span: ReadableSpan) -> None:
        """Add a span of OpenTelemetry's SDK; its ids stay its own, except for the trace's."""
        here = _here.get()
        parent_id = here[1] if here is not None and here[0] is self else None
        converted = Span.from_otel(span, rollout_id=self.rollout_id, attempt_id=self.attempt_id, sequence_id=0)
        self.take(replace(converted, trace_id=self.trace_id, parent_id=converted.parent_id or parent_id))

    def add_exception(self, error: BaseException) -> None:
        """Add what an error is, says, and where it comes from."""
        self.add(semconv.EXCEPTION, exception_attributes(error), status=_failure(error))

    @property
    def has_unsent(self) -> bool:
        return self._sent < len(self.spans)

    async def send(self, store: Store) -> None:
        """Send what the store does not have yet; two calls, whatever the number of spans.

        Nothing else may send meanwhile. A batch whose answer was lost is sent again as it was, and the store
        drops what it has. What the store refuses is given up; the `StoreError` is raised.
        """
        self._is_full = False
        count = len(self.spans)
        if count > self._numbered:
            await self._number(store, count)
        try:
            await store.add_many_spans(self.spans[self._sent : count])
        except StoreError:
            self._sent = count
            raise
        self._sent = count

    async def _number(self, store: Store, count: int) -> None:
        # By the store, because others write into the attempt too: the model's proxy, or an OTLP exporter.
        fresh = self.spans[self._numbered : count]
        numbers = await store.get_many_span_sequence_ids([(self.rollout_id, self.attempt_id)] * len(fresh))
        self.spans[self._numbered : count] = [
            replace(span, sequence_id=number) for span, number in zip(fresh, numbers, strict=True)
        ]
        self._numbered = count

    def close(self) -> None:
        """Take no more spans: an agent that was given up may still run in its thread."""
        self._closed = True

    @contextmanager
    def active(self) -> Generator[Trace]:
        """Make this the trace that the block, and what it starts, adds to."""
        before = _here.get()
        _here.set((self, None))
        try:
            yield self
        finally:
            _here.set(before)

    def __repr__(self) -> str:
        return f"<trace of rollout {self.rollout_id}, attempt {self.attempt_id}: {len(self.spans)} spans>"


_here: ContextVar[tuple[Trace, str | None] | None] = ContextVar("lightactors_trace", default=None)
"""The trace of the attempt under way, and the span id of the innermost operation."""


class Tracer:
    """Opens the trace of each attempt. Derive from it to set up instruments around the agent.

    All runners of a process may share one. `batch`: how many spans wait at most before they are sent.
    """

    def __init__(self, *, batch: int = BATCH) -> None:
        self.batch = batch

    @contextmanager
    def trace(self, rollout: AttemptedRollout) -> Generator[Trace]:
        """Open a trace for the block, in which the agent runs."""
        with Trace(rollout.rollout_id, rollout.attempt.attempt_id, batch=self.batch).active() as trace:
            yield trace


def current_trace() -> Trace | None:
    """Return the trace of the attempt that the code runs in; None outside an attempt."""
    here = _here.get()
    return None if here is None else here[0]


def new_span_id() -> str:
    # Not from `random`: programs seed it, and their runners would all give the same ids.
    return os.urandom(8).hex()


def _emit(name: str, attributes: Attributes, status: TraceStatus = _OK) -> None:
    here = _here.get()
    if here is None:
        logger.debug("%s outside an attempt: nobody records it", name)
    else:
        here[0].add(name, attributes, parent_id=here[1], status=status)


def emit_reward(
    reward: SupportsFloat | Mapping[str, SupportsFloat],
    *,
    primary_key: str | None = None,
    attributes: Mapping[str, object] | None = None,
) -> None:
    """Record a reward. The last one of an attempt is its reward.

    A reward of several dimensions is a mapping, with `primary_key` naming the one that counts. Raises
    `InvalidArgument` for what is no finite number.
    """
    dimensions = _dimensions(reward, primary_key)
    rewards = [{"name": name, "value": as_reward(value)} for name, value in dimensions.items()]
    _emit(semconv.ANNOTATION, {**flatten(semconv.REWARD, rewards), **flatten("", attributes)})


def _dimensions(
    reward: SupportsFloat | Mapping[str, SupportsFloat], primary_key: str | None
) -> Mapping[str, SupportsFloat]:
    if not isinstance(reward, Mapping):
        return {primary_key or "primary": reward}
    if primary_key is None or primary_key not in reward:
        raise InvalidArgument(f"primary_key is {primary_key!r}; name one of {', '.join(map(repr, reward)) or 'none'}")
    return {primary_key: reward[primary_key], **reward}


def emit_message(message: str, *, attributes: Mapping[str, object] | None = None) -> None:
    """Record a text."""
    if not isinstance(message, str):
        raise InvalidArgument(f"message is {message!r}; give a string, or use emit_object")
    _emit(semconv.MESSAGE, {semconv.MESSAGE_BODY: message, **flatten("", attributes)})


def emit_object(value: object, *, attributes: Mapping[str, object] | None = None) -> None:
    """Record a value as JSON. Raises `InvalidArgument` for one that JSON can't hold."""
    kind = type(value)
    try:
        text = msgspec.json.encode(value, enc_hook=plain_scalar).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"the object is a {kind.__qualname__}, which JSON can't hold ({error}); convert it first"
        ) from None
    _emit(
        semconv.OBJECT,
        {semconv.OBJECT_TYPE: _name_of(kind), semconv.OBJECT_JSON: text, **flatten("", attributes)},
    )


def emit_exception(error: BaseException, *, attributes: Mapping[str, object] | None = None) -> None:
    """Record an exception with its traceback; the attempt fails only if it is raised."""
    if not isinstance(error, BaseException):
        raise InvalidArgument(f"the exception is {error!r}; give an exception, or use emit_object")
    _emit(semconv.EXCEPTION, {**exception_attributes(error), **flatten("", attributes)}, _failure(error))


def emit_annotation(annotation: Mapping[str, object]) -> None:
    """Record facts as a span of their own; nested ones get names with dots."""
    _emit(semconv.ANNOTATION, flatten("", annotation))


def exception_attributes(error: BaseException) -> dict[str, AttributeValue]:
    """Return an exception as OpenTelemetry's attributes."""
    return {
        semconv.EXCEPTION_TYPE: _name_of(type(error)),
        semconv.EXCEPTION_MESSAGE: str(error),
        semconv.EXCEPTION_STACKTRACE: "".join(traceback.format_exception(error)),
    }


def _name_of(kind: type[Any]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _failure(error: BaseException) -> TraceStatus:
    return TraceStatus("ERROR", f"{type(error).__name__}: {error}")


class Operation:
    """A span that lasts: what is recorded inside it has it as its parent (see `operation`)."""

    def __init__(self, name: str | None, attributes: Mapping[str, object]) -> None:
        self._name = name
        self._attributes = flatten("", attributes)
        self._recorded: dict[str, AttributeValue] = {}
        self._before: tuple[Trace, str | None] | None = None
        self._span_id = ""
        self._started = 0.0

    def __enter__(self) -> Operation:
        self._recorded = dict(self._attributes)
        if self._name is not None:
            self._recorded[semconv.OPERATION_NAME] = self._name
        self._before = _here.get()
        if self._before is not None:
            self._span_id, self._started = new_span_id(), time.time()
            _here.set((self._before[0], self._span_id))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._before is None:
            return
        _here.set(self._before)
        trace, parent_id = self._before
        trace.add(
            semconv.OPERATION,
            self._recorded,
            status=_OK if error is None else _failure(error),
            span_id=self._span_id,
            parent_id=parent_id,
            start_time=self._started,
            events=() if error is None else [Event("exception", exception_attributes(error), time.time())],
        )

    def set_input(self, *args: object, **kwargs: object) -> None:
        """Record what goes in: `input.args.0`, …, and `input.<name>`."""
        self._recorded |= flatten(semconv.OPERATION_INPUT, {"args": dict(enumerate(args)), **kwargs})

    def set_output(self, output: object) -> None:
        """Record what comes out."""
        self._recorded |= flatten(semconv.OPERATION_OUTPUT, output)

    def __call__(self, function: F) -> F:
        """Make each call of a function an operation, with the arguments and the result that attributes can hold."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ContractError(f"{function.__qualname__} is a generator; use `with operation(...)` inside it")
        name = self._name or function.__name__
        signature = inspect.signature(function)

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            with Operation(name, self._attributes) as called:
                called._record_arguments(signature, args, kwargs)
                result = await function(*args, **kwargs)
                called._record(semconv.OPERATION_OUTPUT, result)
                return result

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with Operation(name, self._attributes) as called:
                called._record_arguments(signature, args, kwargs)
                result = function(*args, **kwargs)
                called._record(semconv.OPERATION_OUTPUT, result)
                return result

        return cast("F", call_async if inspect.iscoroutinefunction(function) else call)

    def _record_arguments(self, signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._before is None:
            return
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return  # the function itself is about to say so
        for name, value in arguments.items():
            self._record(f"{semconv.OPERATION_INPUT}.{name}", value)

    def _record(self, name: str, value: object) -> None:
        if self._before is None:
            return
        try:
            self._recorded |= flatten(name, value)
        except InvalidArgument:
            logger.debug("%s is a %s and is not recorded", name, type(value).__qualname__)


@overload
def operation(name: F, /) -> F: ...
@overload
def operation(name: str | None = None, **attributes: object) -> Operation: ...
def operation(name: Any = None, **attributes: object) -> Any:
    """Record a block, or each call of a function, as a span; what is recorded inside lies below it.

    `with operation("search", engine="x") as search:` with `search.set_input(...)` and `search.set_output(...)`,
    or as a decorator of plain and async functions, `@operation` or `@operation("search")`, which records
    arguments and result. An exception that leaves it makes its status an error.
    """
    if name is None or isinstance(name, str):
        return Operation(name, attributes)
    return Operation(None, {})(name)


def otel_span_processor() -> SpanProcessor:
    """Return a processor for OpenTelemetry's `TracerProvider.add_span_processor`.

    A span that starts inside an attempt then lands in the attempt's trace when it ends, wherever that is. One
    without a parent of its own lies below the operation that it ends in. Needs the extra `lightactors[otel]`.
    """
    # Imported here: OpenTelemetry's SDK is optional, and slow to import.
    from opentelemetry.sdk import trace as sdk

    # Weak, because a span that nobody ends must not keep its trace.
    traces: WeakValueDictionary[int, Trace] = WeakValueDictionary()

    class IntoTheTrace(sdk.SpanProcessor):
        def on_start(self, span: sdk.Span, parent_context: object = None) -> None:
            trace = current_trace()
            if trace is not None and span.context is not None:
                traces[span.context.span_id] = trace

        def on_end(self, span: sdk.ReadableSpan) -> None:
            trace = traces.pop(span.context.span_id, None) if span.context is not None else None
            if trace is not None:
                trace.take_otel(span)

    return IntoTheTrace()
