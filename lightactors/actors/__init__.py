"""Actors within one process: mailbox, cell, ref, system, and the seam to asyncio and trio."""

from lightactors.actors.flag import Flag as Flag
from lightactors.actors.owner import Statistics as Statistics
from lightactors.actors.owner import Tree as Tree
from lightactors.actors.public import statistics as statistics
from lightactors.actors.public import stop as stop
from lightactors.actors.public import watch as watch
from lightactors.actors.ref import Ref as Ref
from lightactors.actors.ref import is_running as is_running
from lightactors.actors.ref import ref_of as ref_of
from lightactors.actors.root import adopt as adopt
from lightactors.actors.root import child as child
from lightactors.actors.root import options as options
from lightactors.actors.root import spawn as spawn
from lightactors.actors.spawn import Options as Options
from lightactors.actors.supervisor import Supervision as Supervision
from lightactors.actors.supervisor import Supervisor as Supervisor
from lightactors.actors.supervisor import supervise as supervise
from lightactors.actors.system import DeadLetter as DeadLetter
from lightactors.actors.system import System as System
from lightactors.actors.system import open_system as open_system
from lightactors.actors.terminated import Reason as Reason
from lightactors.actors.terminated import Terminated as Terminated
from lightactors.supervision.ladder import Ladder as Ladder
from lightactors.supervision.ladder import Rung as Rung
from lightactors.supervision.spec import ChildSpec as ChildSpec
