"""What a child is set up with: what its program has and its limits say. Plain data on the way."""

from __future__ import annotations

import os
import pwd
import resource
from collections.abc import Mapping
from typing import Any

from lightactors.supervision.limits import Limits


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
