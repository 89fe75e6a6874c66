"""Actors on asyncio and trio for people who train AI agents.

The runtime is imported at once and pulls anyio only. The training kit (`lightactors.training`) has its names
here too; it is imported when the first of them is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from lightactors.actors import ChildSpec as ChildSpec
from lightactors.actors import DeadLetter as DeadLetter
from lightactors.actors import Death as Death
from lightactors.actors import Explanation as Explanation
from lightactors.actors import Ladder as Ladder
from lightactors.actors import Options as Options
from lightactors.actors import Pool as Pool
from lightactors.actors import PoolStatistics as PoolStatistics
from lightactors.actors import ProcessFigures as ProcessFigures
from lightactors.actors import Reason as Reason
from lightactors.actors import Ref as Ref
from lightactors.actors import Rung as Rung
from lightactors.actors import Statistics as Statistics
from lightactors.actors import Supervision as Supervision
from lightactors.actors import Supervisor as Supervisor
from lightactors.actors import System as System
from lightactors.actors import Terminated as Terminated
from lightactors.actors import Tree as Tree
from lightactors.actors import adopt as adopt
from lightactors.actors import child as child
from lightactors.actors import is_running as is_running
from lightactors.actors import open_system as open_system
from lightactors.actors import options as options
from lightactors.actors import ref_of as ref_of
from lightactors.actors import spawn as spawn
from lightactors.actors import spawn_many as spawn_many
from lightactors.actors import statistics as statistics
from lightactors.actors import stop as stop
from lightactors.actors import supervise as supervise
from lightactors.actors import survey as survey
from lightactors.actors import system as _system
from lightactors.actors import watch as watch
from lightactors.actors import why as why
from lightactors.actors.starting import PLACES
from lightactors.contract import Eventually as Eventually
from lightactors.contract import FieldNumber as FieldNumber
from lightactors.contract import Mailbox as Mailbox
from lightactors.contract import Message as Message
from lightactors.contract import PythonOnly as PythonOnly
from lightactors.contract import Role as Role
from lightactors.contract import actor as actor
from lightactors.contract import handler as handler
from lightactors.security import Tls as Tls
from lightactors.security import Tokens as Tokens
from lightactors.supervision.limits import Limits as Limits
from lightactors.supervision.limits import ObjectLimits as ObjectLimits

if TYPE_CHECKING:
    from lightactors import objects as objects
    from lightactors.objects.public import get as get
    from lightactors.objects.public import put as put
    from lightactors.objects.public import release as release
    from lightactors.objects.ref import ObjectRef as ObjectRef
    from lightactors.remote.connect import RemoteNode as RemoteNode
    from lightactors.remote.connect import connect as connect
    from lightactors.remote.directory import ActorInfo as ActorInfo
    from lightactors.scheduling import Claim as Claim
    from lightactors.scheduling import QueueStatistics as QueueStatistics
    from lightactors.scheduling import TaskQueue as TaskQueue
    from lightactors.scheduling import WorkerState as WorkerState
    from lightactors.scheduling import tasks_of as tasks_of
    from lightactors.services.serve import serve as serve
    from lightactors.training import *  # noqa: F403

__version__ = "0.1.0"

_eager = {name for name in globals() if not name.startswith("_")} - {"importlib", "TYPE_CHECKING", "Any", "PLACES"}


async def _begin_in_process(owner: Any, name: str, spec: Any) -> Any:
    # Imported late: only who has actors in processes needs links and a guardian.
    place = importlib.import_module("lightactors.processes.place")
    return await place.begin_in_process(owner, name, spec)


PLACES["process"] = _begin_in_process


async def _open_doors(system: Any, doors: Any) -> None:
    # Imported late, like all that needs gRPC.
    await importlib.import_module("lightactors.remote.connect").open_doors(system, doors)
    importlib.import_module("lightactors.services.serve").open_board(system)


_system.open_doors = _open_doors


def _make_sharing(node: Any) -> Any:
    # Imported late: only who has processes, other nodes or objects needs it.
    return importlib.import_module("lightactors.objects.sharing").Sharing(node)


_system.make_sharing = _make_sharing

_LATE = {
    "ObjectRef": "lightactors.objects.ref",
    "get": "lightactors.objects.public",
    "put": "lightactors.objects.public",
    "release": "lightactors.objects.public",
    "connect": "lightactors.remote.connect",
    "RemoteNode": "lightactors.remote.connect",
    "ActorInfo": "lightactors.remote.directory",
    "serve": "lightactors.services.serve",
    **dict.fromkeys(("Claim", "QueueStatistics", "TaskQueue", "WorkerState", "tasks_of"), "lightactors.scheduling"),
}
"""What is imported when it is first used, besides the training kit."""


def _training() -> Any:
    # Imported late: it is the heavier half, and who only wants actors never needs it.
    return importlib.import_module("lightactors.training")


def __getattr__(name: str) -> Any:
    if name == "objects":
        return importlib.import_module("lightactors.objects")
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    if name.startswith("_") or name not in _training().__all__:
        raise AttributeError(f"module 'lightactors' has no attribute {name!r}")
    return getattr(_training(), name)


def __dir__() -> list[str]:
    return sorted(_eager | {*_LATE, "objects"} | {*_training().__all__})
