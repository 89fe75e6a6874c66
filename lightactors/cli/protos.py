"""`lightactors protogen`: an actor's contract as a .proto file."""

from __future__ import annotations

from pathlib import Path

import typer

from lightactors.cli.exits import CommandError, Exit
from lightactors.cli.running import say
from lightactors.cli.targets import load
from lightactors.errors import ContractError
from lightactors.services.protogen import protogen, write


def write_proto(target: str, output: Path | None, *, package: str | None, check: bool, force: bool) -> None:
    """Write the file, or print it where none is named; with `check` only compare, and print what differs."""
    actor = load(target, example="package.module:Actor")
    if not isinstance(actor, type):
        raise CommandError(f"{target} is {actor!r}, and no class; name an actor class")
    if output is not None:
        _write(actor, output, package, check=check, force=force)
    elif check or force:
        raise CommandError(f"--{'check' if check else 'force'} is about a file; give it with -o FILE")
    else:
        typer.echo(protogen(actor, package=package), nl=False)


def _write(actor: type, output: Path, package: str | None, *, check: bool, force: bool) -> None:
    try:
        has_changed = write(actor, output, package=package, check=check, force=force)
    except ContractError as error:
        line, _, differences = str(error).partition("\n")
        if differences:
            typer.echo(differences)
        raise CommandError(line, Exit.FAILED if check else Exit.USAGE) from error
    say(f"{'wrote' if has_changed else 'nothing changes in'} {output}")
