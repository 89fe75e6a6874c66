"""Who may listen and call: tokens with roles, TLS files, and what an address asks of both."""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
import ssl
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lightactors.address import Address
from lightactors.contract import ROLES as ROLES
from lightactors.contract import Role as Role
from lightactors.errors import ConfigurationError

TOKEN_FILE = "LIGHTACTORS_TOKEN_FILE"
"""The environment variable that names the token file of who passes no token."""

_TOKEN = re.compile(rf"({'|'.join(ROLES)})\.[A-Za-z0-9_-]{{43}}")
"""A token's text: its role, a dot, and 32 random bytes as base64url writes them."""

_TOKEN_BYTES = 32

_FILE_BYTES = 4096
"""More than a token file can have."""

_log = logging.getLogger("lightactors.remote")


class Tokens:
    """The secrets that let callers in, one for each role: `Tokens.new()`, or `Tokens.load(path)`.

    A token's text begins with its role, so that whoever holds one knows what it is for: `runner.x3K…`. Neither the
    repr nor an error shows more than the role.
    """

    __slots__ = ("_texts",)

    def __init__(self, texts: Iterable[str], source: str = "the tokens") -> None:
        self._texts: Mapping[Role, str] = _by_role(texts, source)

    @classmethod
    def new(cls, roles: Iterable[Role] = ROLES) -> Tokens:
        """Return fresh random tokens, one for each of the roles."""
        given = [roles] if isinstance(roles, str) else list(roles)
        for role in given:
            if role not in ROLES:
                raise ConfigurationError(f"{role!r} is no role; choose from {', '.join(map(repr, ROLES))}")
        return cls(f"{role}.{secrets.token_urlsafe(_TOKEN_BYTES)}" for role in given)

    @classmethod
    def load(cls, path: str | Path) -> Tokens:
        """Return the tokens of a file, one a line; it must be ours and readable by nobody else."""
        return cls(_lines(Path(path)), str(path))

    def save(self, path: str | Path) -> None:
        """Write a file that only we can read; there must be none yet, and nobody ever sees it half written."""
        path = Path(path)
        # A link, unlike a rename, never replaces what is there.
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            _write_new(unfinished, "".join(f"{text}\n" for text in self._texts.values()))
            os.link(unfinished, path)
        except FileExistsError:
            raise ConfigurationError(
                f"{path} exists already; read it with Tokens.load, or delete it for new tokens"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"can't write the token file {path}: {error.strerror}; choose a place that is ours"
            ) from error
        finally:
            with suppress(FileNotFoundError):
                unfinished.unlink()

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles that have a token."""
        return tuple(self._texts)

    def of(self, role: Role) -> str:
        """Return the token of a role, for whom it is to let in."""
        if role not in self._texts:
            raise ConfigurationError(f"there is no token for role {role!r}, only for {', '.join(self._texts)}")
        return self._texts[role]

    def role_of(self, text: str) -> Role | None:
        """Return the role whose token this is; None: it is nobody's."""
        given = text.encode(errors="surrogateescape")
        found: Role | None = None
        # All are compared, and each in full: how long it takes tells nothing about the right ones.
        for role, token in self._texts.items():
            if hmac.compare_digest(token.encode(), given):
                found = role
        return found

    def __repr__(self) -> str:
        return f"<Tokens for {', '.join(self._texts)}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("tokens are secrets and are never pickled or copied; save() them and pass the file's path on")


def _by_role(texts: Iterable[str], where: str) -> dict[Role, str]:
    """Return tokens by their role; raise `ConfigurationError`, without showing a secret, where one is none."""
    tokens: dict[Role, str] = {}
    for number, text in enumerate(texts, start=1):
        role = _role_in(text)
        if role is None:
            raise ConfigurationError(f"{where}: number {number} is no token; {_CURE}")
        if role in tokens:
            raise ConfigurationError(f"{where}: there are two for role {role!r}; keep one")
        if any(hmac.compare_digest(_secret(text), _secret(other)) for other in tokens.values()):
            raise ConfigurationError(f"{where}: two roles share one secret, so each could be the other; {_CURE}")
        tokens[role] = text
    if not tokens:
        raise ConfigurationError(f"{where}: there is none; {_CURE}")
    return tokens


_CURE = "make a new file with lightactors.Tokens.new().save(path)"


def _role_in(text: object) -> Role | None:
    found = _TOKEN.fullmatch(text) if isinstance(text, str) else None
    return None if found is None else next(role for role in ROLES if role == found[1])


def _secret(text: str) -> str:
    return text.partition(".")[2]


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask took
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of secrets; raise `ConfigurationError` where others could have read or written it."""
    try:
        # Not waiting: a pipe that nobody writes to would never open.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"can't read the token file {path}: {error.strerror}; {_CURE}") from error
    try:
        _check_secret_file(path, os.fstat(descriptor))
        content = os.read(descriptor, _FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > _FILE_BYTES or not content.isascii():
        raise ConfigurationError(f"{path} is no token file; {_CURE}")
    return [line.strip() for line in content.decode().splitlines() if line.strip()]


def _check_secret_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"the token file {path} is no regular file; {_CURE}")
    if status.st_uid != os.geteuid():
        raise ConfigurationError(
            f"the token file {path} belongs to user {status.st_uid}, and we are {os.geteuid()}; make it ours: chown it"
        )
    if status.st_mode & 0o077:
        raise ConfigurationError(
            f"others can read or write the token file {path} (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"run `chmod 600 {path}`, and make new tokens if others may have read these"
        )


def read_token(token: str | Path | None = None, role: Role | None = None) -> str | None:
    """Return the token to call with: itself, out of a file, or out of the file that the environment names.

    Of a file that has several, it is the one of `role`, or the first. None: there is none to send.
    """
    if token is None:
        named = os.environ.get(TOKEN_FILE)
        return _from_file(Path(named), role) if named else None
    if isinstance(token, Path):
        return _from_file(token, role)
    if _role_in(token) is None:
        # Not shown: it may be most of a secret.
        raise ConfigurationError(
            f"token= is no token: one looks like 'runner.' and 43 characters; for a file pass pathlib.Path(...), "
            f"or name it in {TOKEN_FILE}"
        )
    return token


def _from_file(path: Path, role: Role | None) -> str:
    tokens = Tokens.load(path)
    return tokens.of(tokens.roles[0] if role is None else role)


@dataclass(frozen=True)
class Tls:
    """The files of one end of a TLS connection, in PEM; read again whenever a connection or a server needs them.

    - `cert` and `key`: who we are. A server needs them; a client only where the server demands certificates.
    - `ca`: whom we believe. For a client: the authority that signed the server's certificate (default: the system's).
      For a server: the authority that signed its clients' certificates, which it then demands (mutual TLS).
    """

    ca: str | Path | None = None
    cert: str | Path | None = None
    key: str | Path | None = None

    def __post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            self.read(name)
        if (self.cert is None) is not (self.key is None):
            has, lacks = ("cert", "key") if self.key is None else ("key", "cert")
            raise ConfigurationError(f"Tls({has}={str(getattr(self, has))!r}) has no {lacks}; give both or none")
        _check_pem(self)

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None: there is no such file."""
        path = getattr(self, name)
        if path is None:
            return None
        if not isinstance(path, (str, os.PathLike)):
            raise ConfigurationError(f"Tls({name}={type(path).__name__}): give the path of a PEM file")
        try:
            return Path(path).read_bytes()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ConfigurationError(f"can't read Tls({name}={str(path)!r}): {why}; give a PEM file's path") from error


def _check_pem(tls: Tls) -> None:
    """Have OpenSSL read the files once, so that a wrong one is told of here and not at the first connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if tls.ca is not None:
        _try(lambda: context.load_verify_locations(tls.ca), f"Tls(ca={str(tls.ca)!r})", "a certificate authority's PEM")
    if tls.cert is not None and tls.key is not None:
        cert, key = tls.cert, tls.key
        _try(
            lambda: context.load_cert_chain(cert, key, password=_no_password),
            f"Tls(cert={str(cert)!r}, key={str(key)!r})",
            "a PEM certificate and its own private key, without a password",
        )


def _no_password() -> str:
    raise ValueError("the key has a password")


def _try(load: Any, what: str, cure: str) -> None:
    try:
        load()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise ConfigurationError(f"{what} can't be used: {reason}; give {cure}") from error


def check_listen(address: Address, tls: Tls | None, tokens: Tokens | None, insecure: bool = False) -> None:
    """Raise `ConfigurationError` where others could listen in on, or call, what listens there.

    A socket file and the loopback need neither TLS nor tokens. `insecure` allows all, and logs what it allowed.
    """
    _check_tls(address, tls)
    if address.is_tls and (tls is None or tls.cert is None):
        raise ConfigurationError(f"{address} needs a certificate to listen with; pass tls=Tls(cert=..., key=...)")
    missing = [] if address.is_local else _missing(address, tokens)
    if not missing:
        return
    if not insecure:
        raise ConfigurationError(
            f"{address} can be reached from other machines, so it needs {' and '.join(missing)}; "
            "listen on 127.0.0.1 or unix:, or pass insecure=True if you trust the whole network"
        )
    _log.warning(
        "INSECURE: %s is open to the network without %s; whoever reaches the port can read or do what this node can",
        address,
        " and ".join(missing),
    )


def _missing(address: Address, tokens: Tokens | None) -> list[str]:
    missing = [] if address.is_tls else ["TLS (say grpcs:// and pass tls=)"]
    return missing if tokens is not None else [*missing, "tokens (pass tokens=Tokens.load(path))"]


def check_connect(address: Address, tls: Tls | None, token: str | None) -> None:
    """Raise `ConfigurationError` where TLS was meant and would not be used; warn of a token that others could read."""
    _check_tls(address, tls)
    if address.port == 0 and address.scheme != "unix":
        raise ConfigurationError(f"{address}: port 0 is for listening; say which port the other node listens on")
    if token is not None and not address.is_tls and not address.is_local:
        _log.warning("INSECURE: the token for %s goes over the network in plain text; say grpcs://", address)


def _check_tls(address: Address, tls: Tls | None) -> None:
    if tls is not None and address.scheme == "grpc":
        raise ConfigurationError(f"tls= is given, and {address} would not use it; say 'grpcs{str(address)[4:]}'")
