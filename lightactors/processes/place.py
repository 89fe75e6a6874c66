"""`place="process"`: where `spawn` begins an actor that is to live in a process of its own."""

from __future__ import annotations

from lightactors.actors.mailbox import Ask
from lightactors.actors.owner import Owner
from lightactors.actors.starting import Starting, uninterrupted
from lightactors.contract import Behaviour, contract_of
from lightactors.processes.cell import ProcessCell
from lightactors.remote.node import node_of
from lightactors.supervision.spec import ChildSpec


async def begin_in_process(owner: Owner, name: str, spec: ChildSpec) -> Starting:
    """Begin a process; its cell lives on the loop of the system, which every owner in it can reach."""
    made = Ask()
    started = Ask()

    def make() -> None:
        try:
            cell = ProcessCell(name, owner, spec, node_of(owner.system))
            cell.stands_for(spec.kind if isinstance(spec.kind, Behaviour) else contract_of(spec.kind))
            owner.enter(cell)
        except BaseException as error:
            made.fail(error)
        else:
            made.answer(cell)
            cell.begin(started)

    owner.system.order(make)
    return await uninterrupted(made), started
