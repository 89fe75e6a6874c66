"""Looking at a node, once or again and again; and what `lightactors status` looks at."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, Protocol, TypeAlias

import anyio
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

import lightactors as la
from lightactors.cli.access import STORE, Access, is_store
from lightactors.cli.drawing import Status
from lightactors.errors import ConnectFailed, LinkLost
from lightactors.training.records import StoreStatistics, Worker
from lightactors.training.stores.contract import Store

_PATIENCE = 2.0
"""Seconds that a node has to answer before it is said that it does not."""


class Sight(Protocol):
    """What was seen of a node."""

    def lines(self) -> list[str]: ...
    def json(self) -> str: ...


Look: TypeAlias = Callable[[Access, la.RemoteNode], Awaitable[Sight]]


async def show(access: Access, look: Look, *, as_json: bool) -> None:
    """Print once what a look at a node sees."""
    async with await access.connect() as node:
        sight = await look(access, node)
    typer.echo(sight.json() if as_json else "\n".join(sight.lines()))


async def watch(access: Access, look: Look, interval: float) -> None:
    """Draw what is seen of a node until cancelled, in place if that is a terminal; also while the node is gone."""
    console = Console(highlight=False)
    if not console.is_terminal:
        await _redraw(access, look, interval, lambda lines: typer.echo("\n".join([*lines, ""])))
    logging.getLogger("lightactors").setLevel(logging.ERROR)  # the drawing says it already when a link is lost
    with Live(console=console, auto_refresh=False) as live:
        await _redraw(access, look, interval, lambda lines: live.update(Text("\n".join(lines)), refresh=True))


async def _redraw(access: Access, look: Look, interval: float, draw: Callable[[list[str]], object]) -> NoReturn:
    async with await access.connect() as node:
        lines: list[str] = []
        while True:
            note: list[str] = []
            try:
                with anyio.fail_after(interval + _PATIENCE):
                    lines = (await look(access, node)).lines()
            except (ConnectFailed, LinkLost, TimeoutError):
                note = ["", "no answer; trying again"]
            draw([*lines, *note])
            await anyio.sleep(interval)


async def status(access: Access, node: la.RemoteNode) -> Status:
    """Ask a node for all that a status has."""
    tree = await node.survey()
    store, workers = await _store_of(node)
    return Status(access.address, tree, store, workers, time.time())


async def _store_of(node: la.RemoteNode) -> tuple[StoreStatistics | None, Sequence[Worker]]:
    if not any(is_store(actor) for actor in await node.actors()):
        return None, ()
    store = await node.connect(Store, STORE)
    return await store.statistics(), await store.query_workers()
