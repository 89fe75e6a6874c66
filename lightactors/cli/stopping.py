"""`lightactors stop`: a node is stopped, or an actor on it."""

from __future__ import annotations

import typer

import lightactors as la
from lightactors.cli.access import Access
from lightactors.cli.exits import CommandError, Exit
from lightactors.errors import ContractError


@la.actor
class _Anything:
    """Stands for an actor of whatever class: nothing is asked of it."""


@la.actor
async def _anybody(mailbox: la.Mailbox[str]) -> None:
    """Stand for an actor that is a function: nothing is sent to it."""


async def stop(access: Access, name: str | None) -> None:
    """Stop a node, or the actor of that name; say what it took."""
    async with await access.connect() as node:
        where = f"{node.name} at {access.address}"
        if node.role != "admin":
            raise CommandError(f"a {node.role} may not stop {where}; give an admin's --token-file", Exit.DENIED)
        if name is None:
            await node.stop()
            typer.echo(f"{where} stops")
        else:
            rung = await la.stop(await _reach(node, name))
            typer.echo(f"stopped {name} of {where}: {rung.name.lower()}")


async def _reach(node: la.RemoteNode, name: str) -> object:
    try:
        return await node.connect(_Anything, name)
    except ContractError:  # it is no class
        return await node.connect(_anybody, name)
