"""Two network namespaces, each with a host in it, and a router between them that loses what it is told to lose."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

Host: TypeAlias = Literal["near", "far"]

_SIDES: dict[Host, int] = {"near": 1, "far": 2}


@dataclass(frozen=True)
class Networks:
    """The two hosts; see `open_networks`."""

    name: str

    def address(self, host: Host) -> str:
        """Return the address of a host, which the other one reaches over the router."""
        return f"10.99.{_SIDES[host]}.2"

    def command(self, host: Host, *command: str) -> list[str]:
        """Return a command that runs another one on a host."""
        return ["ip", "netns", "exec", f"{self.name}-{host}", *command]

    def cut(self, *towards: Host) -> None:
        """Lose every packet towards a host, in silence; towards both unless told."""
        for host in towards or _SIDES:
            self._on_router("route", "replace", "blackhole", self.address(host))

    def heal(self) -> None:
        """Lose nothing any more."""
        for host in _SIDES:
            with suppress(subprocess.CalledProcessError):  # that way was open
                self._on_router("route", "delete", "blackhole", self.address(host))

    def open(self) -> None:
        """Make the hosts, the router and the cables."""
        _run("ip", "netns", "add", self._router)
        _run("ip", "netns", "exec", self._router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for host, side in _SIDES.items():
            namespace = f"{self.name}-{host}"
            _run("ip", "netns", "add", namespace)
            cable = ["link", "add", "eth0", "netns", namespace, "type", "veth"]
            _run("ip", *cable, "peer", "name", host, "netns", self._router)
            self._on_router("address", "add", f"10.99.{side}.1/24", "dev", host)
            self._on_router("link", "set", host, "up")
            _run("ip", "-n", namespace, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
            _run("ip", "-n", namespace, "link", "set", "eth0", "up")
            _run("ip", "-n", namespace, "route", "add", "default", "via", f"10.99.{side}.1")

    def close(self) -> None:
        """Take everything down."""
        for namespace in (self._router, *(f"{self.name}-{host}" for host in _SIDES)):
            with suppress(subprocess.CalledProcessError):  # it was never made
                _run("ip", "netns", "delete", namespace)

    @property
    def _router(self) -> str:
        return f"{self.name}-router"

    def _on_router(self, *command: str) -> None:
        _run("ip", "-n", self._router, *command)


@contextmanager
def open_networks() -> Generator[Networks]:
    """Give two hosts and their router; raises `OSError` or `CalledProcessError` where the system allows none."""
    networks = Networks(f"la{os.getpid()}")
    try:
        networks.open()
        yield networks
    finally:
        networks.close()


def skip_reason(error: Exception) -> str:
    """Return, of what `open_networks` has raised, why there can be none here."""
    said = getattr(error, "stderr", None) or error
    return f"no network namespaces here (they need root, ip and veth): {said}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
