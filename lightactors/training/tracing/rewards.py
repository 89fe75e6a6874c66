"""Rewards: what counts as one, and where they are in a trace. The reward of an attempt is its last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat

from lightactors.errors import InvalidArgument
from lightactors.training.records import Span
from lightactors.training.tracing import semconv

_PRIMARY = f"{semconv.REWARD}.0.value"


def as_reward(value: object) -> float:
    """Return a number as a reward: an int, a bool or an array's only element too.

    Raises `InvalidArgument` for anything else, and for NaN and infinity, which would spoil all that is learnt.
    """
    try:
        reward = float(value) if isinstance(value, SupportsFloat) else math.nan
    except (TypeError, ValueError):
        reward = math.nan
    if not math.isfinite(reward):
        raise InvalidArgument(f"reward is {value!r}; give a finite number")
    return reward


def get_reward_value(span: Span) -> float | None:
    """Return the primary reward that a span carries; None if it carries none."""
    value = span.attributes.get(_PRIMARY)
    return float(value) if isinstance(value, (int, float)) else None


def is_reward_span(span: Span) -> bool:
    """Tell whether a span carries a reward."""
    return get_reward_value(span) is not None


def find_reward_spans(spans: Sequence[Span]) -> list[Span]:
    """Return the spans that carry a reward, in the order given."""
    return [span for span in spans if is_reward_span(span)]


def find_final_reward(spans: Sequence[Span]) -> float | None:
    """Return the last reward of spans in the order of their sequence; None if there is none."""
    for span in reversed(spans):
        reward = get_reward_value(span)
        if reward is not None:
            return reward
    return None
