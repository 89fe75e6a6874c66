"""The arguments of the store's methods, checked and copied before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from msgspec import UNSET
from msgspec.structs import replace

from lightactors.actors import owner as owners
from lightactors.errors import Conflict
from lightactors.training import checks
from lightactors.training.records import (
    ATTEMPT_STATUSES,
    MODES,
    ROLLOUT_STATUSES,
    Attempt,
    EnqueueRolloutRequest,
    Resources,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    RolloutStatus,
    Span,
    Worker,
)
from lightactors.training.stores.waiting import Claimant

T = TypeVar("T")
HasMetadata = TypeVar("HasMetadata", Rollout, Attempt)
Rule = Callable[[str, Any], Any]


def copied(value: T) -> T:
    """Copy what JSON could hold, as deep as it goes; other values stay the same objects."""
    copy = _COPIES.get(type(value))
    return value if copy is None else cast("T", copy(value))


_COPIES: Mapping[type, Callable[[Any], Any]] = {
    dict: lambda value: {key: copied(item) for key, item in value.items()},
    list: lambda value: [copied(item) for item in value],
}


def own(record: HasMetadata) -> HasMetadata:
    """Return the record with metadata that is shared with nobody."""
    return record if record.metadata is None else replace(record, metadata=copied(record.metadata))


def own_resources(update: ResourcesUpdate) -> ResourcesUpdate:
    """Return the update with a mapping that is shared with nobody; what it holds is shared."""
    resources = cast("dict[str, Any]", update.resources)  # the store's own
    resources.update((name, _spread(value)) for name, value in list(resources.items()))
    return replace(update, resources=dict(resources))


def _spread(value: Any) -> Any:
    """Return what is large as many processes can be sent it, where there are any: they are sent the same bytes."""
    try:
        owner = owners.here()
    except RuntimeError:  # no loop runs on this thread: the store is used as a plain object, or is a durable one
        return value
    return value if owner is None else owner.system.spread(value)


def own_worker(worker: Worker) -> Worker:
    """Return the worker with statistics that are shared with nobody."""
    return worker if worker.heartbeat_stats is None else replace(worker, heartbeat_stats=copied(worker.heartbeat_stats))


def resources(value: Resources) -> Resources:
    return dict(checks.mapping("resources", value))


def metadata(name: str, value: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if value is None else stats(name, value)


def stats(name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return copied(dict(checks.mapping(name, value)))
    except RecursionError:
        checks.refuse(name, value, "nest it less deeply")


def _config(name: str, value: RolloutConfig) -> RolloutConfig:
    return checks.instance(name, value, RolloutConfig)


def _anything(_: str, value: Any) -> Any:
    return value


_ROLLOUT: Mapping[str, Rule] = {
    "input": _anything,
    "mode": lambda name, value: checks.optional_member(name, value, MODES),
    "resources_id": checks.optional_text,
    "status": lambda name, value: checks.member(name, value, ROLLOUT_STATUSES),
    "config": _config,
    "metadata": metadata,
}
_ATTEMPT: Mapping[str, Rule] = {
    "status": lambda name, value: checks.member(name, value, ATTEMPT_STATUSES),
    "worker_id": checks.text,
    "last_heartbeat_time": checks.number,
    "metadata": metadata,
}


_WORKER: Mapping[str, Rule] = {"heartbeat_stats": stats}


def rollout_changes(**values: Any) -> dict[str, Any]:
    """Return the fields of a rollout that were given."""
    return _given(_ROLLOUT, values)


def attempt_changes(status: Any, worker_id: Any, last_heartbeat_time: Any, metadata: Any) -> dict[str, Any]:
    """Return the fields of an attempt that were given."""
    # Every attempt that ends comes here, nearly always with its status alone.
    if status is not UNSET and worker_id is last_heartbeat_time is metadata is UNSET:
        return {"status": checks.member("status", status, ATTEMPT_STATUSES)}
    given = {"status": status, "worker_id": worker_id, "last_heartbeat_time": last_heartbeat_time, "metadata": metadata}
    return _given(_ATTEMPT, given)


def worker_changes(**values: Any) -> dict[str, Any]:
    """Return the fields of a worker that were given."""
    return _given(_WORKER, values)


def claimant(worker_id: str | None, claim_id: str | None) -> Claimant:
    """Accept who claims, and under which id."""
    checks.optional_text("worker_id", worker_id)
    if checks.optional_text("claim_id", claim_id) is not None and worker_id is None:
        checks.refuse("worker_id", worker_id, f"name the worker whose claim {claim_id!r} is")
    return Claimant(worker_id, claim_id)


def _given(rules: Mapping[str, Rule], values: dict[str, Any]) -> dict[str, Any]:
    return {name: rules[name](name, value) for name, value in values.items() if value is not UNSET}


_DEFAULT_CONFIG = RolloutConfig()


def draft(
    request: EnqueueRolloutRequest,
    *,
    rollout_id: str,
    resources_id: str | None,
    start_time: float,
    status: RolloutStatus,
) -> Rollout:
    """Make a rollout of a request."""
    return Rollout(
        rollout_id=checks.text("rollout_id", rollout_id),
        input=request.input,
        start_time=start_time,
        mode=request.mode if request.mode is None else checks.member("mode", request.mode, MODES),
        resources_id=checks.optional_text("resources_id", resources_id),
        status=status,
        config=_DEFAULT_CONFIG if request.config is None else _config("config", request.config),
        metadata=request.metadata if request.metadata is None else stats("metadata", request.metadata),
    )


_TASK = ("input", "mode", "config", "metadata")


def check_same_task(known: Rollout, again: Rollout) -> None:
    """Raise `Conflict` if a rollout id comes back with another task than the one that has it."""
    for name in _TASK:
        if _differ(getattr(known, name), getattr(again, name)):
            raise Conflict(
                f"rollout_id {known.rollout_id!r} belongs to a rollout with another {name}, "
                f"{getattr(known, name)!r}; choose an id that is not taken"
            )


def _differ(left: object, right: object) -> bool:
    try:
        return bool(left != right)
    except ValueError:
        # Arrays compare element by element: there the id alone has to do.
        return False


def span(value: Span) -> Span:
    checks.instance("span", value, Span)
    checks.text("span.rollout_id", value.rollout_id)
    checks.text("span.attempt_id", value.attempt_id)
    checks.text("span.span_id", value.span_id)
    checks.whole("span.sequence_id", value.sequence_id, least=0)
    return value


def pair(value: object) -> tuple[str, str]:
    """Accept what names an attempt: the id of its rollout and its own."""
    if not isinstance(value, (tuple, list)) or [type(item) for item in cast("list[object]", value)] != [str, str]:
        checks.refuse("a member of pairs", value, "give a rollout id and an attempt id")
    rollout_id, attempt_id = cast("list[str]", value)
    return rollout_id, attempt_id
