"""Agents: what their parameters get, and what is refused."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from lightactors.errors import ContractError
from lightactors.training.records import (
    LLM,
    Attempt,
    AttemptedRollout,
    Mode,
    PromptTemplate,
    ProxyLLM,
    Resources,
    Rollout,
)
from lightactors.training.runners.agent import Agent, agent, as_agent, is_agent
from lightactors.training.stores.memory import MemoryStore

if TYPE_CHECKING:
    from lightactors.nowhere import OnlyForTypeCheckers  # type: ignore[import-not-found]

SMALL = LLM("http://small/v1", "small")
LARGE = LLM("http://large/v1", "large")
PROXY = ProxyLLM("http://proxy/v1", "proxied")
TEMPLATE = PromptTemplate("Answer: {question}")


def rollout(mode: Mode | None = None) -> AttemptedRollout:
    attempt = Attempt(rollout_id="ro-1", attempt_id="at-1", sequence_id=1, start_time=0)
    return AttemptedRollout(rollout_id="ro-1", input="task", start_time=0, mode=mode, attempt=attempt)


async def run(thing: object, resources: Resources | None = None, mode: Mode | None = None) -> Any:
    return await as_agent(thing).run("task", resources or {}, rollout(mode))


# What the parameters get


async def test_task_is_enough() -> None:
    async def answer(question: str) -> None:
        assert question == "task"

    assert await run(answer) is None


async def test_resources_and_rollout_are_known_by_name() -> None:
    async def answer(task: str, rollout: AttemptedRollout, resources: Any) -> Any:
        return rollout.attempt.attempt_id, resources

    assert await run(answer, {"small": SMALL}) == ("at-1", {"small": SMALL})


async def test_resources_and_rollout_are_known_by_annotation() -> None:
    async def answer(task: str, everything: Resources, which: Rollout) -> Any:
        return which.rollout_id, everything

    assert await run(answer, {"small": SMALL}) == ("ro-1", {"small": SMALL})


async def test_llm_is_the_first_one() -> None:
    async def by_name(task: str, llm: Any) -> Any:
        return llm

    async def by_annotation(task: str, model: LLM) -> Any:
        return model

    resources: Resources = {"template": TEMPLATE, "large": LARGE, "small": SMALL}
    assert await run(by_name, resources) is LARGE
    assert await run(by_annotation, resources) is LARGE


async def test_llm_of_the_parameters_name_goes_before_the_first() -> None:
    async def answer(task: str, small: LLM, judge: LLM) -> Any:
        return small, judge

    assert await run(answer, {"large": LARGE, "small": SMALL}) == (SMALL, LARGE)


async def test_proxy_llm_comes_with_the_ids_in_its_url() -> None:
    async def answer(task: str, llm: LLM, proxied: Any, raw: ProxyLLM) -> Any:
        return llm, proxied, raw

    llm, proxied, raw = await run(answer, {"proxied": PROXY})
    assert type(llm) is LLM
    assert llm.endpoint == proxied.endpoint == "http://proxy/rollout/ro-1/attempt/at-1/v1"
    assert raw is PROXY


async def test_prompt_template_is_known_by_name_and_by_annotation() -> None:
    async def answer(task: str, prompt_template: Any, other: PromptTemplate) -> Any:
        return prompt_template, other

    assert await run(answer, {"main": TEMPLATE}) == (TEMPLATE, TEMPLATE)


async def test_any_other_parameter_gets_the_resource_of_its_name() -> None:
    async def answer(task: str, policy: bytes, *, bonus: Any = 1, other: LLM | None) -> Any:
        return policy, bonus, other

    assert await run(answer, {"policy": b"weights"}) == (b"weights", 1, None)


async def test_annotations_for_type_checkers_only_do_no_harm() -> None:
    async def answer(task: OnlyForTypeCheckers, model: LLM, policy: OnlyForTypeCheckers) -> Any:
        return model, policy

    assert await run(answer, {"policy": b"weights", "small": SMALL}) == (SMALL, b"weights")


async def test_partial_keeps_what_is_bound() -> None:
    async def answer(task: str, llm: LLM, depth: int) -> Any:
        return llm, depth

    assert await run(functools.partial(answer, depth=3), {"depth": b"", "small": SMALL}) == (SMALL, 3)


async def test_missing_resource_is_named_with_those_there_are() -> None:
    async def answer(task: str, policy: Any) -> None: ...

    async def chat(task: str, llm: LLM) -> None: ...

    with pytest.raises(ContractError, match=r"answer asks for 'policy'.*'ro-1', which are 'small', 'large'; add it"):
        await run(answer, {"small": SMALL, "large": LARGE})
    with pytest.raises(ContractError, match=r"asks for 'llm', but there is no LLM among .* which are none"):
        await run(chat)


# Functions


def test_decorated_function_is_still_that_function() -> None:
    @agent
    def answer(task: int, llm: LLM) -> float:
        return task / 2

    half: float = answer(1, SMALL)
    assert half == 0.5


async def test_plain_function_that_returns_an_awaitable_is_awaited() -> None:
    async def later(task: str) -> float:
        return 1.0

    assert await run(lambda task: later(task)) == 1.0


def test_function_without_a_task_is_refused() -> None:
    with pytest.raises(ContractError, match=r"agent answer takes no task; declare it as `answer\(task, ...\)`"):

        @agent
        def answer() -> float:
            return 1.0

    with pytest.raises(ContractError, match="takes no task"):
        as_agent(lambda *, task: None)


def test_generator_is_refused() -> None:
    def answer(task: str) -> Any:
        yield 1

    with pytest.raises(ContractError, match="agent answer is a generator"):
        agent(answer)


def test_parameter_that_cannot_be_named_is_refused() -> None:
    def answer(task: str, llm: LLM, /) -> float:
        return 1.0

    with pytest.raises(ContractError, match="parameter 'llm' of agent answer is filled by name"):
        agent(answer)


@pytest.mark.parametrize("thing", [5, "answer", [1, 2], {"type": "x"}, object()])
def test_what_is_no_agent_is_refused(thing: object) -> None:
    assert not is_agent(thing)
    with pytest.raises(ContractError, match="is no agent; give a function"):
        as_agent(thing)


def test_agents_are_told_from_datasets() -> None:
    assert is_agent(test_agents_are_told_from_datasets)
    assert is_agent(Both)
    assert is_agent(Both())
    assert is_agent(as_agent(Both))


def test_preparing_twice_changes_nothing() -> None:
    prepared = as_agent(Both)
    assert as_agent(prepared) is prepared


# Classes


class Both(Agent[str]):
    async def training_rollout_async(self, task: str) -> Any:
        return "training"

    async def rollout_async(self, task: str, rollout: AttemptedRollout) -> Any:
        return f"any, {rollout.mode}"


@agent
class Complete:
    async def rollout_async(self, task: str) -> Any:
        return "any"

    async def training_rollout_async(self, task: str) -> Any:
        return "training"

    async def validation_rollout_async(self, task: str, llm: LLM) -> Any:
        return f"validation with {llm.model}"


async def test_mode_chooses_the_method() -> None:
    modes: list[Mode | None] = ["train", "val", "test", None]
    assert [await run(Both(), mode=mode) for mode in modes] == ["training", "any, val", "any, test", "any, None"]
    validation = "validation with small"
    results = [await run(Complete(), {"small": SMALL}, mode) for mode in modes]
    assert results == ["training", validation, validation, "any"]


async def test_mode_without_a_method_is_an_error() -> None:
    class Trainee:
        async def training_rollout_async(self, task: str) -> None: ...

    with pytest.raises(ContractError, match="agent Trainee has only training_rollout, nothing for mode 'val'"):
        await run(Trainee(), mode="val")
    await run(Trainee(), mode=None)


async def test_each_owner_of_a_class_has_an_instance_of_its_own() -> None:
    class Counting:
        def __init__(self) -> None:
            self.count = 0

        async def rollout_async(self, task: str) -> float:
            self.count += 1
            return self.count

    prepared = as_agent(Counting)
    first, second = prepared.own(), prepared.own()
    results = [await one.run("task", {}, rollout()) for one in (first, first, second)]
    assert results == [1, 2, 1]
    assert prepared.given is Counting


def test_class_that_needs_arguments_is_refused_when_it_is_made() -> None:
    class Configured:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def rollout(self, task: str) -> float:
            return self.depth

    with pytest.raises(ContractError, match=r"missing a required argument: 'depth'; give an instance instead"):
        as_agent(Configured).own()
    assert as_agent(Configured(3)).own().name == "Configured"


def test_wrong_method_of_a_class_is_refused_at_its_declaration() -> None:
    with pytest.raises(ContractError, match="agent rollout takes no task"):

        @agent
        class Wrong:
            def rollout(self) -> float:
                return 1.0


async def test_static_method_will_do() -> None:
    class Static:
        @staticmethod
        async def rollout(task: str, llm: LLM) -> Any:
            return task, llm

    assert await run(Static, {"small": SMALL}) == ("task", SMALL)


@dataclass
class Question:
    text: str
    weight: float = 1.0


@pytest.mark.parametrize("task", [Question("why?"), {"text": "why?"}])
async def test_task_is_a_dataclass_again_where_it_is_annotated_as_that(task: object) -> None:
    def answer(question: Question) -> float:
        assert question == Question("why?")
        return question.weight

    store = MemoryStore()
    rollout = await store.start_rollout(task)
    assert await as_agent(answer).run(rollout.input, {}, rollout) == 1.0
