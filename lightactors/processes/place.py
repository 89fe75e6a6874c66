"""`place="process"`: where `spawn` begins an actor that is to live in a process of its own."""

from __future__ import annotations

from lightactors.actors.owner import Owner
from lightactors.actors.starting import Starting, begin_on
from lightactors.processes.cell import ProcessCell
from lightactors.remote.node import node_of
from lightactors.supervision.spec import ChildSpec


async def begin_in_process(owner: Owner, name: str, spec: ChildSpec) -> Starting:
    """Begin a process; its cell lives on the loop of the system, which every owner in it can reach."""

    def make() -> ProcessCell:
        cell = ProcessCell(name, owner, spec, node_of(owner.system))
        owner.enter(cell)
        return cell

    return await begin_on(owner.system.loop, make)
