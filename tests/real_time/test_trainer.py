"""The trainer: everything together, in threads, as users run it."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import lightactors as la
from lightactors.errors import ConfigurationError, ContractError
from lightactors.training.strategies import Backend


@la.agent
def double(task: int) -> float:
    return 2.0 * task


@la.agent
async def double_async(task: int) -> float:
    await anyio.lowlevel.checkpoint()
    return 2.0 * task


@pytest.mark.parametrize("agent", [double, double_async], ids=["sync", "async"])
def test_run_returns_the_rewards_in_the_order_of_the_tasks(backend: Backend, agent: Any) -> None:
    results = la.Trainer(agent=agent, n_runners=4, backend=backend).run(range(50))

    assert [result.reward for result in results] == [2.0 * task for task in range(50)]
    assert {result.rollout.status for result in results} == {"succeeded"}


def test_fit_runs_the_algorithm_with_what_its_parameters_name(backend: Backend) -> None:
    seen: dict[str, Any] = {}

    @la.algorithm
    async def learn(store: la.Store, train: la.Dataset[int], val_dataset: la.Dataset[int], adapter: Any) -> None:
        seen.update(train=train, val=val_dataset, adapter=adapter)
        seen["rewards"] = [result.reward for result in await la.run_tasks(store, train, mode="train")]

    la.Trainer(algorithm=learn, agent=double, backend=backend).fit([1, 2], [3])

    assert seen.pop("adapter").adapt([]) == []
    assert seen == {"train": [1, 2], "val": [3], "rewards": [2.0, 4.0]}


def test_fit_takes_the_agent_first_as_agent_lightning_does() -> None:
    rewards: list[float | None] = []

    @la.algorithm
    async def learn(store: la.Store, train: la.Dataset[int]) -> None:
        rewards.extend(result.reward for result in await la.run_tasks(store, train))

    la.Trainer(algorithm=learn).fit(double, [4], None)

    assert rewards == [8.0]


def test_algorithm_may_be_a_class_and_sync(backend: Backend) -> None:
    class Learn(la.Algorithm):
        rewards: list[float | None]

        def run(self, train: la.Dataset[int], val: la.Dataset[int]) -> None:
            assert threading.current_thread() is not threading.main_thread()
            results = la.from_thread(la.run_tasks, self.store, train)
            self.rewards = [result.reward for result in results]

    learn = Learn()
    la.Trainer(algorithm=learn, agent=double, backend=backend).fit([5])

    assert learn.rewards == [10.0]


def test_initial_resources_reach_the_agent(backend: Backend) -> None:
    @la.agent
    def answer(task: str, prompt_template: la.PromptTemplate, bonus: bytes) -> float:
        return float(len(prompt_template.format(task=task)) + bonus[0])

    resources: la.Resources = {"prompt_template": la.PromptTemplate("<{task}>"), "bonus": bytes([100])}
    results = la.Trainer(agent=answer, initial_resources=resources, backend=backend).run(["a", "bcd"])

    assert [result.reward for result in results] == [103.0, 105.0]


def test_spans_of_the_agent_are_in_the_store(backend: Backend) -> None:
    @la.agent
    async def talk(task: str) -> None:
        with la.operation("think"):
            la.emit_message(f"about {task}")
        la.emit_reward(0.5)

    trainer = la.Trainer(agent=talk, backend=backend)
    (result,) = trainer.run(["actors"])
    spans = anyio.run(lambda: trainer.store.query_spans(result.rollout.rollout_id))

    assert result.reward == 0.5
    assert [span.sequence_id for span in spans] == sorted({span.sequence_id for span in spans})
    assert any("think" in span.attributes.values() for span in spans)


def test_agent_that_raises_fails_its_rollout_and_no_more(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    @la.agent
    def moody(task: int) -> float:
        if task == 1:
            raise ValueError("not today")
        return 1.0

    with caplog.at_level(logging.CRITICAL, "lightactors"):
        results = la.Trainer(agent=moody, n_runners=2, backend=backend).run([0, 1, 2])

    assert [result.rollout.status for result in results] == ["succeeded", "failed", "succeeded"]


def test_agent_that_returns_nonsense_fails_its_rollout(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    @la.agent
    def confused(task: int) -> Any:
        return "very good"

    with caplog.at_level(logging.ERROR, "lightactors"):
        (result,) = la.Trainer(agent=confused, backend=backend).run([0])

    assert result.rollout.status == "failed"
    assert "confused returned a str: 'very good'" in caplog.text


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_agent_that_exits_fails_its_rollout(backend: Backend, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def leave(task: int) -> None:
        sys.exit(3)

    async def leave_async(task: int) -> None:
        sys.exit(3)

    agent = la.agent(leave) if kind == "sync" else la.agent(leave_async)
    with caplog.at_level(logging.ERROR, "lightactors"):
        (result,) = la.Trainer(agent=agent, backend=backend).run([0])

    assert result.rollout.status == "failed"
    assert "sys.exit(3)" in caplog.text


def test_agent_that_blocks_for_ever_does_not_keep_the_program_from_ending(backend: Backend) -> None:
    program = f"""
import logging, threading
import lightactors as la

@la.agent
def stuck(task):
    started.set()
    threading.Event().wait()

@la.algorithm
async def leave(store):
    await store.enqueue_rollout("task")
    await anyio.to_thread.run_sync(started.wait)

import anyio, anyio.to_thread
started = threading.Event()
strategy = {{"type": "shm", "graceful_delay": 0.1, "join_timeout": 1}}
la.Trainer(algorithm=leave, agent=stuck, strategy=strategy, backend={backend!r}).fit([])
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)

    assert (done.returncode, done.stdout) == (0, "ended\n")
    assert "agent stuck on rollout" in done.stderr
    assert "threading.Event().wait()" in done.stderr or "in wait" in done.stderr


def test_failed_attempts_are_retried_where_the_configuration_says_so(backend: Backend) -> None:
    tried: list[int] = []

    @la.agent
    def second_time_lucky(task: int, rollout: la.AttemptedRollout) -> float:
        tried.append(rollout.attempt.sequence_id)
        if rollout.attempt.sequence_id == 1:
            raise RuntimeError("first time")
        return 1.0

    @la.algorithm
    async def retry(store: la.Store, train: la.Dataset[int]) -> None:
        config = la.RolloutConfig(max_attempts=2, retry_condition=["failed"])
        (result,) = await la.run_tasks(store, [0], config=config)
        assert (result.rollout.status, result.reward) == ("succeeded", 1.0)

    la.Trainer(algorithm=retry, agent=second_time_lucky, backend=backend).fit([])

    assert tried == [1, 2]


def test_agent_that_never_returns_is_timed_out(backend: Backend) -> None:
    @la.agent
    async def endless(task: int) -> None:
        await anyio.sleep_forever()

    @la.algorithm
    async def impatient(store: la.Store, train: la.Dataset[int]) -> None:
        (result,) = await la.run_tasks(store, [0], config=la.RolloutConfig(timeout_seconds=0.2))
        assert result.rollout.status == "failed"
        attempt = await store.get_latest_attempt(result.rollout.rollout_id)
        assert attempt is not None
        assert attempt.status == "timeout"

    la.Trainer(algorithm=impatient, agent=endless, backend=backend).fit([])


def test_failure_of_the_algorithm_comes_out_of_fit(backend: Backend) -> None:
    @la.algorithm
    async def hopeless(store: la.Store) -> None:
        raise ValueError("no gradient")

    with pytest.raises(ValueError, match="no gradient"):
        la.Trainer(algorithm=hopeless, agent=double, n_runners=3, backend=backend).fit([])


def test_failure_of_the_algorithm_is_itself_beside_a_line_of_progress(backend: Backend) -> None:
    @la.algorithm
    async def hopeless(store: la.Store) -> None:
        raise ValueError("no gradient")

    with pytest.raises(ValueError, match="no gradient"):
        la.Trainer(algorithm=hopeless, agent=double, progress=True, backend=backend).fit([])


def test_progress_counts_the_rollouts_of_this_run_only(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = la.Trainer(agent=double, progress=True, backend=backend)
    trainer.run(range(5))
    trainer.run(range(3))

    assert "3 rollouts finished" in capsys.readouterr().err


def test_dev_runs_the_first_ten_tasks_of_each_dataset(backend: Backend) -> None:
    results = la.Trainer(agent=double, n_runners=8, backend=backend).dev(range(100), range(3))

    assert [result.reward for result in results] == [2.0 * task for task in [*range(10), *range(3)]]
    assert [result.rollout.mode for result in results] == ["train"] * 10 + ["val"] * 3


def test_runners_end_after_max_rollouts(backend: Backend) -> None:
    workers: list[str | None] = []

    @la.algorithm
    async def watch(store: la.Store, train: la.Dataset[int]) -> None:
        for result in await la.run_tasks(store, train):
            assert isinstance(result.rollout, la.AttemptedRollout)
            workers.append(result.rollout.attempt.worker_id)

    la.Trainer(algorithm=watch, agent=double, n_runners=2, max_rollouts=3, backend=backend).fit(range(6))

    assert sorted(map(str, workers)) == ["runner-0"] * 3 + ["runner-1"] * 3


def test_hooks_see_each_rollout(backend: Backend) -> None:
    class Count(la.Hook):
        started = 0
        ended = 0

        async def on_rollout_start(self, **_: Any) -> None:
            self.started += 1

        async def on_rollout_end(self, **_: Any) -> None:
            self.ended += 1

    count = Count()
    la.Trainer(agent=double, hooks=count, backend=backend).run(range(4))

    assert (count.started, count.ended) == (4, 4)


def test_afit_runs_on_the_loop_that_is_there(backend: Backend) -> None:
    rewards: list[float | None] = []

    @la.algorithm
    async def learn(store: la.Store, train: la.Dataset[int]) -> None:
        rewards.extend(result.reward for result in await la.run_tasks(store, train))

    async def notebook() -> None:
        await la.Trainer(algorithm=learn, agent=double).afit([1, 2, 3])

    anyio.run(notebook, backend=backend)

    assert rewards == [2.0, 4.0, 6.0]


def test_fit_in_a_running_loop_says_what_to_await(backend: Backend) -> None:
    async def notebook() -> None:
        la.Trainer(agent=double).fit([1])

    with pytest.raises(ConfigurationError, match=r"await trainer\.afit"):
        anyio.run(notebook, backend=backend)


def test_trainer_can_be_used_again(backend: Backend) -> None:
    trainer = la.Trainer(agent=double, backend=backend)

    assert [[result.reward for result in trainer.run([task])] for task in (1, 2)] == [[2.0], [4.0]]
    assert anyio.run(lambda: trainer.store.statistics()).total_rollouts == 2


def test_execution_that_did_not_end_well_is_gone_on_with(backend: Backend) -> None:
    keys: list[str] = []

    @la.algorithm
    async def learn(key: str) -> None:
        keys.append(key)
        if len(keys) < 3:
            raise ValueError("not yet")

    trainer = la.Trainer(algorithm=learn, agent=la.agent(lambda task: 1.0), backend=backend)
    for _ in range(2):
        with pytest.raises(ValueError, match="not yet"):
            trainer.fit([1])
    trainer.fit([1])
    trainer.fit([1])

    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_start_and_stop_take_no_time(backend: Backend) -> None:
    trainer = la.Trainer(agent=double_async, n_runners=4, backend=backend)
    trainer.run([1])
    started = time.perf_counter()
    trainer.run([1])

    assert time.perf_counter() - started < 1  # measured: 10 ms


def test_progress_shows_the_finished_rollouts(backend: Backend, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    la.Trainer(agent=double, progress=True, backend=backend).run(range(5))

    assert "5 rollouts finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"n_runners": 0}, "n_runners=0"),
        ({"store": "mysql://run"}, "there are no stores at mysql://; give a file such as run.db"),
        ({"store": 3}, "store=3; give an address such as"),
        ({"strategy": "ray"}, "strategy='ray' is unknown; choose from 'shm', 'cs'"),
        ({"strategy": {"type": "shm", "runners": 3}}, "strategy"),
        ({"algorithm": "ppo"}, "algorithm='ppo' is unknown"),
        ({"algorithm": "no.such:module"}, r"algorithm='no.such:module' can't be imported"),
        ({"algorithm": lambda store: None}, "decorate it with @lightactors.algorithm"),
        ({"algorithm": {"type": "baseline", "limit": 3, "size": 4}}, "it takes limit, mode"),
        ({"adapter": "words"}, "adapter='words' is unknown"),
    ],
)
def test_components_that_cannot_work_are_refused_by_name(arguments: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        la.Trainer(agent=double, **arguments)


@pytest.mark.parametrize(
    "strategy",
    [
        "shm",
        {"type": "shm", "main_thread": "runner"},
        la.SharedMemoryExecutionStrategy,
        la.SharedMemoryExecutionStrategy(),
        lambda n_runners: la.SharedMemoryExecutionStrategy(n_runners),
        "lightactors.training.strategies:SharedMemoryExecutionStrategy",
    ],
    ids=["name", "dict", "class", "instance", "factory", "path"],
)
def test_strategy_may_be_spelled_in_any_way(strategy: Any) -> None:
    assert [result.reward for result in la.Trainer(agent=double, strategy=strategy).run([1])] == [2.0]


def test_trainer_without_an_agent_says_so() -> None:
    with pytest.raises(ConfigurationError, match="there is no agent"):
        la.Trainer().fit([1])


@pytest.mark.parametrize("dataset", [3, {"a": 1}.keys()])
def test_dataset_without_length_or_index_is_refused(dataset: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no dataset"):
        la.Trainer(agent=double).fit(dataset)


def test_algorithm_that_asks_for_the_unknown_is_refused_at_once() -> None:
    with pytest.raises(ContractError, match="learn asks for gpu"):

        @la.algorithm
        async def learn(store: la.Store, gpu: int) -> None: ...


class Quit(BaseException):
    """Of the user's making, and no Exception."""


def test_agent_that_raises_no_exception_fails_its_rollout(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    @la.agent
    def odd(task: int) -> float:
        if task == 1:
            raise Quit
        return 1.0

    with caplog.at_level(logging.CRITICAL, "lightactors"):
        results = la.Trainer(agent=odd, backend=backend).run([0, 1, 2])

    assert [result.rollout.status for result in results] == ["succeeded", "failed", "succeeded"]


def test_plain_agent_may_run_a_loop_of_its_own(backend: Backend) -> None:
    async def one() -> float:
        return 1.0

    @la.agent
    def nested(task: int) -> float:
        return anyio.run(one, backend=backend)

    assert [result.reward for result in la.Trainer(agent=nested, backend=backend).run([0])] == [1.0]


def test_unmanaged_store_is_waked_across_threads(backend: Backend) -> None:
    strategy = {"type": "shm", "managed_store": False}
    results = la.Trainer(agent=double, strategy=strategy, backend=backend).run(range(20))

    assert [result.reward for result in results] == [2.0 * task for task in range(20)]


def test_algorithm_that_is_a_generator_is_refused_at_once() -> None:
    with pytest.raises(ContractError, match="is a generator"):

        @la.algorithm
        async def learn(store: la.Store) -> Any:
            yield 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"max_rollouts": 0}, "max_rollouts=0"),
        ({"hooks": [la.Hook]}, "hooks="),
        ({"hooks": 3}, "hooks=3"),
        ({"initial_resources": 3}, "initial_resources=3"),
    ],
)
def test_arguments_are_refused_before_anything_starts(arguments: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        la.Trainer(agent=double, **arguments)
