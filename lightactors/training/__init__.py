"""The training kit: agents, algorithms, the store, runners, and the trainer that brings them together."""

from lightactors.training.algorithms.algorithm import Algorithm, Setting, algorithm
from lightactors.training.algorithms.baseline import Baseline
from lightactors.training.algorithms.datasets import Dataset
from lightactors.training.algorithms.tasks import TaskResult, run_tasks
from lightactors.training.blocking import from_thread
from lightactors.training.events import ExecutionEvent
from lightactors.training.records import (
    LLM,
    Attempt,
    AttemptedRollout,
    EnqueueRolloutRequest,
    Mode,
    PromptTemplate,
    ProxyLLM,
    Resources,
    ResourcesUpdate,
    Rollout,
    RolloutConfig,
    Span,
    Triplet,
    Worker,
)
from lightactors.training.runners.agent import Agent, agent
from lightactors.training.runners.hooks import Hook
from lightactors.training.runners.runner import Runner, run_context
from lightactors.training.stores.contract import UNSET, Store
from lightactors.training.stores.memory import MemoryStore
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.retention import Retention
from lightactors.training.stores.sql import DurableStore
from lightactors.training.strategies import (
    ClientServerExecutionStrategy,
    ExecutionStrategy,
    SharedMemoryExecutionStrategy,
)
from lightactors.training.tracing.adapters import Adapter, TraceToMessages, TraceToTriplets
from lightactors.training.tracing.rewards import find_final_reward, find_reward_spans, get_reward_value, is_reward_span
from lightactors.training.tracing.trace import (
    emit_annotation,
    emit_exception,
    emit_message,
    emit_object,
    emit_reward,
    operation,
)
from lightactors.training.trainer import Trainer

__all__ = [
    "LLM",
    "UNSET",
    "Adapter",
    "Agent",
    "Algorithm",
    "Attempt",
    "AttemptedRollout",
    "Baseline",
    "ClientServerExecutionStrategy",
    "Dataset",
    "DurableStore",
    "EnqueueRolloutRequest",
    "ExecutionEvent",
    "ExecutionStrategy",
    "Hook",
    "MemoryStore",
    "Mode",
    "PromptTemplate",
    "ProxyLLM",
    "Resources",
    "ResourcesUpdate",
    "Retention",
    "Rollout",
    "RolloutConfig",
    "Runner",
    "Setting",
    "SharedMemoryExecutionStrategy",
    "Span",
    "Store",
    "TaskResult",
    "TraceToMessages",
    "TraceToTriplets",
    "Trainer",
    "Triplet",
    "Worker",
    "agent",
    "algorithm",
    "emit_annotation",
    "emit_exception",
    "emit_message",
    "emit_object",
    "emit_reward",
    "find_final_reward",
    "find_reward_spans",
    "from_thread",
    "get_reward_value",
    "is_reward_span",
    "open_store",
    "operation",
    "run_context",
    "run_tasks",
]
