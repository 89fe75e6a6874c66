"""How a runner claims work: it waits as long as it takes, can be called off at any moment, and loses no claim."""

from __future__ import annotations

import logging

import anyio

from lightactors.training.events import ExecutionEvent
from lightactors.training.records import AttemptedRollout
from lightactors.training.stores.contract import Store

logger = logging.getLogger("lightactors")

_INSTANT = 1e-6
_NEVER = 2**62  # a cursor that no store will reach

_GRACE = 2.0
"""Seconds that giving back a claim may take."""


class Claims:
    """The claims of one worker, one at a time."""

    def __init__(self, store: Store, worker_id: str) -> None:
        self._store = store
        self._worker_id = worker_id
        self._latest: tuple[str, str] | None = None
        self._waiting = anyio.CancelScope()

    async def call_off(self, event: ExecutionEvent) -> None:
        """Wait for the event, then end the wait for work that may be under way."""
        await event
        self._waiting.cancel()

    async def next(self, event: ExecutionEvent) -> AttemptedRollout | None:
        """Wait for work and claim it; None if the event called it off.

        A claim that was made in the very moment is still returned. If the caller is cancelled, it goes back
        to the queue.
        """
        claim: AttemptedRollout | None = None
        try:
            with anyio.CancelScope() as self._waiting:
                if not event.is_set():
                    claim = await self._store.dequeue_rollout(worker_id=self._worker_id, timeout=None)
            if self._waiting.cancelled_caught:
                claim = await self._crossed()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _GRACE):
                await self._give_back()
            raise
        if claim is not None:
            self._latest = (claim.rollout_id, claim.attempt.attempt_id)
        return claim

    async def _crossed(self) -> AttemptedRollout | None:
        """Return the claim whose answer crossed our calling it off, if there is one: the store knows."""
        await self._settle()
        worker = await self._store.get_worker_by_id(self._worker_id)
        if worker is None or worker.current_rollout_id is None or worker.current_attempt_id is None:
            return None
        found = await self._store.get_rollout_by_id(worker.current_rollout_id)
        if isinstance(found, AttemptedRollout) and self._is_news(found, worker.current_attempt_id):
            return found
        return None

    async def _settle(self) -> None:
        """Wait until the wait that was called off has left the store, with a claim or without.

        A plain handler proves nothing, however often it is asked: an actor answers many of them in one step of
        its loop, and the waiter, waked by work that came before, claims it in the next step. A handler that
        waits is served by a task of its own, behind those steps. The first brings us behind the order to give
        up, the second behind what that set going. This holds for stores that claim in one step, as the
        one in memory does; an engine that claims in another thread has to give such claims back itself.
        """
        for _ in range(2):
            await self._store.query_completions(_NEVER, timeout=_INSTANT)

    def _is_news(self, found: AttemptedRollout, attempt_id: str) -> bool:
        return found.attempt.attempt_id == attempt_id and (found.rollout_id, attempt_id) != self._latest

    async def _give_back(self) -> None:
        try:
            claim = await self._crossed()
            if claim is not None:
                await self._store.update_rollout(claim.rollout_id, status="requeuing")
        except Exception:
            logger.exception("worker %s could not ask the store whether a claim was lost", self._worker_id)
