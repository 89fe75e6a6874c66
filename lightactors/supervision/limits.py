"""What a process may use, and what it runs as; what the object store may use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field

from lightactors.errors import ConfigurationError

LEAST_MEMORY = 64 * 2**20  # what Python, an event loop and a few threads need, and some to work with
LEAST_CAPACITY = 2**20  # what one large object and a few small ones take
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
        _check_whole("memory", self.memory, LEAST_MEMORY, None, "bytes")
        _check_whole("open_files", self.open_files, FEWEST_FILES, None, "descriptors")
        _check_whole("niceness", self.niceness, -20, 19, "niceness")
        _check_environment(self.environment)
        _check_user(self.user)


@dataclass(frozen=True, kw_only=True)
class ObjectLimits:
    """Bounds on a system's object store.

    - `capacity`: bytes of memory that objects may take (default: 0.3 of what is free, or of what the container has).
    - `quota`: bytes of objects in memory, and of space for new ones, that one process may have put there; None: all.
    - `spill`: the directory where objects that nobody looks at are written to when memory gets scarce (default: the
      one for temporary files); None: nothing is, and who puts an object waits for memory.
    - `spill_limit`: bytes that may lie there; None: what the disk holds.
    """

    capacity: int | None = None
    quota: int | None = None
    spill: str | os.PathLike[str] | None = field(default_factory=tempfile.gettempdir)
    spill_limit: int | None = None

    def __post_init__(self) -> None:
        _check_whole("capacity", self.capacity, LEAST_CAPACITY, _memory_of_host(), "bytes")
        _check_whole("quota", self.quota, 1, None, "bytes")
        _check_whole("spill_limit", self.spill_limit, 0, None, "bytes")
        if self.spill is not None and not _is_writable_directory(self.spill):
            raise ConfigurationError(f"spill={self.spill!r} is no directory that can be written to; give one, or None")


def _memory_of_host() -> int | None:
    """Return how many bytes of memory the host has; None: it does not say."""
    names = getattr(os, "sysconf_names", {})
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if "SC_PHYS_PAGES" in names else None


def _is_writable_directory(path: object) -> bool:
    return isinstance(path, (str, os.PathLike)) and os.path.isdir(path) and os.access(path, os.W_OK)


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
