"""A queue of ready tasks that workers in many processes share, and the states of those workers."""

from lightactors.scheduling.queue import TaskQueue as TaskQueue
from lightactors.scheduling.records import Claim as Claim
from lightactors.scheduling.records import QueueStatistics as QueueStatistics
from lightactors.scheduling.records import WorkerState as WorkerState
from lightactors.scheduling.working import tasks_of as tasks_of
