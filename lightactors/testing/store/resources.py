"""Resources have versions."""

from __future__ import annotations

from lightactors.training.records import (
    LLM,
    PromptTemplate,
)
from lightactors.training.stores.contract import Store


async def check_resources_have_versions(store: Store) -> None:
    prompt = PromptTemplate("Say {word}")
    first = await store.add_resources({"prompt": prompt, "llm": LLM("http://localhost", "m")})
    assert (first.version, first.resources["prompt"], first.create_time) == (1, prompt, first.update_time)
    second = await store.update_resources(first.resources_id, {"prompt": PromptTemplate("Shout {word}")})
    assert (second.version, second.create_time) == (2, first.create_time)
    assert await store.get_resources_by_id(first.resources_id) == second
    own = await store.update_resources("default", {})
    assert own.version == 1
    assert await store.query_resources() == [second, own]
    assert await store.query_resources(resources_id_contains="defa") == [own]
    assert await store.query_resources(resources_id=first.resources_id, sort_by="version") == [second]


async def check_rollouts_take_the_latest_resources(store: Store) -> None:
    assert (await store.enqueue_rollout(1)).resources_id is None
    first, second = await store.add_resources({}), await store.add_resources({})
    assert await store.get_latest_resources() == second
    queued = await store.enqueue_rollout(1)
    assert queued.resources_id == second.resources_id
    await store.update_resources(first.resources_id, {})
    assert (await store.start_rollout(1)).resources_id == first.resources_id
    again = await store.get_rollout_by_id(queued.rollout_id)
    assert again is not None
    assert again.resources_id == second.resources_id
    assert (await store.enqueue_rollout(1, resources_id=second.resources_id)).resources_id == second.resources_id
