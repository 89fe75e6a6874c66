"""How a runner claims work: it waits as long as it takes, can be called off at any moment, and loses no claim.

Each claim has an id: a claim whose answer was lost with a link is asked for again, one whose answer crossed our
calling it off is given back.
"""

from __future__ import annotations

import logging
import secrets

import anyio

from lightactors.training.events import ExecutionEvent
from lightactors.training.patience import insist
from lightactors.training.records import AttemptedRollout
from lightactors.training.stores.contract import Store

logger = logging.getLogger("lightactors")

_GRACE = 2.0
"""Seconds that giving back a claim may take."""


class Claims:
    """The claims of one worker, one at a time."""

    def __init__(self, store: Store, worker_id: str) -> None:
        self._store = store
        self._worker_id = worker_id
        self._claim_id = ""

    async def next(self, event: ExecutionEvent) -> AttemptedRollout | None:
        """Wait for work and claim it; None if the event called it off.

        A claim that was made in the very moment goes back to the queue, also if the caller is cancelled.
        """
        if event.is_set():
            return None
        self._claim_id = secrets.token_hex(8)
        try:
            with anyio.CancelScope() as waiting, event.cancelling(waiting):
                return await self._claim()
        except anyio.get_cancelled_exc_class():
            await self.give_back()
            raise
        await self.give_back()
        return None

    async def _claim(self) -> AttemptedRollout | None:
        return await insist(self._store.dequeue_rollout, self._worker_id, timeout=None, claim_id=self._claim_id)

    async def give_back(self) -> None:
        """Give the latest claim back, as nobody will work on it any more."""
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + _GRACE) as scope:
            try:
                await insist(self._store.give_back, self._worker_id, self._claim_id)
            except Exception:
                logger.exception("worker %s could not give back what it may have claimed", self._worker_id)
        if scope.cancelled_caught:
            logger.error("worker %s could not give back what it may have claimed within %s s", self._worker_id, _GRACE)
