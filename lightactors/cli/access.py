"""How a command reaches a node: its address, a token for the role that the command needs, TLS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lightactors.address import Address
from lightactors.cli.exits import CommandError, Exit
from lightactors.contract import Role
from lightactors.errors import AccessDenied
from lightactors.remote.connect import RemoteNode, connect
from lightactors.remote.directory import ActorInfo
from lightactors.security import Tls, Tokens

STORE = "store"
"""What a store's actor is called on its node."""


def is_store(actor: ActorInfo) -> bool:
    """Tell whether an actor of a node is its store."""
    return actor.path == STORE and "dequeue_rollout" in actor.handlers


@dataclass(frozen=True)
class Access:
    """Where a node is, and what lets us in. Holds no secret: processes are handed it, and read the file themselves."""

    address: str
    token_file: Path | None
    tls: Tls | None
    role: Role

    def token(self) -> str | None:
        """Return the token to call with: the one for our role, or the first that the file has."""
        if self.token_file is None:
            return None
        if not self.token_file.exists():
            raise CommandError(
                f"there is no token file {self.token_file}; put the {self.role}'s line of the store's token file into "
                "one, and chmod 600 it"
            )
        tokens = Tokens.load(self.token_file)
        return tokens.of(self.role if self.role in tokens.roles else tokens.roles[0])

    async def connect(self) -> RemoteNode:
        """Reach the node; raise what is said of an access that it does not accept in words of the command line."""
        try:
            return await connect(self.address, token=self.token(), tls=self.tls)
        except AccessDenied as error:
            raise CommandError(self._refused(), Exit.DENIED) from error

    def _refused(self) -> str:
        if self.token_file is None:
            return f"{self.address} asks for a token; give --token-file FILE"
        return f"{self.address} does not accept the token of {self.token_file}; is it another store's, or an old one?"


def access(
    address: str, role: Role, token_file: Path | None, ca: Path | None, cert: Path | None, key: Path | None
) -> Access:
    """Return the access that a command's options describe; raise for what can't be meant."""
    if _is_location(address):
        # No more of it is shown: there may be a password in it.
        name = f"{address.partition('://')[0]}://..." if "://" in address else address
        raise CommandError(
            f"{name} is where a store is kept, and not where it is served; serve it with 'lightactors store', or look "
            "into it with 'lightactors store show'"
        )
    node = Address.parse(address)
    if node.path:
        raise CommandError(f"{address} names an actor; give the node, {node.node}")
    made = Access(address, token_file, tls_of(ca, cert, key), role)
    if made.tls is not None and not node.is_tls:
        raise CommandError(f"--tls-* is given, and {address} would not use it; say grpcs://{node.grpc_target()}")
    made.token()  # a file that can't be used is told of before anything is dialled
    return made


def _is_location(address: str) -> bool:
    """Tell whether an address is one of those that stores are kept at."""
    return address.partition(":")[0] in ("sqlite", "postgresql", "postgres") or Path(address).is_file()


def tls_of(ca: Path | None, cert: Path | None, key: Path | None) -> Tls | None:
    """Return the TLS files that the options name; None: there are none."""
    return Tls(ca=ca, cert=cert, key=key) if ca or cert or key else None
