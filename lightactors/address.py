"""An address: where a node listens, and which of its actors is meant.

| text | what it names |
|---|---|
| `grpc://host:4747` | a node; the port may be left out, then it is 4747 |
| `grpcs://host:4747/counter` | the actor `counter` there, over TLS |
| `grpc://[::1]:4747/team/first` | the actor `first`, a child of `team`; an IPv6 address stands in brackets |
| `unix:/run/me.sock` | a node on a socket file; the file's path may be relative |
| `unix:/run/me.sock#counter` | an actor there: after a `#`, for the file's own path has slashes |

What has a meaning of its own in a path or a name is written as URLs write it: `my%20counter`, `50%25`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args
from urllib.parse import quote, unquote_to_bytes

from lightactors.errors import ConfigurationError

Scheme: TypeAlias = Literal["grpc", "grpcs", "unix"]

PORT = 4747
"""The port of an address that names none."""

_SCHEMES: tuple[Scheme, ...] = get_args(Scheme)

_SOCKET_PATH = 107
"""Bytes of a socket file's path: what the kernel takes."""

_LIKELY_MEANT = {"http": "grpc", "https": "grpcs", "tcp": "grpc", "ssl": "grpcs", "tls": "grpcs", "ipc": "unix"}

_EXAMPLE = "say 'grpc://host:4747', 'grpcs://host:4747' or 'unix:/run/me.sock'"

_STARTS_WITH_SCHEME = re.compile(r"([A-Z][A-Z0-9+.-]*):(?:(?<=unix:)|(?!\d+(?:/|$)))", re.IGNORECASE)
"""A word and a colon, unless a port follows: `localhost:4747` has no scheme."""

_SECRET = re.compile(r"(?!unix:)[^/]*(?://)?[^/]*@")
"""All up to an `@` that stands before the host."""

_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")

_IN_ACTOR_PATHS = "/:@!$&'()*+,;="
"""What a path may hold as it is, besides letters, digits and `_.-~`."""


@dataclass(frozen=True)
class Address:
    """Where a node listens, and the actor that is meant there; see the module. `parse` makes it of text."""

    scheme: Scheme
    host: str = ""  # of grpc and grpcs; an IPv6 address without its brackets
    port: int = 0  # of grpc and grpcs; 0, where a node is to listen: any that is free
    socket: str = ""  # of unix: the path of the socket file
    path: str = ""  # the actor's, from the node's root on, without a slash before it; empty: the node itself

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that a text is; raise `ConfigurationError`, which says what to write, for any other."""
        scheme, rest = _split_scheme(_printable(text))
        if scheme == "unix":
            file, mark, path = rest.partition("#")
            return cls("unix", socket=_socket(text, file), path=_actor_path(text, path, bool(mark)))
        place, _, path = rest.removeprefix("//").partition("/")
        host, port = _split_port(text, _without_extras(text, place))
        return cls(scheme, _host(text, host), _port(text, port), path=_actor_path(text, path, bool(path)))

    def at(self, path: str) -> Address:
        """Return the address of an actor at this node; an empty path: the node's own."""
        try:
            quoted = quote(path.strip("/"), _IN_ACTOR_PATHS)
        except UnicodeEncodeError:
            raise ConfigurationError(f"{path!r} names no actor: it can't be written as UTF-8") from None
        return replace(self, path=_actor_path(path, quoted, bool(quoted)))

    def with_port(self, port: int) -> Address:
        """Return the same address with the port that a node really listens on."""
        return replace(self, port=port)

    @property
    def node(self) -> Address:
        """The address of the node that the actor lives on."""
        return replace(self, path="")

    @property
    def is_tls(self) -> bool:
        """Whether what is said there is encrypted."""
        return self.scheme == "grpcs"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it: a socket file, or the loopback."""
        if self.scheme == "unix" or self.host.lower().rstrip(".") == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # a name

    def grpc_target(self) -> str:
        """Return what gRPC calls the place: `host:port`, `[::1]:port` or `unix:path`."""
        return f"unix:{quote(self.socket)}" if self.scheme == "unix" else self._place()

    def __str__(self) -> str:
        path = quote(self.path, _IN_ACTOR_PATHS)
        if self.scheme == "unix":
            return f"unix:{quote(self.socket)}" + (f"#{path}" if path else "")
        return f"{self.scheme}://{self._place()}" + (f"/{path}" if path else "")

    def _place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _printable(text: object) -> str:
    if not isinstance(text, str):
        raise ConfigurationError(f"{text!r} is no address; {_EXAMPLE}")
    if not text:
        raise ConfigurationError(f"an address is empty; {_EXAMPLE}")
    if secret := _SECRET.match(text):
        # Not shown: what stands there may be a password.
        raise ConfigurationError(
            f"the address of {text[secret.end() :]!r} has a user or password before an '@'; addresses are logged, so "
            "secrets don't belong in them: pass token= instead"
        )
    for character in text:
        if character.isspace() or not character.isprintable():
            raise ConfigurationError(
                f"address {text!r} has {character!r} in it; leave it out, or write it as '{quote(character)}' "
                "where it is part of a name"
            )
    return text


def _split_scheme(text: str) -> tuple[Scheme, str]:
    found = _STARTS_WITH_SCHEME.match(text)
    if found is None:
        raise ConfigurationError(f"address {text!r} has no scheme; {_suggestion(text)}")
    word, rest = found[1], text[found.end() :]
    scheme: Scheme | None = next((known for known in _SCHEMES if known == word.lower()), None)
    if scheme is None:
        meant = _LIKELY_MEANT.get(word.lower())
        cure = f"say {_with_scheme(meant, rest)!r}" if meant else _EXAMPLE
        raise ConfigurationError(f"address {text!r}: {word!r} is no scheme of ours; {cure}")
    if scheme != "unix" and not rest.startswith("//"):
        raise ConfigurationError(f"address {text!r} lacks the slashes; say {_with_scheme(scheme, rest)!r}")
    return scheme, rest


def _suggestion(text: str) -> str:
    return f"say 'unix:{text}'" if text.startswith(("/", ".")) else f"say 'grpc://{text.lstrip(':/')}'"


def _with_scheme(scheme: str, rest: str) -> str:
    return f"unix:/{rest.lstrip('/')}" if scheme == "unix" else f"{scheme}://{rest.lstrip('/')}"


def _without_extras(text: str, place: str) -> str:
    for mark, part in (("?", "a query"), ("#", "a fragment")):
        if mark in place:
            raise ConfigurationError(f"address {text!r} has {part}; leave out {mark!r} and what follows")
    return place


def _split_port(text: str, place: str) -> tuple[str, str]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigurationError(f"address {text!r}: an IPv6 address stands in brackets; say '[::1]:{PORT}'")
        if not _is_ipv6(host):
            raise ConfigurationError(f"address {text!r}: {host!r} is no IPv6 address; only those stand in brackets")
        return host, rest[1:] if rest else str(PORT)
    if _is_ipv6(place) or place.count(":") > 1:
        raise ConfigurationError(f"address {text!r}: put the IPv6 address in brackets, as in '[::1]:{PORT}'")
    host, colon, port = place.partition(":")
    return host, port if colon else str(PORT)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _host(text: str, host: str) -> str:
    if not host:
        raise ConfigurationError(
            f"address {text!r} names no host; say '127.0.0.1' for this machine only, '0.0.0.0' to listen everywhere"
        )
    if not _is_ipv6(host) and not _HOST_NAME.fullmatch(host):
        raise ConfigurationError(f"address {text!r}: {host!r} is no host; give a host's name or its IP address")
    return host


def _port(text: str, port: str) -> int:
    if not (port.isascii() and port.isdigit()):
        raise ConfigurationError(f"address {text!r}: {port!r} is no port; give a number, as in ':{PORT}'")
    if len(port) > 5 or int(port) > 65535:
        raise ConfigurationError(f"address {text!r}: there is no port {port}; give a number from 0 to 65535")
    return int(port)


def _socket(text: str, file: str) -> str:
    if file.startswith("//"):
        file = "/" + file.lstrip("/")  # unix:///run/me.sock, as gRPC and others write it
    socket = _unquoted(text, file)
    if not socket or socket.endswith("/"):
        raise ConfigurationError(f"address {text!r} names no socket file; say 'unix:/run/me.sock'")
    if "\0" in socket:
        raise ConfigurationError(f"address {text!r}: the path of a file has no %00 in it; leave it out")
    if (size := len(os.fsencode(socket))) > _SOCKET_PATH:
        raise ConfigurationError(
            f"address {text!r}: the socket's path has {size} bytes, and the system takes {_SOCKET_PATH}; "
            "choose a shorter one, or a relative one"
        )
    return socket


def _actor_path(text: str, quoted: str, is_given: bool) -> str:
    path = _unquoted(text, quoted).strip("/")
    if is_given and (not path or "" in path.split("/")):
        raise ConfigurationError(f"{text!r} names an actor without a name; say '/counter' or '/team/first'")
    return path


def _unquoted(text: str, quoted: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", quoted):
        raise ConfigurationError(f"{text!r}: after a '%' come two hexadecimal digits; write '%' itself as '%25'")
    try:
        return unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{text!r}: what is written with '%' there is no UTF-8 text") from None
