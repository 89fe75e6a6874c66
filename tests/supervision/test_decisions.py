"""What a supervisor knows and decides, as plain calls: plans, the restart budget, delays, specs and the ladder."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightactors.errors import ConfigurationError
from lightactors.supervision.ladder import GRACE, Ladder, Rung, ladder_of
from lightactors.supervision.restarts import Budget, Member, Plan, after_end, delay, is_restarted
from lightactors.supervision.spec import AutoShutdown, ChildOptions, Policy, Restart, Strategy

ABC = [Member("a", "permanent"), Member("b", "permanent"), Member("c", "permanent")]


@pytest.mark.parametrize(
    ("restart", "after_failure", "after_normal_end"),
    [("permanent", True, True), ("transient", True, False), ("temporary", False, False)],
)
def test_kind_of_child_says_when_it_is_started_again(
    restart: Restart, after_failure: bool, after_normal_end: bool
) -> None:
    assert is_restarted(restart, failed=True) is after_failure
    assert is_restarted(restart, failed=False) is after_normal_end


# Plans


@pytest.mark.parametrize(
    ("strategy", "plan"),
    [
        ("one_for_one", Plan(stop=(), start=("b",))),
        ("one_for_all", Plan(stop=("c", "a"), start=("a", "b", "c"))),
        ("rest_for_one", Plan(stop=("c",), start=("b", "c"))),
    ],
)
def test_strategy_says_who_is_started_again_with_a_child(strategy: Strategy, plan: Plan) -> None:
    assert after_end(ABC, "b", failed=True, strategy=strategy) == plan


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_nobody_is_stopped_for_a_child_that_is_not_started_again(strategy: Strategy) -> None:
    members = [*ABC, Member("d", "transient")]
    assert after_end(members, "d", failed=False, strategy=strategy) == Plan(forget=("d",))


def test_temporary_sibling_is_stopped_with_the_others_and_forgotten() -> None:
    members = [*ABC, Member("d", "temporary")]
    plan = after_end(members, "a", failed=True, strategy="one_for_all")
    assert plan == Plan(stop=("d", "c", "b"), start=("a", "b", "c"), forget=("d",))


@pytest.mark.parametrize(
    ("auto_shutdown", "others", "shuts_down"),
    [
        ("never", False, False),
        ("any_significant", True, True),
        ("any_significant", False, True),
        ("all_significant", True, False),
        ("all_significant", False, True),
    ],
)
def test_end_of_a_significant_child_may_end_the_supervisor(
    auto_shutdown: AutoShutdown, others: bool, shuts_down: bool
) -> None:
    members = [*ABC, Member("s", "transient", significant=True), Member("t", "temporary", significant=others)]
    plan = after_end(members, "s", failed=False, strategy="one_for_one", auto_shutdown=auto_shutdown)
    assert plan == Plan(forget=("s",), shut_down=shuts_down)


def test_significant_child_that_is_started_again_ends_nobody() -> None:
    members = [Member("s", "transient", significant=True)]
    plan = after_end(members, "s", failed=True, strategy="one_for_one", auto_shutdown="any_significant")
    assert plan == Plan(start=("s",))


kinds = st.lists(st.sampled_from(get_args(Restart)), min_size=1, max_size=6)


@given(kinds, st.data(), st.booleans(), st.sampled_from(get_args(Strategy)))
def test_plan_keeps_the_order_and_loses_nobody(
    restarts: list[Restart], data: st.DataObject, failed: bool, strategy: Strategy
) -> None:
    names = [f"child {number}" for number in range(len(restarts))]
    members = [Member(name, restart) for name, restart in zip(names, restarts, strict=True)]
    ended = data.draw(st.sampled_from(names))
    plan = after_end(members, ended, failed=failed, strategy=strategy)

    assert list(plan.start) == [name for name in names if name in plan.start]
    assert list(plan.stop) == [name for name in reversed(names) if name in plan.stop]
    assert ended not in plan.stop
    assert set(plan.start) | set(plan.forget) == {*plan.stop, ended}
    assert set(plan.start).isdisjoint(plan.forget)
    assert all(restarts[names.index(name)] == "temporary" for name in plan.forget if name != ended)
    assert plan.start == () or is_restarted(restarts[names.index(ended)], failed=failed)
    if strategy == "one_for_one":
        assert plan.stop == ()
    if strategy == "rest_for_one":
        assert all(names.index(name) > names.index(ended) for name in plan.stop)


# The budget


def test_budget_tells_how_many_restarts_there_were_within_the_period() -> None:
    budget = Budget(2, 5)
    assert [budget.spend(now) for now in (0, 4, 5, 9.5, 20)] == [1, 2, None, 2, 1]


def test_budget_of_none_is_over_at_once() -> None:
    assert Budget(0, 5).spend(0) is None


moments = st.lists(st.floats(0, 50, allow_nan=False), max_size=30).map(sorted)


@given(moments, st.integers(0, 5), st.floats(0.1, 20))
def test_budget_counts_what_lies_within_the_period(now: list[float], most: int, period: float) -> None:
    budget = Budget(most, period)
    for number, moment in enumerate(now):
        within = sum(before >= moment - period for before in now[: number + 1])
        assert budget.spend(moment) == (within if within <= most else None)


# The delay before a restart


def test_delay_doubles_up_to_the_most() -> None:
    assert [delay(number, 1, 5, random=0) for number in (1, 2, 3, 4)] == [1, 2, 4, 5]


@given(st.integers(1, 10**6), st.floats(0, 1e300), st.floats(0, math.inf), st.floats(0, 1, exclude_max=True))
def test_delay_is_never_less_than_half_nor_more_than_the_most(
    restarts: int, first: float, most: float, random: float
) -> None:
    whole = delay(restarts, first, most, random=0)
    seconds = delay(restarts, first, most, random)
    assert whole <= most
    assert whole / 2 <= seconds <= whole
    assert min(first, most) <= whole


# Specs and policies


@pytest.mark.parametrize("frozen", [ChildOptions(), Policy(), Ladder(), Plan(), Member("a", "permanent")])
def test_what_decisions_are_made_of_is_frozen(frozen: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(frozen, dataclasses.fields(frozen)[0].name, "x")


def test_policy_has_the_defaults_of_otp() -> None:
    policy = Policy()
    assert (policy.strategy, policy.max_restarts, policy.period) == ("one_for_one", 1, 5.0)
    assert (policy.restart, policy.auto_shutdown, policy.backoff) == ("permanent", "never", 0.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"strategy": "all"}, "strategy='all' is unknown; choose from 'one_for_one', 'one_for_all', 'rest_for_one'"),
        ({"auto_shutdown": None}, "auto_shutdown=None is unknown"),
        ({"restart": "sometimes"}, "restart='sometimes' is unknown"),
        ({"max_restarts": -1}, "max_restarts=-1"),
        ({"max_restarts": True}, "max_restarts=True"),
        ({"period": 0}, "period=0 would forget"),
        ({"period": math.nan}, "period=nan"),
        ({"backoff": "1"}, "backoff='1'; give seconds"),
        ({"max_backoff": -0.5}, "max_backoff=-0.5"),
    ],
)
def test_bad_policy_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Policy(**given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"place": "cloud"}, "place='cloud' is unknown; choose from 'task', 'thread', 'process'"),
        ({"restart": "never"}, "restart='never' is unknown"),
        ({"mailbox": 0}, "mailbox=0"),
        ({"mailbox": math.nan}, "mailbox=nan"),
        ({"name": "a/b"}, "name='a/b'"),
        ({"name": ""}, "name=''"),
        ({"start_timeout": None}, "start_timeout=None"),
        ({"limits": object()}, "pass place='process'"),
        ({"significant": True, "restart": "permanent"}, "a permanent child can't be significant"),
    ],
)
def test_bad_child_options_are_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ChildOptions(**given)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Policy(restart="transient"), "is significant, but auto_shutdown='never'"),
        (Policy(auto_shutdown="any_significant"), "is significant and would be permanent"),
    ],
)
def test_significant_child_must_be_able_to_end_its_supervisor(policy: Policy, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        policy.check(ChildOptions(name="s", significant=True))


# The ladder


def test_one_number_is_the_grace_of_each_rung() -> None:
    assert ladder_of(2) == Ladder(2, 2, 2, 2)
    assert ladder_of(Ladder(1, 2, 3, 4)) == Ladder(1, 2, 3, 4)
    assert Ladder() == ladder_of(GRACE)


def test_ladder_tells_each_rungs_grace() -> None:
    rungs = (Rung.DRAIN, Rung.INTERRUPT, Rung.TERMINATE, Rung.KILL)
    assert [Ladder(1, 2, 3, 4).grace(rung) for rung in rungs] == [1, 2, 3, 4]


@pytest.mark.parametrize("rung", ["drain", "interrupt", "terminate", "kill"])
def test_bad_grace_is_named(rung: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{rung}=-1; give seconds, 0 or more"):
        Ladder(**{rung: -1})


def test_bad_grace_of_all_rungs_is_called_by_its_own_name() -> None:
    with pytest.raises(ConfigurationError, match="grace='soon'"):
        ladder_of("soon")  # type: ignore[arg-type]
