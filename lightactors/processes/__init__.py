"""Processes that belong to a program and go with it: a guardian owns them, a forkserver starts them."""

from lightactors.processes.exits import Exit as Exit
from lightactors.supervision.limits import Limits as Limits
