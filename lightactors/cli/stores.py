"""`lightactors store show`, `export`, `prune` and `migrate`: what they take; for stores that are kept on a disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import anyio
import typer

from lightactors.cli import running
from lightactors.cli.exits import CommandError
from lightactors.cli.options import Debug

Location: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="STORE",
        show_default=False,
        help="Where it is: a file such as run.db, sqlite:///run.db, or postgresql://USER@HOST/NAME.",
    ),
]


def show(
    store: Location,
    rollouts: Annotated[bool, typer.Option("--rollouts", help="List the newest rollouts instead.")] = False,
    spans: Annotated[
        str | None, typer.Option(metavar="ROLLOUT", help="List the spans of that rollout instead.")
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="With --rollouts: only those; may be given again for others."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="With --rollouts: how many at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, with every figure.")] = False,
    debug: Debug = False,
) -> None:
    """Show what a store on a disk holds.

    Counts by status, size, throughput, workers, the last failures; also while it is in use. It changes nothing, and
    holds nobody up.
    """
    running.prepare()
    if (status or limit != 20) and not rollouts:
        raise CommandError("--status and --limit choose among rollouts; say --rollouts too")
    if rollouts and spans is not None:
        raise CommandError("--rollouts and --spans are two lists; say one of them")
    # Imported late, here and below: the training kit takes longer to import than a help to read.
    from lightactors.cli import showing

    if spans is not None:
        showing.show_spans(store, spans, as_json=as_json)
    elif rollouts:
        showing.show_rollouts(store, status or [], limit, as_json=as_json)
    else:
        showing.show(store, as_json=as_json)


def export(
    store: Location,
    target: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="Where to: a .jsonl, or a .parquet file.")
    ],
    what: Annotated[
        Literal["rollouts", "attempts", "spans", "all"],
        typer.Option(help="One record for each of these; all: for each rollout, with its attempts and spans in it."),
    ] = "rollouts",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the FILE if it is there.")] = False,
    debug: Debug = False,
) -> None:
    """Write what a store holds as JSON lines or Parquet.

    The FILE is there when all is written, or not at all. In Parquet what has structure of its own, such as an input,
    is a text of JSON.
    """
    running.prepare()
    from lightactors.cli import exporting

    exporting.export(store, target, what, force=force)


def prune(
    store: Location,
    older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Remove what ended longer ago: 7d, 12h, 90min.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(min=0, metavar="NUMBER", help="Keep so many finished rollouts at most.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Remove until the store takes no more: 5GB, 512MiB.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; say how much it would be.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Remove also what ended less than ten minutes ago, and may still be awaited."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Remove old finished rollouts from a store.

    Also while it is in use: the oldest go first, with their attempts, spans and inputs, in steps that hold nobody up.
    What waits or runs stays, and what has just ended. Space that becomes free goes back to the file system.
    """
    running.prepare()
    if older_than is None and keep is None and max_size is None:
        raise CommandError("say what is to go: --older-than 7d, --keep 10000 or --max-size 5GB")
    from lightactors.cli import tidying

    retention = tidying.retention(older_than, keep, max_size, force=force)
    if dry_run:
        tidying.foretell(store, retention)
    else:
        anyio.run(partial(tidying.prune, store, retention))


def migrate(store: Location, debug: Debug = False) -> None:
    """Bring an older store to this version's schema.

    A copy of it is made beside it first. Stop the programs that use it before.
    """
    running.prepare()
    from lightactors.cli import tidying

    tidying.migrate(store)
