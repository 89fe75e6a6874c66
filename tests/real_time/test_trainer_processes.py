"""The trainer with its runners, or its algorithm, in processes."""

from __future__ import annotations

import os
import pickle
from typing import Any

import anyio
import pytest

import lightactors as la
from lightactors.errors import ConfigurationError
from lightactors.training.records import AttemptedRollout
from lightactors.training.runners.agent import PreparedAgent, as_agent
from lightactors.training.strategies import Backend, ClientServerExecutionStrategy

HERE: Any = {"strategy": "cs", "port": 0}
ELSEWHERE: Any = {"strategy": {"type": "cs", "main_process": "runner"}, "port": 0}


@la.agent
def guess(task: int, secret: bytes) -> float:
    la.emit_message(f"in {os.getpid()}")
    return -abs(task - secret[0])


@la.agent
class Guesser:
    """An agent of which each runner makes an instance."""

    async def rollout_async(self, task: int, secret: bytes) -> float:
        return -abs(task - secret[0])


@la.algorithm
async def search(store: la.Store, train: la.Dataset[int], initial_resources: la.Resources) -> None:
    await store.add_resources({**initial_resources, "found in": str(os.getpid()).encode()})
    results = await la.run_tasks(store, train, mode="train")
    assert [result.reward for result in results] == [0, -1]


@la.algorithm
def search_in_a_thread(store: la.Store, train: la.Dataset[int]) -> None:
    results = la.from_thread(la.run_tasks, store, train, mode="train")
    assert [result.reward for result in results] == [0, -1]


@la.algorithm
async def break_down() -> None:
    raise ValueError("no idea")


class Note(la.Hook):
    """Writes into a file what it is told of, for it is told in another process."""

    def __init__(self, path: str) -> None:
        self.path = path

    def on_rollout_end(self, *, agent: Any, runner: la.Runner, rollout: AttemptedRollout, spans: Any) -> None:
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()} {rollout.input}\n")


SECRET = {"secret": bytes([7])}


@pytest.mark.parametrize("where", [HERE, ELSEWHERE], ids=["runners", "algorithm"])
@pytest.mark.parametrize("agent", [guess, Guesser, Guesser()], ids=["function", "class", "instance"])
def test_training_goes_through_processes(backend: Backend, where: dict[str, Any], agent: object) -> None:
    trainer = la.Trainer(algorithm=search, agent=agent, initial_resources=SECRET, backend=backend, **where)
    trainer.fit([7, 8])
    latest = anyio.run(lambda: trainer.store.get_latest_resources(), backend=backend)
    assert latest is not None
    found_in: Any = latest.resources["found in"]
    assert (int(found_in) == os.getpid()) is (where is HERE)


@pytest.mark.parametrize("where", [HERE, ELSEWHERE], ids=["runners", "algorithm"])
def test_plain_algorithm_goes_through_processes(backend: Backend, where: dict[str, Any]) -> None:
    la.Trainer(algorithm=search_in_a_thread, agent=guess, initial_resources=SECRET, backend=backend, **where).fit(
        [7, 8]
    )


def test_failure_of_an_algorithm_elsewhere_is_raised(backend: Backend) -> None:
    with pytest.raises(ValueError, match="no idea"):
        la.Trainer(algorithm=break_down, agent=guess, backend=backend, **ELSEWHERE).fit([1])


def test_runners_in_processes_share_the_work(backend: Backend) -> None:
    trainer = la.Trainer(agent=guess, n_runners=3, initial_resources=SECRET, backend=backend, **HERE)
    results = trainer.run(range(30))
    assert [result.reward for result in results] == [-abs(task - 7) for task in range(30)]
    assert [result.reward for result in trainer.dev([7])] == [0]


def test_hooks_are_told_in_the_runners_process(backend: Backend, tmp_path: Any) -> None:
    hook = Note(f"{tmp_path}/told")
    la.Trainer(agent=guess, initial_resources=SECRET, hooks=hook, backend=backend, **HERE).fit([7, 8])
    lines = [line.split() for line in (tmp_path / "told").read_text().splitlines()]
    assert [task for _, task in lines] == ["7", "8"]
    assert str(os.getpid()) not in {pid for pid, _ in lines}


@pytest.mark.parametrize("method", ["run", "dev"])
def test_results_of_an_algorithm_elsewhere_can_not_be_asked_for(method: str) -> None:
    trainer = la.Trainer(agent=guess, **ELSEWHERE)
    with pytest.raises(ConfigurationError, match=rf"{method}\(\) returns .* use main_process='algorithm'"):
        getattr(trainer, method)([1])


def test_port_is_where_the_strategy_listens() -> None:
    strategy = la.Trainer(agent=guess, strategy="cs", port=5001, n_runners=3).strategy
    assert isinstance(strategy, ClientServerExecutionStrategy)
    assert (strategy.server_port, strategy.n_runners) == (5001, 3)


def test_strategy_without_a_port_refuses_one() -> None:
    with pytest.raises(ConfigurationError, match="port=5001"):
        la.Trainer(agent=guess, port=5001)


# Pickles


@pytest.mark.parametrize("thing", [search, break_down])
def test_algorithm_is_pickled_by_its_name(thing: la.Algorithm) -> None:
    assert pickle.loads(pickle.dumps(thing)) is thing


async def _nameless(store: la.Store) -> None: ...


def test_algorithm_under_another_name_is_made_again() -> None:
    again = pickle.loads(pickle.dumps(la.algorithm(_nameless)))
    assert isinstance(again, la.Algorithm)
    assert again.name == "_nameless"


def test_prepared_agent_is_pickled_as_what_the_user_made() -> None:
    again = pickle.loads(pickle.dumps(as_agent(guess)))
    assert isinstance(again, PreparedAgent)
    assert again.given is guess
