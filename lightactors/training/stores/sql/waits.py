"""The calls of the durable store, and why one of them is not answered yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lightactors.actors.mailbox import Ask
from lightactors.training.records import AttemptedRollout, Completions, Rollout
from lightactors.training.stores.waiting import Claimant


class Call:
    """A call of the store; `ask` is who waits for its answer, if anybody does."""

    __slots__ = ("args", "ask", "is_given_up", "kwargs", "name", "received", "value")

    def __init__(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], received: float) -> None:
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.received = received
        self.ask: Ask | None = None
        self.value: object = None  # what it was answered
        self.is_given_up = False  # nobody waits for the answer any more

    def __repr__(self) -> str:
        return self.name


class Ends(Protocol):
    """Which rollouts have ended: what a wait answers with."""

    def finished_among(self, rollout_ids: Sequence[str], /) -> list[Rollout]: ...
    def finished_after(self, after: int, limit: int, /) -> Completions: ...


class Wait(Protocol):
    """Why a call is not answered yet."""

    timeout: float | None

    def end(self, ends: Ends) -> object:
        """Return the answer of a wait that is over, because its time is or because it was called off."""
        ...


class ClaimWait:
    """A claim that waits for work."""

    def __init__(self, limit: int, claimant: Claimant, timeout: float | None, *, is_single: bool) -> None:
        self.limit = limit
        self.claimant = claimant
        self.timeout = timeout
        self.is_single = is_single

    def is_called_off_by(self, worker_id: str, claim_id: str | None) -> bool:
        mine = self.claimant
        return mine.worker_id == worker_id and mine.claim_id is not None and claim_id in (None, mine.claim_id)

    def answer(self, claimed: list[AttemptedRollout]) -> object:
        if not self.is_single:
            return claimed
        return claimed[0] if claimed else None

    def end(self, ends: Ends) -> object:
        return self.answer([])


class EndsWait:
    """A wait for the ends of rollouts, of which `missing` have not come yet."""

    def __init__(self, rollout_ids: Sequence[str], missing: set[str], timeout: float | None) -> None:
        self.rollout_ids = rollout_ids
        self.missing = missing
        self.timeout = timeout

    def end(self, ends: Ends) -> object:
        return ends.finished_among(self.rollout_ids)


class CompletionsWait:
    """A wait for any end behind a cursor."""

    def __init__(self, after: int, limit: int, timeout: float | None) -> None:
        self.after = after
        self.limit = limit
        self.timeout = timeout

    def end(self, ends: Ends) -> object:
        return ends.finished_after(self.after, self.limit)


def who_may_call_off(wait: Wait) -> str | None:
    """Return the worker by whose name a wait can be called off, if it can."""
    return wait.claimant.worker_id if isinstance(wait, ClaimWait) and wait.claimant.claim_id is not None else None
