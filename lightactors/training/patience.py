"""How a runner or an algorithm outlives its store: it waits until that can be reached again, and asks once more."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

import anyio

from lightactors.errors import AccessDenied, ActorNotRunning, ConnectFailed, LinkLost, StoreUnavailable

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger("lightactors")

_SHORTEST, _LONGEST = 0.1, 1.0
"""Seconds between two attempts, at first and at last."""


async def insist(ask: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
    """Ask until there is an answer, however often the link or the database is lost; for what may be asked twice.

    The store may have heard us although its answer never came: what is asked has to say so by an id, or to do no
    harm when it is done again. What the store itself answers, a refusal too, is the caller's. So is what no patience
    helps against: `AccessDenied`, also by a node that came back with other tokens, and `ActorNotRunning` for a store
    that has been stopped, or did not come back with its node.
    """
    pause = _SHORTEST
    level = logging.WARNING
    while True:
        try:
            return await ask(*args, **kwargs)
        except (LinkLost, ConnectFailed, StoreUnavailable) as error:
            logger.log(level, "the store can't be reached; trying again until it can: %s", error)
        except ActorNotRunning as error:
            if isinstance(error.__cause__, AccessDenied):
                raise error.__cause__ from None
            raise
        level = logging.DEBUG
        await anyio.sleep(pause)
        pause = min(2 * pause, _LONGEST)
