"""What calls are going to look at, told from their arguments: it can be fetched together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightactors.contract import contract_of
from lightactors.training import checks
from lightactors.training.records import EnqueueRolloutRequest, Span
from lightactors.training.stores.contract import Store

_PLACES = {
    name: {parameter: place for place, parameter in enumerate(method.signature.parameters)}
    for name, method in contract_of(Store).methods.items()
}
"""Of each method: where its arguments are."""

_CLAIMS = ("dequeue_rollout", "dequeue_many_rollouts")
_OF_HOLDERS = ("give_back", "release_worker")
_MOST = 1000
"""How many a claim is expected to get at most."""


@dataclass
class Foresight:
    """Which rollouts, by their id and by who is on them, which workers, and how much is put into the queue and out."""

    rollout_ids: list[str] = field(default_factory=list)
    holders: list[str] = field(default_factory=list)
    worker_ids: list[str] = field(default_factory=list)
    enqueued: int = 0
    claimed: int = 0


def of(calls: Iterable[tuple[str, tuple[Any, ...], Mapping[str, Any]]]) -> Foresight:
    """Return what calls, whose arguments nobody has checked yet, will look at."""
    seen = Foresight()
    for name, args, kwargs in calls:
        places = _PLACES.get(name)
        if places is not None:
            given = {parameter: args[place] for parameter, place in places.items() if place < len(args)} | dict(kwargs)
            _see(seen, name, given)
    return seen


def _see(seen: Foresight, name: str, given: Mapping[str, Any]) -> None:
    seen.rollout_ids += filter(checks.is_text, _rollout_ids(given))
    worker_id = given.get("worker_id")
    if checks.is_text(worker_id):
        seen.worker_ids.append(worker_id)
        if name in _OF_HOLDERS or given.get("claim_id") is not None:
            seen.holders.append(worker_id)
    if name in _CLAIMS:
        limit = given.get("limit", 1)
        seen.claimed += min(limit, _MOST) if isinstance(limit, int) and limit > 0 else 0
    elif name in ("enqueue_rollout", "start_rollout"):
        seen.enqueued += 1
    elif name == "enqueue_many_rollouts":
        seen.enqueued += len(_several(given.get("requests")))


def _rollout_ids(given: Mapping[str, Any]) -> Iterable[Any]:
    yield given.get("rollout_id")
    yield from _several(given.get("rollout_ids"))
    for span in (given.get("span"), *_several(given.get("spans"))):
        if isinstance(span, Span):
            yield span.rollout_id
    for request in _several(given.get("requests")):
        if isinstance(request, EnqueueRolloutRequest):
            yield request.rollout_id
    for pair in _several(given.get("pairs")):
        if isinstance(pair, tuple | list) and pair:
            yield pair[0]


def _several(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
