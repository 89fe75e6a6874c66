"""What the store keeps and hands out: frozen records, named as in Agent-Lightning.

Times are seconds since the epoch, on the store's clock. Mappings in a record are to be read, not
written: a record that came from the store is yours alone, but changing it changes nothing in the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec.structs import force_setattr

from lightactors.buffers import takes
from lightactors.errors import InvalidArgument
from lightactors.training import checks, templates

if TYPE_CHECKING:
    from typing import Protocol

    from lightactors.training.otel import ReadableSpan

RolloutStatus: TypeAlias = Literal["queuing", "preparing", "running", "succeeded", "failed", "cancelled", "requeuing"]
AttemptStatus: TypeAlias = Literal["preparing", "running", "succeeded", "failed", "timeout", "unresponsive"]
WorkerStatus: TypeAlias = Literal["idle", "busy", "unknown"]
Mode: TypeAlias = Literal["train", "val", "test"]
StatusCode: TypeAlias = Literal["UNSET", "OK", "ERROR"]
Engine: TypeAlias = Literal["jinja", "f-string", "poml"]

ROLLOUT_STATUSES: tuple[RolloutStatus, ...] = get_args(RolloutStatus)
ATTEMPT_STATUSES: tuple[AttemptStatus, ...] = get_args(AttemptStatus)
WORKER_STATUSES: tuple[WorkerStatus, ...] = get_args(WorkerStatus)
MODES: tuple[Mode, ...] = get_args(Mode)

AttributeValue: TypeAlias = str | bool | int | float | Sequence[str | bool | int | float]
Attributes: TypeAlias = Mapping[str, AttributeValue]


# Without gc: a store holds a million records, none of which can be part of a cycle, and a collection that
# has to look at each of them stops everybody for a good part of a second.
class Record(msgspec.Struct, frozen=True, gc=False):
    """Base of the records."""


class RolloutConfig(Record, frozen=True, kw_only=True):
    """How long an attempt may take, and when a rollout gets another one.

    - `timeout_seconds`: an attempt that runs longer is `timeout`.
    - `unresponsive_seconds`: an attempt that is not heard of for so long is `unresponsive`.
    - `retry_condition`: after an attempt that ended like this the rollout is queued again, until it had
      `max_attempts`.

    Raises `InvalidArgument` for a value that makes no sense.
    """

    timeout_seconds: float | None = None
    unresponsive_seconds: float | None = None
    max_attempts: int = 1
    retry_condition: Sequence[AttemptStatus] = ()

    def __post_init__(self) -> None:
        for name in ("timeout_seconds", "unresponsive_seconds"):
            if getattr(self, name) is not None:
                checks.positive(name, getattr(self, name))
        checks.whole("max_attempts", self.max_attempts, least=1)
        # A tuple, so that nobody changes the policy of a rollout through a list kept from the call.
        force_setattr(
            self, "retry_condition", checks.members("retry_condition", self.retry_condition, ATTEMPT_STATUSES)
        )


class Rollout(Record, frozen=True, kw_only=True, tag=True):
    """One task to be run, and what became of it."""

    rollout_id: str
    input: Any
    start_time: float
    end_time: float | None = None
    mode: Mode | None = None
    resources_id: str | None = None
    status: RolloutStatus = "queuing"
    config: RolloutConfig = RolloutConfig()
    metadata: Mapping[str, Any] | None = None


class Attempt(Record, frozen=True, kw_only=True):
    """One try at a rollout, by one worker."""

    rollout_id: str
    attempt_id: str
    sequence_id: int
    start_time: float
    end_time: float | None = None
    status: AttemptStatus = "preparing"
    worker_id: str | None = None
    last_heartbeat_time: float | None = None
    metadata: Mapping[str, Any] | None = None


class AttemptedRollout(Rollout, frozen=True, kw_only=True, tag=True):
    """A rollout with its latest attempt."""

    attempt: Attempt

    def __post_init__(self) -> None:
        if self.attempt.rollout_id != self.rollout_id:
            raise InvalidArgument(
                f"attempt {self.attempt.attempt_id} belongs to rollout {self.attempt.rollout_id!r}, "
                f"not to {self.rollout_id!r}; pair it with its own"
            )

    @classmethod
    def of(cls, rollout: Rollout, attempt: Attempt) -> AttemptedRollout:
        """Pair a rollout with an attempt."""
        return cls(
            rollout_id=rollout.rollout_id,
            input=rollout.input,
            start_time=rollout.start_time,
            end_time=rollout.end_time,
            mode=rollout.mode,
            resources_id=rollout.resources_id,
            status=rollout.status,
            config=rollout.config,
            metadata=rollout.metadata,
            attempt=attempt,
        )


class EnqueueRolloutRequest(Record, frozen=True):
    """One rollout of `enqueue_many_rollouts`; a `rollout_id` of your own makes sending it twice harmless."""

    input: Any
    mode: Mode | None = None
    resources_id: str | None = None
    config: RolloutConfig | None = None
    metadata: Mapping[str, Any] | None = None
    rollout_id: str | None = None


class Completions(Record, frozen=True):
    """Finished rollouts in the order of their ends, and the cursor to ask for the next ones with."""

    rollouts: list[Rollout | AttemptedRollout]
    cursor: int


class Worker(Record, frozen=True, kw_only=True):
    """A runner, as the store knows it from its calls."""

    worker_id: str
    status: WorkerStatus = "unknown"
    heartbeat_stats: Mapping[str, Any] | None = None
    last_heartbeat_time: float | None = None
    last_dequeue_time: float | None = None
    last_busy_time: float | None = None
    last_idle_time: float | None = None
    current_rollout_id: str | None = None
    current_attempt_id: str | None = None


class LLM(Record, frozen=True, tag_field="resource_type", tag="llm"):
    """A model behind an endpoint that speaks OpenAI's protocol."""

    endpoint: str
    model: str
    api_key: str | None = None
    sampling_parameters: Mapping[str, Any] = {}

    def get_base_url(self, rollout_id: str | None = None, attempt_id: str | None = None) -> str:
        """Return the URL for a client; a `ProxyLLM` puts the ids into it."""
        return self.endpoint

    def __repr__(self) -> str:
        # The key must not end up in a log.
        api_key = self.api_key and "***"
        return f"{type(self).__name__}({self.endpoint!r}, {self.model!r}, {api_key=}, {self.sampling_parameters!r})"


class ProxyLLM(LLM, frozen=True, tag_field="resource_type", tag="proxy_llm"):
    """A model behind a proxy that learns from the URL whose request it is."""

    def get_base_url(self, rollout_id: str | None = None, attempt_id: str | None = None) -> str:
        """Return the endpoint with both ids in front of its `/v1`, or as it is without them.

        Raises `InvalidArgument` for one id without the other.
        """
        if rollout_id is None and attempt_id is None:
            return self.endpoint
        if not (rollout_id and attempt_id):
            raise InvalidArgument(f"rollout_id is {rollout_id!r} and attempt_id {attempt_id!r}; give both or none")
        base = self.endpoint.removesuffix("/")
        root = base.removesuffix("/v1")
        return f"{root}/rollout/{rollout_id}/attempt/{attempt_id}{base[len(root) :]}"

    def with_attempted_rollout(self, rollout: AttemptedRollout) -> LLM:
        """Return a plain `LLM` whose endpoint carries the ids of the rollout and its attempt."""
        return LLM(
            self.get_base_url(rollout.rollout_id, rollout.attempt.attempt_id),
            self.model,
            self.api_key,
            self.sampling_parameters,
        )


class PromptTemplate(Record, frozen=True, tag_field="resource_type", tag="prompt_template"):
    """A prompt with gaps. `jinja` needs the extra `lightactors[templates]`, `poml` the package of that name."""

    template: str
    engine: Engine = "f-string"

    def format(self, **values: Any) -> str:
        """Return the prompt with its gaps filled; raise `InvalidArgument` for a value that is missing."""
        return templates.render(self.engine, self.template, values)


if TYPE_CHECKING:

    class Array(Protocol):
        """An array: NumPy's, or what looks like it."""

        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def nbytes(self) -> int: ...

    Arrays: TypeAlias = Mapping[str, "Array | Arrays"]
    Resource: TypeAlias = LLM | ProxyLLM | PromptTemplate | bytes | Array | Arrays
else:

    class _ResourceType(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, (LLM, PromptTemplate)) or has_only_arrays(value)

    class Resource(metaclass=_ResourceType):
        """Any of the above: msgspec decodes no union with arrays in it, and services know of none either."""

        stands_for = LLM | ProxyLLM | PromptTemplate | bytes

        @classmethod
        def from_plain(cls, value: object) -> object:
            """Return the record that plain data stands for; raise `msgspec.ValidationError` for what is none."""
            return msgspec.convert(value, cls.stands_for)


def has_only_arrays(value: object) -> bool:
    """Tell whether a value is an array, bytes, or a dict of such, as the state of a model is."""
    if isinstance(value, dict):
        return all(map(has_only_arrays, value.values()))
    return takes(type(value))


Resources: TypeAlias = Mapping[str, Resource]
"""What a rollout may use, by name: also arrays, tensors and tables, and dicts of them. They are passed as they are.

Where runners have processes of their own, what is large is put into shared memory, once for all of them: everybody
gets the same bytes, which nobody can write to.
"""


class ResourcesUpdate(Record, frozen=True, kw_only=True):
    """One version of a set of resources."""

    resources_id: str
    create_time: float
    update_time: float
    version: int
    resources: Resources


class Triplet(Record, frozen=True):
    """One step of a trajectory: what was asked, what was answered, what it earned."""

    prompt: Any
    response: Any
    reward: float | None = None
    metadata: Mapping[str, Any] = {}


class TraceStatus(Record, frozen=True):
    """OpenTelemetry's status of a span."""

    status_code: StatusCode = "UNSET"
    description: str | None = None


class SpanContext(Record, frozen=True):
    """OpenTelemetry's context of a span, with its ids in hex."""

    trace_id: str
    span_id: str
    is_remote: bool = False
    trace_state: Mapping[str, str] = {}


class Event(Record, frozen=True):
    """Something that happened at one moment of a span."""

    name: str
    attributes: Attributes = {}
    timestamp: float | None = None


class Link(Record, frozen=True):
    """A span's pointer to another one."""

    context: SpanContext
    attributes: Attributes | None = None


class OtelResource(Record, frozen=True):
    """What produced a span, in OpenTelemetry's sense; no resource of a rollout."""

    attributes: Attributes = {}
    schema_url: str = ""


class Span(Record, frozen=True, kw_only=True):
    """One step of an attempt, in OpenTelemetry's form; `sequence_id` orders the spans of a rollout."""

    rollout_id: str
    attempt_id: str
    sequence_id: int
    trace_id: str
    span_id: str
    name: str
    parent_id: str | None = None
    status: TraceStatus = TraceStatus()
    attributes: Attributes = {}
    events: list[Event] = []
    links: list[Link] = []
    start_time: float | None = None
    end_time: float | None = None
    context: SpanContext | None = None
    parent: SpanContext | None = None
    resource: OtelResource = OtelResource()

    @classmethod
    def from_otel(cls, span: ReadableSpan, *, rollout_id: str, attempt_id: str, sequence_id: int) -> Span:
        """Convert a span of OpenTelemetry's SDK, which need not have ended."""
        # Imported here with `to_otel`: only a program that traces has any use for it.
        from lightactors.training import otel

        return otel.from_otel(span, rollout_id=rollout_id, attempt_id=attempt_id, sequence_id=sequence_id)

    def to_otel(self) -> ReadableSpan:
        """Return it as a span of OpenTelemetry's SDK, which the extra `lightactors[otel]` brings."""
        # Imported here: OpenTelemetry's SDK is optional, and slow to import.
        from lightactors.training import otel

        return otel.to_otel(self)


class StoreStatistics(Record, frozen=True, kw_only=True):
    """What a store holds and did.

    `waiters` are the claims that wait for work, `fenced` the reports refused, `evicted` the spans given up, `pruned`
    the finished rollouts that a retention has removed.
    """

    name: str
    total_rollouts: int
    total_attempts: int
    total_spans: int
    total_resources: int
    total_workers: int
    uptime: float
    total_span_bytes: int
    eviction_threshold_bytes: int
    safe_threshold_bytes: int
    memory_capacity_bytes: int
    queue_length: int
    waiters: int
    fenced: int
    evicted: int
    pruned: int = 0
