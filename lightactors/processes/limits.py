"""What a process may use, and what it runs as."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightactors.errors import ConfigurationError

FEWEST_FILES = 32  # what Python, an event loop and a link need, and a few to work with


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on one process; None leaves a thing as the program has it.

    `memory` in bytes bounds what the process allocates for itself (RLIMIT_DATA), beyond which there is a
    MemoryError in it. Address space would be the wrong measure: CUDA, shared objects and thread stacks reserve far
    more of it than they use. `niceness` is absolute, -20 to 19. `environment` is put over the program's own. `user`
    is a name, and needs root; what the process launches runs as that user too. The other bounds are each for one
    process, and not for what it launches.
    """

    memory: int | None = None
    open_files: int | None = None
    niceness: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None

    def __post_init__(self) -> None:
        _check_whole("memory", self.memory, 1, None, "bytes")
        _check_whole("open_files", self.open_files, FEWEST_FILES, None, "descriptors")
        _check_whole("niceness", self.niceness, -20, 19, "as `nice` counts")
        _check_environment(self.environment)
        _check_user(self.user)


def settings(limits: Limits) -> dict[str, Any]:
    """Return what a child of this process is to be set up with, as plain data."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "memory": limits.memory,
        "open_files": limits.open_files or soft,
        "niceness": limits.niceness,
        "user": limits.user,
        "environment": {**os.environ, **limits.environment},
        "directory": os.getcwd(),
    }


def impose(settings: Mapping[str, Any]) -> None:
    """Set this process up; raise OSError or ValueError in words for what the host does not allow."""
    os.chdir(settings["directory"])
    _limit("memory", resource.RLIMIT_DATA, settings["memory"])
    _limit("open_files", resource.RLIMIT_NOFILE, settings["open_files"])
    if settings["niceness"] is not None:
        _be_nice(settings["niceness"])
    environment = settings["environment"]
    if settings["user"] is not None:
        environment = {**environment, **_become(settings["user"])}
    os.environ.clear()
    os.environ.update(environment)


def _limit(name: str, kind: int, value: int | None) -> None:
    if value is not None:
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY and value > most:
            raise ValueError(f"{name}={value} is above the {most} that this host allows; give less, or raise `ulimit`")
        resource.setrlimit(kind, (value, most))


def _be_nice(niceness: int) -> None:
    try:
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    except PermissionError as error:
        raise PermissionError(error.errno, f"niceness={niceness} needs root; give more than the program has") from error


def _become(user: str) -> dict[str, str]:
    """Run on as a user; return what of the environment tells who that is."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ValueError(f"user {user!r} is unknown on this host; create it, or give another") from None
    try:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError as error:
        raise PermissionError(error.errno, f"only root can start a process as user {user!r}") from error
    return {"HOME": entry.pw_dir, "LOGNAME": user, "USER": user}


def _check_whole(name: str, value: object, least: int, most: int | None, unit: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        raise ConfigurationError(f"{name}={value!r}; give a whole number of {unit}, {bounds}")


def _check_user(user: object) -> None:
    if user is not None and (not isinstance(user, str) or not user):
        raise ConfigurationError(f"user={user!r}; give the name of a user of this host")


def _check_environment(environment: object) -> None:
    if not isinstance(environment, Mapping):
        raise ConfigurationError(f"environment={environment!r}; give a mapping of names to values")
    for name, value in environment.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ConfigurationError(f"environment has the name {name!r}; give text without '=' or NUL")
        if not isinstance(value, str) or "\0" in value:
            raise ConfigurationError(f"environment[{name!r}]={value!r}; give text without NUL")
