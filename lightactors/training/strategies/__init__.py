"""Execution strategies: where the algorithm and the runners live, and how they are stopped.

A strategy is a tree of actors and nothing more: the store, the algorithm and each runner is one, in the
place that the strategy gives it. What differs between strategies is the places.
"""

from lightactors.training.strategies.client_server import ClientServerExecutionStrategy, MainProcess, Side
from lightactors.training.strategies.shared_memory import MainThread, SharedMemoryExecutionStrategy
from lightactors.training.strategies.strategy import AlgorithmBundle, Backend, ExecutionStrategy, RunnerBundle

__all__ = [
    "AlgorithmBundle",
    "Backend",
    "ClientServerExecutionStrategy",
    "ExecutionStrategy",
    "MainProcess",
    "MainThread",
    "RunnerBundle",
    "SharedMemoryExecutionStrategy",
    "Side",
]
