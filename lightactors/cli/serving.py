"""`lightactors store`: a store, served until it is asked to stop."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import typer

import lightactors as la
from lightactors.actors import loops
from lightactors.address import Address
from lightactors.cli.access import STORE
from lightactors.cli.exits import CommandError
from lightactors.cli.running import say
from lightactors.security import Tls, Tokens
from lightactors.services.serve import serve
from lightactors.training.events import ExecutionEvent
from lightactors.training.runners.leftovers import leftovers_given_back
from lightactors.training.stores.contract import Store
from lightactors.training.stores.opening import IN_MEMORY, open_store
from lightactors.training.stores.sql.locations import location_of
from lightactors.training.strategies.meeting import MEETING, Attendance, Meeting

SERVICE = "lightactors.v1.Store"


@dataclass(frozen=True)
class Serving:
    """Where and to whom a store is served."""

    listen: Sequence[Address]
    tls: Tls | None
    token_file: Path | None
    insecure: bool
    grace: float
    location: str = "memory"

    def check(self) -> None:
        """Raise for what is no store, and for what would be open to others without TLS or tokens."""
        open_store(self.location)
        for address in self.listen:
            if address.is_tls and (self.tls is None or self.tls.cert is None):
                raise CommandError(f"{address} needs a certificate; give --tls-cert and --tls-key")
            missing = list(self._missing(address))
            if missing and not self.insecure:
                raise CommandError(
                    f"others can reach {address}, so it needs {' and '.join(missing)}; "
                    "listen on 127.0.0.1, or trust the whole network with --insecure"
                )

    def _missing(self, address: Address) -> Iterator[str]:
        if not address.is_local and not address.is_tls:
            yield f"TLS (--listen grpcs://{address.grpc_target()} --tls-cert FILE --tls-key FILE)"
        if not address.is_local and self.token_file is None:
            yield "tokens (--token-file FILE)"

    async def run(self) -> None:
        """Serve until asked to stop, by a signal or from elsewhere; who has joined hears of it, and may finish."""
        tokens = tokens_of(self.token_file)
        async with la.open_system(
            "store",
            grace=self.grace,
            listen=[str(address) for address in self.listen],
            tls=self.tls,
            tokens=tokens,
            insecure=self.insecure,
        ) as system:
            end, attendance = ExecutionEvent(), Attendance()
            system.on_interrupt = system.on_leave = end.set
            store = await system.options(name=STORE).adopt(open_store(self.location))
            await system.options(name=MEETING).spawn(Meeting, end, attendance)
            await serve(store, service=SERVICE)
            typer.echo("\n".join(announcement(system.addresses, self.token_file, self.tls, self.location)))
            async with leftovers_given_back(store), anyio.create_task_group() as tasks:
                tasks.start_soon(_end_with, store, end)
                await end
                await self._wait_for(attendance, system)
                tasks.cancel_scope.cancel()

    async def _wait_for(self, attendance: Attendance, system: la.System) -> None:
        with anyio.move_on_after(self.grace) as scope, system.hurry.waking(scope.cancel, loops.current()):
            await attendance.until_all_have_left()


async def _end_with(store: Store, end: ExecutionEvent) -> None:
    await la.watch(store)
    if not end.is_set():
        say("the store was stopped from elsewhere")
    end.set()


def tokens_of(path: Path | None) -> Tokens | None:
    """Return the tokens of a file, which is made if there is none."""
    if path is None:
        return None
    if not path.exists():
        Tokens.new().save(path)
        say(f"made {path}, with a token for each role")
    return Tokens.load(path)


def announcement(
    addresses: Sequence[str], token_file: Path | None, tls: Tls | None, location: str = "memory"
) -> list[str]:
    """Return what who has started a store wants to know: where it is, and how it is joined."""
    place = reachable(addresses[0])
    options = [*(["--tls-ca", "CA.pem"] if place.startswith("grpcs:") else []), *(_token(token_file))]
    more = "".join(f" {option}" for option in options)
    lines = [
        f"lightactors {la.__version__} serves a store {_kept(location)}, and {SERVICE} for other languages, at",
        *(f"  {address}" for address in addresses),
        "Join runners to it, and look at it, with",
        f"  lightactors runner --store {place}{more} --agent my_agents:answer -n 4",
        f"  lightactors status {place}{more}",
    ]
    if token_file is not None:
        lines += [
            f"Its tokens are in {token_file}, one a line. Who is elsewhere needs a file with one of them:",
            f"  grep ^runner {shlex.quote(str(token_file))} > runner.token && chmod 600 runner.token",
        ]
    return [*lines, "Ctrl-C stops it."]


def _kept(location: str) -> str:
    return "in memory" if location in IN_MEMORY else f"in {location_of(location).shown}"


def _token(file: Path | None) -> list[str]:
    return [] if file is None else ["--token-file", shlex.quote(str(file))]


def reachable(address: str) -> str:
    """Return an address as others know it: who listens everywhere has this host's name."""
    parsed = Address.parse(address)
    everywhere = parsed.host in ("0.0.0.0", "::")
    return address.replace(parsed.grpc_target(), f"{socket.gethostname()}:{parsed.port}") if everywhere else address
