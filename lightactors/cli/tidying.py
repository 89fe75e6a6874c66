"""`lightactors store prune` and `migrate`: what becomes of a store on a disk while nobody has to look."""

from __future__ import annotations

import time
from dataclasses import replace

import typer

from lightactors.actors.tree import counted, size
from lightactors.training.stores import retention as limits
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.retention import Retention
from lightactors.training.stores.sql import migrating
from lightactors.training.stores.sql.archive import Archive


def retention(older_than: str | None, keep: int | None, max_size: str | None, *, force: bool) -> Retention:
    """Return what the options say; `force`: what has just ended goes too, though its program may come for it."""
    said = Retention(
        age=None if older_than is None else limits.seconds(older_than),
        count=keep,
        size=None if max_size is None else limits.size_bytes(max_size),
    )
    return replace(said, least_age=0) if force else said


def foretell(url: str, retention: Retention) -> None:
    """Say what `prune` would remove."""
    with Archive(url) as archive:
        due, young = _due(archive, retention)
        _, used = archive.size_bytes()
        kept = archive.counters()["rollouts"] - due
        typer.echo(
            f"would remove {counted(due, 'rollout')} from {archive.name} by age and number, and keep {kept:,}{young}"
        )
        if retention.size is not None:
            excess = max(0, used - retention.size)
            typer.echo(f"it takes {size(used)} now, {size(excess)} more than {size(retention.size)}")


async def prune(url: str, retention: Retention) -> None:
    """Remove what is not to be kept; say how much it was."""
    with Archive(url) as archive:  # which refuses what is no store, before one is made
        name, (before, _) = archive.name, archive.size_bytes()
    removed, is_done = 0, False
    async with open_store(url) as store:
        while not is_done:
            step = await store.prune(retention)
            removed += step
            is_done = step == 0
        while await store.give_back_space():
            pass
    with Archive(url) as archive:
        after, _ = archive.size_bytes()
        left = archive.counters()["rollouts"]
        _, young = _due(archive, retention)
    what = f"removed {counted(removed, 'rollout')} from {name}, {left:,} are left"
    typer.echo(f"{what}; {size(before)} before, {size(after)} now{young}")


def _due(archive: Archive, retention: Retention) -> tuple[int, str]:
    """Return how many rollouts are to go by age and number, and what to say of those that are too young for it."""
    now = time.time()
    due = archive.due(retention, now)
    young = archive.due(replace(retention, least_age=0), now) - due
    minutes = f"{retention.least_age / 60:.0f} minutes"
    return due, f"; {counted(young, 'rollout')} ended less than {minutes} ago: --force takes them too" if young else ""


def migrate(url: str) -> None:
    """Migrate a store; say from which version to which, and where the copy is."""
    done = migrating.migrate(url)
    if done.before == done.after:
        typer.echo(f"nothing to do: it has schema {done.after}, which is this version's")
    else:
        typer.echo(f"migrated from schema {done.before} to {done.after}; as it was, it is in {done.backup}")
