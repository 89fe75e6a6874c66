"""The commands: what they take, what their help says, and how they end."""

from __future__ import annotations

import difflib
import os
import socket
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import typer
from typer.core import TyperGroup

import lightactors
from lightactors.address import Address
from lightactors.cli import options, running, scripts, stores
from lightactors.cli.access import access, tls_of
from lightactors.cli.exits import CommandError, Exit, exit_of, line_of, table
from lightactors.cli.options import AsJson, Debug, Interval, NodeAddress, TlsCa, TlsCert, TlsKey, TokenFile, Watch

PROGRAM = "lightactors"


class Commands(TyperGroup):
    """The commands, of which some have two words: `store` serves one, and `store show` shows it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        words = " ".join(args[:2])
        if args[0] == "store" and len(args) > 1:
            _check_word(args[1], [name.removeprefix("store ") for name in self.commands if name.startswith("store ")])
        return super().resolve_command(ctx, [words, *args[2:]] if words in self.commands else args)


def _check_word(given: str, commands: Sequence[str]) -> None:
    """Refuse what is no store's address, and nearly a command."""
    near = difflib.get_close_matches(given, commands, n=1)
    if given not in commands and given.isidentifier() and near:
        raise CommandError(f"there is no 'store {given}'; did you mean 'store {near[0]}'?")


app = typer.Typer(
    name=PROGRAM,
    cls=Commands,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # boxes leave half the line for the words, and what is copied from them has bars in it
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\nExit codes:\n{table()}\n\n'{PROGRAM} COMMAND --help' shows the options of a command, with examples.",
)


def _example(*lines: str) -> str:
    return "\b\n" + "\n".join(["Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {lightactors.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    debug: Debug = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Actors that train AI agents, from the command line.

    A store keeps the rollouts of a training and hands them to runners, which run your agent on them and may join
    and leave at any time, from any machine that reaches the store. Begin with two terminals:

    \b
      lightactors store
      lightactors runner --agent my_agents:answer -n 4
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(Exit.USAGE)


Listen = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ADDRESS",
        envvar="LIGHTACTORS_LISTEN",
        help="Where to listen: grpc://HOST:PORT, grpcs:// (TLS) or unix:PATH; may be given again for another. "
        f"Default: grpc://127.0.0.1:{options.PORT}, or SERVER_HOST and SERVER_PORT of the environment.",
    ),
]


@app.command(
    epilog=_example(
        "lightactors store run.db",
        "lightactors store --listen grpcs://0.0.0.0:4747 --tls-cert host.pem \\",
        "    --tls-key host.key --token-file tokens",
    )
)
def store(
    location: Annotated[
        str,
        typer.Argument(
            metavar="STORE",
            show_default=False,
            help="What it is kept in: a file such as run.db, sqlite:///run.db?keep_days=7, or "
            "postgresql://USER@HOST/NAME. Default: memory.",
        ),
    ] = "memory",
    listen: Listen = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="LIGHTACTORS_TOKEN_FILE",
            help="Who may join: a file with one token a line, readable by its owner only. It is made, with a token "
            "for each role, if it is not there.",
        ),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate of grpcs://.")] = None,
    tls_key: TlsKey = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Demand a certificate of whoever joins, signed by this one (mutual TLS)."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen without TLS or tokens where others can reach it.")
    ] = False,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long calls under way may take when it is stopped.")
    ] = 5.0,
    debug: Debug = False,
) -> None:
    """Serve a store to runners and algorithms anywhere.

    In a file or in PostgreSQL nothing that it has acknowledged is lost: started again on the same one, it goes on
    where it was. 'store show', 'store export', 'store prune' and 'store migrate' are commands for such a store.

    Prints where it listens and how to join it, then serves until Ctrl-C or SIGTERM. Any other address than this
    host's own wants TLS and tokens, or --insecure. Programs in other languages call lightactors.v1.Store at
    the same port.
    """
    running.prepare()
    tls = tls_of(tls_ca, tls_cert, tls_key)
    addresses = [Address.parse(text) for text in listen or options.listen_default()]
    # Imported late, here and below: gRPC and the training kit take longer to import than a help to read.
    from lightactors.cli.serving import Serving

    serving = Serving(addresses, tls, token_file, insecure, grace, location)
    serving.check()
    running.until_stopped(serving.run)


app.command(
    "store show",
    epilog=_example(
        "lightactors store show run.db",
        "lightactors store show run.db --rollouts --status failed",
        "lightactors store show run.db --spans ro-0123456789ab",
    ),
)(stores.show)
app.command(
    "store export",
    epilog=_example(
        "lightactors store export run.db rollouts.jsonl", "lightactors store export run.db spans.parquet --what spans"
    ),
)(stores.export)
app.command(
    "store prune",
    epilog=_example(
        "lightactors store prune run.db --older-than 7d --dry-run",
        "lightactors store prune run.db --keep 10000 --max-size 5GB",
    ),
)(stores.prune)
app.command("store migrate", epilog=_example("lightactors store migrate run.db"))(stores.migrate)


@app.command(
    epilog=_example(
        "lightactors runner --agent my_agents:answer -n 4",
        "lightactors runner --store grpcs://host:4747 --token-file token \\",
        "    --agent my_agents:answer -n 8",
    )
)
def runner(
    agent: Annotated[
        str,
        typer.Option(
            metavar="MODULE:NAME",
            help="The agent: a function or class, and the module that has it, in this directory or installed.",
        ),
    ],
    store: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            envvar="LIGHTACTORS_STORE",
            help=f"The store to join. Default: grpc://127.0.0.1:{options.PORT}, or SERVER_HOST and SERVER_PORT of the "
            "environment.",
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("-n", "--runners", min=1, metavar="NUMBER", help="How many rollouts at a time.")
    ] = 1,
    place: Annotated[
        Literal["process", "thread", "task"],
        typer.Option(help="Where each runner lives; task: all in one loop, for async agents that mostly wait."),
    ] = "process",
    max_rollouts: Annotated[
        int | None, typer.Option(min=1, metavar="NUMBER", help="End each runner after so many rollouts.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when the store is stopped; otherwise wait for the next one.")
    ] = False,
    backend: Annotated[
        Literal["asyncio", "trio"], typer.Option(envvar="LIGHTACTORS_BACKEND", help="The event loop of async agents.")
    ] = "asyncio",
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What the store calls them: NAME-0, NAME-1, … Default: the host and pid."),
    ] = None,
    grace: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long rollouts under way may take when it is stopped.")
    ] = 30.0,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    debug: Debug = False,
) -> None:
    """Join a store and run an agent on its rollouts.

    Waits for the store if it is not there yet, or not there any more. Each runner is a process of its own, which is
    started again when it dies. Runs until Ctrl-C or SIGTERM: rollouts under way are finished first, within
    --grace.
    """
    running.prepare()
    way = access(store or options.store_default(), "runner", token_file, tls_ca, tls_cert, tls_key)
    from lightactors.cli.joining import Joining

    own = name or f"{socket.gethostname()}-{os.getpid()}"
    joining = Joining(way, agent, own, n, place, max_rollouts, grace, once)
    joining.check()
    running.until_stopped(joining.run, backend)


@app.command(
    context_settings={"allow_interspersed_args": False},
    epilog=_example(
        "lightactors run train.py --epochs 3",
        "lightactors run --store run.db train.py",
        "lightactors run --strategy cs --role algorithm --port 0 -m my_pkg.train",
    ),
)
def run(
    program: Annotated[str, typer.Argument(metavar="SCRIPT", show_default=False, help="A file, or with -m a module.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="The script's own arguments.")] = None,
    module: Annotated[bool, typer.Option("-m", help="SCRIPT is the name of a module, as for python -m.")] = False,
    strategy: Annotated[
        Literal["shm", "cs"] | None,
        typer.Option(help="How trainers run: shm, threads of one process; cs, a store that runners join."),
    ] = None,
    role: Annotated[
        Literal["algorithm", "runner", "both"] | None, typer.Option(help="With cs: which part of it this program is.")
    ] = None,
    host: Annotated[str | None, typer.Option(metavar="HOST", help="With cs: where the store is.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, metavar="PORT", help="With cs: its port; 0 takes a free one.")
    ] = None,
    backend: Annotated[Literal["asyncio", "trio"] | None, typer.Option(help="The event loop of trainers.")] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Where trainers keep their rollouts: run.db, or as for lightactors store."),
    ] = None,
) -> None:
    """Run a script, with its trainers set up from here.

    What is given goes to the script as LIGHTACTORS_* variables, which count where the script itself does not say. Its
    exit code is this command's.
    """
    settings = {
        "STRATEGY": strategy,
        "CURRENT_ROLE": role,
        "SERVER_HOST": host,
        "SERVER_PORT": port,
        "BACKEND": backend,
        "TRAINER_STORE": store,
    }
    scripts.run_script(program, arguments or [], settings, is_module=module)


@app.command(
    epilog=_example("lightactors status grpc://127.0.0.1:4747", "lightactors status $ADDRESS --json | jq .store")
)
def status(
    address: NodeAddress = None,
    as_json: AsJson = False,
    watch: Watch = False,
    interval: Interval = 1.0,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    debug: Debug = False,
) -> None:
    """Show a node: its actors, its store and its runners."""
    running.prepare()
    way = access(address or options.store_default(), "viewer", token_file, tls_ca, tls_cert, tls_key)
    from lightactors.cli import looking

    if watch:
        anyio.run(looking.watch, way, looking.status, interval)
    else:
        anyio.run(partial(looking.show, way, looking.status, as_json=as_json))


@app.command(
    epilog=_example(
        "lightactors objects grpc://127.0.0.1:4747",
        "lightactors objects unix:run.sock --sort age --limit 5",
        "lightactors objects $ADDRESS --json | jq .object_store.used",
    )
)
def objects(
    address: NodeAddress = None,
    sort: Annotated[Literal["size", "age"], typer.Option(help="The largest objects first, or the oldest.")] = "size",
    limit: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="How many objects to show.")] = 20,
    as_json: AsJson = False,
    watch: Watch = False,
    interval: Interval = 1.0,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    debug: Debug = False,
) -> None:
    """Show what a node's object store holds.

    First the whole; then its processes, those that have put most first; then its objects, with the processes that
    have put, hold and view them, by their pids.
    """
    running.prepare()
    way = access(address or options.store_default(), "viewer", token_file, tls_ca, tls_cert, tls_key)
    from lightactors.cli import looking
    from lightactors.cli.objects import look

    glance = partial(look, order=sort, limit=limit)
    if watch:
        anyio.run(looking.watch, way, glance, interval)
    else:
        anyio.run(partial(looking.show, way, glance, as_json=as_json))


@app.command(
    epilog=_example("lightactors stop grpc://127.0.0.1:4747", "lightactors stop grpc://127.0.0.1:4747 counter")
)
def stop(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS", show_default=False, help="The node: grpc://HOST:PORT, grpcs:// or unix:PATH."
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", show_default=False, help="The actor to stop; default: the whole node."),
    ] = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    debug: Debug = False,
) -> None:
    """Stop a node, or one of its actors.

    In order: what has begun is finished first. Needs the role admin. Says what was stopped, and what it took:
    drain, interrupt, terminate or kill.
    """
    running.prepare()
    way = access(address, "admin", token_file, tls_ca, tls_cert, tls_key)
    from lightactors.cli import stopping

    anyio.run(partial(stopping.stop, way, name))


@app.command(
    epilog=_example(
        "lightactors protogen my_actors:Counter -o counter.proto",
        "lightactors protogen my_actors:Counter -o counter.proto --check",
    )
)
def protogen(
    actor: Annotated[str, typer.Argument(metavar="MODULE:NAME", show_default=False, help="The actor class.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write it; default: standard output.")
    ] = None,
    package: Annotated[
        str | None, typer.Option(metavar="NAME", help="The package of the service. Default: the module's name.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if FILE is not what would be written.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write even where that breaks clients of the FILE that is there.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Write an actor's .proto, for other languages.

    What a FILE has keeps its numbers, so that clients of the one before go on working.
    """
    from lightactors.cli.protos import write_proto

    write_proto(actor, output, package=package, check=check, force=force)


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; return the exit code."""
    try:
        # typer's own way to end a program prints usage errors in four lines, and ours as tracebacks.
        return app(arguments, standalone_mode=False, prog_name=PROGRAM) or Exit.OK
    except Exception as error:
        if options.is_debugging():
            traceback.print_exc()
        typer.echo(f"{PROGRAM}: {line_of(error)}", err=True)
        return exit_of(error)
