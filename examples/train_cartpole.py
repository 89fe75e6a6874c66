"""Train a small neural network to balance CartPole-v1, by evolution strategies on four runners.

An episode is a rollout, its return the reward, and the network's weights travel as a resource. In each
generation, 32 perturbed copies of the network play; the weights then move towards those that did well
(Salimans et al. 2017, "Evolution Strategies as a Scalable Alternative to Reinforcement Learning").
It ends with the environment's own criterion: a mean return of 475 or more over 100 validation episodes.
"""

import argparse
from pathlib import Path
from typing import Any

import gymnasium
import matplotlib as mpl
import numpy as np
from rich.console import Console

import lightactors as la

HIDDEN = 8
WEIGHTS = 6 * HIDDEN + 1
PAIRS, NOISE, STEP = 16, 0.3, 0.3
SOLVED = 475.0
Weights = np.ndarray[Any, np.dtype[np.float64]]


def act(weights: Weights, observation: Weights) -> int:
    """The network: four inputs, one hidden layer, push left or right."""
    first, bias, second = (
        weights[: 4 * HIDDEN].reshape(4, HIDDEN),
        weights[4 * HIDDEN : 5 * HIDDEN],
        weights[5 * HIDDEN :],
    )
    return int(np.tanh(observation @ first + bias) @ second[:-1] + second[-1] > 0)


def perturbation(seed: int) -> Weights:
    return np.random.default_rng(seed).standard_normal(WEIGHTS)


@la.agent
def episode(task: dict[str, float], policy: Weights) -> float:
    """Play one episode with the policy, perturbed as the task says; the reward is the return."""
    weights = policy + task["noise"] * perturbation(int(task["perturbation"]))
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=int(task["seed"]))
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = environment.step(act(weights, observation))
        total, over = total + float(reward), terminated or truncated
    return total


class EvolutionStrategies(la.Algorithm):
    """Follow the estimated gradient of the mean return; validate whenever the mean looks good enough."""

    def __init__(self, generations: int, console: Console) -> None:
        self.generations = generations
        self.console = console
        self.curve: list[float] = []
        self.validated = 0.0

    async def run(self, train: la.Dataset[int], val: la.Dataset[dict[str, float]]) -> None:
        weights = 0.1 * perturbation(0)
        with self.console.status("starting") as status:
            for generation in range(self.generations):
                published = await self.store.add_resources({"policy": weights})
                mean, gradient = await self.explore(generation, published.resources_id)
                self.curve.append(mean)
                status.update(f"generation {generation}: mean return {mean:.0f} {'█' * int(mean / 10)}")
                if mean >= 0.9 * SOLVED and await self.is_solved(val, published.resources_id):
                    return
                weights = weights + STEP * gradient

    async def explore(self, generation: int, resources_id: str) -> tuple[float, Weights]:
        """Return the mean return of the perturbed copies, and the direction in which it grows."""
        seeds = range(generation * PAIRS, (generation + 1) * PAIRS)
        tasks = [{"seed": s, "perturbation": s, "noise": sign * NOISE} for sign in (1, -1) for s in seeds]
        results = await la.run_tasks(self.store, tasks, mode="train", resources_id=resources_id)
        returns = np.array([result.reward for result in results])
        ranks = returns.argsort().argsort() / (len(returns) - 1) - 0.5
        directions = np.array([perturbation(seed) for seed in seeds])
        return returns.mean(), (ranks[:PAIRS] - ranks[PAIRS:]) @ directions / (PAIRS * NOISE)

    async def is_solved(self, val: la.Dataset[dict[str, float]], resources_id: str) -> bool:
        results = await la.run_tasks(self.store, val, mode="val", resources_id=resources_id)
        self.validated = float(np.mean([result.reward for result in results]))
        self.console.print(
            f"generation {len(self.curve) - 1}: validation over {len(val)} episodes {self.validated:.1f}"
        )
        return self.validated >= SOLVED


def plot(curve: list[float], validated: float, path: Path) -> None:
    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(curve, label="mean return of the perturbed policies")
    axes.plot(len(curve) - 1, validated, "o", label="mean return of the policy, 100 validation episodes")
    axes.axhline(SOLVED, linestyle="--", color="grey", label=f"solved: {SOLVED:.0f}")
    axes.set(xlabel="generation", ylabel="return", title="CartPole-v1, evolution strategies", ylim=(0, 520))
    axes.legend(loc="center left")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--generations", type=int, default=200, help="give up after so many (default: %(default)s)")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio", help="the event loop")
    parser.add_argument("--plot", type=Path, default=Path("cartpole.png"), help="where the learning curve goes")
    options = parser.parse_args()

    console = Console()
    evolution = EvolutionStrategies(options.generations, console)
    validation = [{"seed": 1_000_000 + number, "perturbation": 0, "noise": 0.0} for number in range(100)]
    trainer = la.Trainer(algorithm=evolution, agent=episode, n_runners=4, backend=options.backend, progress=False)
    trainer.fit([], validation)

    plot(evolution.curve, evolution.validated, options.plot)
    solved = evolution.validated >= SOLVED
    console.print(
        f"{'solved' if solved else 'not solved'} after {len(evolution.curve)} generations; see {options.plot}"
    )
    raise SystemExit(not solved)


if __name__ == "__main__":
    main()
