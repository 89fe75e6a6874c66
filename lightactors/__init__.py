"""Actors on asyncio and trio for people who train AI agents."""

from lightactors.actors import DeadLetter as DeadLetter
from lightactors.actors import Options as Options
from lightactors.actors import Reason as Reason
from lightactors.actors import Ref as Ref
from lightactors.actors import Rung as Rung
from lightactors.actors import Statistics as Statistics
from lightactors.actors import System as System
from lightactors.actors import Terminated as Terminated
from lightactors.actors import adopt as adopt
from lightactors.actors import is_running as is_running
from lightactors.actors import open_system as open_system
from lightactors.actors import options as options
from lightactors.actors import ref_of as ref_of
from lightactors.actors import spawn as spawn
from lightactors.actors import statistics as statistics
from lightactors.actors import stop as stop
from lightactors.actors import watch as watch
from lightactors.contract import Eventually as Eventually
from lightactors.contract import Mailbox as Mailbox
from lightactors.contract import Message as Message
from lightactors.contract import actor as actor
from lightactors.contract import handler as handler

__version__ = "0.1.0"
