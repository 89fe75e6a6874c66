"""Client and server: the algorithm and the runners in processes, on this machine and on others."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncGenerator, Collection, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import anyio

from lightactors.actors import System, loops, open_system, supervise
from lightactors.actors.ref import AnyRef
from lightactors.address import Address
from lightactors.errors import ConfigurationError, check_seconds, check_whole
from lightactors.security import TOKEN_FILE, Tls, Tokens
from lightactors.supervision.ladder import Ladder
from lightactors.supervision.spec import Place
from lightactors.training import environment
from lightactors.training.runners.leftovers import leftovers_given_back
from lightactors.training.runners.workers import release_workers
from lightactors.training.stores.contract import Store
from lightactors.training.stores.opening import opened
from lightactors.training.strategies.crew import ALGORITHM, Crew, Member, Release
from lightactors.training.strategies.joining import Joined, Way
from lightactors.training.strategies.meeting import MEETING, Attendance, Meeting
from lightactors.training.strategies.strategy import (
    AlgorithmBundle,
    Backend,
    ExecutionStrategy,
    RunnerBundle,
    adopted,
    installed,
    one_of,
)

logger = logging.getLogger("lightactors")

Side = Literal["algorithm", "runner", "both"]
MainProcess = Literal["algorithm", "runner"]


class ClientServerExecutionStrategy(ExecutionStrategy):
    """The algorithm and each runner in a process of its own, on one machine or on several.

    `role="both"` starts everything here: the part that `main_process` names stays in this process, in a thread, and
    the others get processes. The store stays in this process too, whichever part that is. `main_process="runner"`
    needs `n_runners=1`. What goes to a process, bundles and all that they hold, must be picklable: defined in a
    module, or anywhere if cloudpickle is installed.

    `role="algorithm"` serves the store and runs the algorithm; `role="runner"`, there or on other machines, runs
    `n_runners` runners, each with a connection of its own. Runners may come before the algorithm, join late, leave,
    lose the connection and find it again. With `role="both"` such runners may join too; the port is then another one
    if `server_port` is taken. None asks the environment: `LIGHTACTORS_CURRENT_ROLE`, `LIGHTACTORS_SERVER_HOST` and
    `LIGHTACTORS_SERVER_PORT`, or with `AGL_`; else it is both, at localhost:4747. Port 0 is any that is free.

    Who joins needs the token of this very execution, so nobody strays into another one: `token_file`, or the file
    that `LIGHTACTORS_TOKEN_FILE` names. Where there is none yet, tokens are made, and the file is named in the
    log. Other machines also need `tls`: a certificate and key here, the authority there; or `insecure=True`.

    When the algorithm has ended, when a bundle raises and on Ctrl-C, all are asked to stop, those on other machines
    too. Who has not ended `graceful_timeout` seconds later gets SIGINT, which cancels the bundle; after
    `terminate_timeout` SIGTERM, after as long again SIGKILL. A process that ends with a code outside
    `allowed_exit_codes` makes the execution fail with an error that names it. When a runner's process dies, the
    store hears of it at once, and the others go on; when the last one has died, the algorithm is stopped.

    `managed_store=False` passes the store on as it is, which is right for a ref; None asks
    `LIGHTACTORS_MANAGED_STORE` or `AGL_MANAGED_STORE` (default: yes). `backend` is the loop of all processes.

    Raises `ConfigurationError` for values that can't work.
    """

    def __init__(
        self,
        role: Side | None = None,
        server_host: str | None = None,
        server_port: int | None = None,
        n_runners: int = 1,
        graceful_timeout: float = 5.0,
        terminate_timeout: float = 5.0,
        main_process: MainProcess = "algorithm",
        managed_store: bool | None = None,
        allowed_exit_codes: Collection[int] = (0, -15),
        *,
        token_file: str | Path | None = None,
        tls: Tls | None = None,
        insecure: bool = False,
        backend: Backend = "asyncio",
    ) -> None:
        self.role: Side = environment.choice("CURRENT_ROLE", role, get_args(Side), default="both", called="role")
        self.server_host = environment.text("SERVER_HOST", server_host, default="localhost")
        self.server_port = environment.port("SERVER_PORT", server_port, default=4747)
        self.n_runners = check_whole("n_runners", n_runners)
        self.graceful_timeout = check_seconds("graceful_timeout", graceful_timeout)
        self.terminate_timeout = check_seconds("terminate_timeout", terminate_timeout)
        self.main_process: MainProcess = one_of("main_process", main_process, get_args(MainProcess))
        self.managed_store = environment.flag("MANAGED_STORE", managed_store, default=True)
        self.allowed_exit_codes = tuple(check_whole("allowed_exit_codes", code, -64) for code in allowed_exit_codes)
        self.token_file = _token_file(token_file)
        self.tls = tls
        self.insecure = insecure
        self.backend = installed(one_of("backend", backend, get_args(Backend)))
        self._check_main_process()
        self._check_token_file()
        self._prefix = "runner" if self.role != "runner" else f"{socket.gethostname()}-{secrets.token_hex(3)}"

    def _check_main_process(self) -> None:
        if self.main_process == "algorithm":
            return
        if self.role != "both":
            raise ConfigurationError(
                f"main_process='runner' with role={self.role!r}: there is no other part to start; leave it out"
            )
        if self.n_runners != 1:
            raise ConfigurationError(
                f"main_process='runner' with n_runners={self.n_runners}: this process has room for one runner; "
                "use main_process='algorithm' for more"
            )

    def _check_token_file(self) -> None:
        if self.role == "runner" and self.token_file is None:
            raise ConfigurationError(
                f"role='runner' needs the token of its execution; set {TOKEN_FILE} to the file that the algorithm's "
                "side names in its log, or pass token_file="
            )

    @property
    def runs_algorithm_here(self) -> bool:
        return self.role != "runner" and self.main_process == "algorithm"

    @property
    def worker_prefix(self) -> str:
        return self._prefix

    @property
    def _ladder(self) -> Ladder:
        return Ladder(self.graceful_timeout, *[self.terminate_timeout] * 3)

    async def run(self, algorithm: AlgorithmBundle, runner: RunnerBundle, store: Store | str | Path) -> None:
        store = opened(store)
        if self.role == "runner":
            await self._run_runners(runner)
        elif self.managed_store and not isinstance(store, AnyRef):
            with self._tokens() as tokens:
                await self._run_and_serve(algorithm, runner, store, tokens)
        else:
            await self._run_with_store_elsewhere(algorithm, runner, store)

    # Where the algorithm is not

    async def _run_runners(self, runner: RunnerBundle) -> None:
        way = Way(self._address(self.server_port), self.token_file, self.tls)

        async def release(process: str, *, was_asked: bool) -> None:
            await release_workers(await way.store(), process, was_asked=was_asked)

        place: Place = "thread" if self.n_runners == 1 else "process"
        joined = Joined(runner, way, self.graceful_timeout)
        members = [Member(f"runner-{number}", joined, (number,), place) for number in range(self.n_runners)]
        async with open_system("execution", grace=self._ladder) as system:
            await self._play(system, members, release)

    # Where it is

    async def _run_and_serve(
        self, algorithm: AlgorithmBundle, runner: RunnerBundle, store: Store, tokens: Tokens
    ) -> None:
        async with self._listening(tokens) as system:
            # In a thread, as the parts here: this process's own loop carries everybody's messages.
            shared = await adopted(system, store)
            members = self._members(algorithm, runner, shared)
            logger.info("runners may join at %s", ", ".join(system.addresses))
            async with leftovers_given_back(shared):
                await self._play(system, members, partial(release_workers, shared))

    @contextmanager
    def _tokens(self) -> Generator[Tokens]:
        """Read the tokens of an execution, or make them and write them where only we can read them."""
        if self.token_file is not None and self.token_file.exists():
            yield Tokens.load(self.token_file)
            return
        with contextlib.ExitStack() as clean_up:
            file = self.token_file
            if file is None:
                file = Path(clean_up.enter_context(tempfile.TemporaryDirectory(prefix="lightactors-")), "tokens")
            tokens = Tokens.new()
            tokens.save(file)
            clean_up.callback(file.unlink, missing_ok=True)
            # Nobody runs anything for an algorithm alone before he knows.
            level = logging.WARNING if self.role == "algorithm" and self.token_file is None else logging.INFO
            logger.log(level, "runners join with %s=%s", TOKEN_FILE, file)
            yield tokens

    async def _run_with_store_elsewhere(self, algorithm: AlgorithmBundle, runner: RunnerBundle, store: Store) -> None:
        if self.role == "algorithm":
            raise ConfigurationError(
                f"role='algorithm' serves the store, and {store!r} is not to be served from here; "
                "give the store itself, or use role='both'"
            )
        async with open_system("execution", grace=self._ladder) as system, leftovers_given_back(store):
            await self._play(system, self._members(algorithm, runner, store), partial(release_workers, store))

    def _members(self, algorithm: AlgorithmBundle, runner: RunnerBundle, store: Store) -> list[Member]:
        members = [Member(ALGORITHM, algorithm, (store,), self._place("algorithm"))]
        if self.role == "both":
            place = self._place("runner")
            members += [Member(f"runner-{n}", runner, (store, n), place) for n in range(self.n_runners)]
        return members

    def _place(self, part: MainProcess) -> Place:
        return "thread" if part == self.main_process else "process"

    @asynccontextmanager
    async def _listening(self, tokens: Tokens) -> AsyncGenerator[System]:
        """Open the system, where others may join; at any port if ours is taken and nobody has to know it."""
        async with contextlib.AsyncExitStack() as opened:
            try:
                system = await opened.enter_async_context(self._open(self.server_port, tokens))
            except ConfigurationError as error:
                if self.role != "both" or self.server_port == 0:
                    raise
                logger.info("%s; taking any port that is free", error)
                system = await opened.enter_async_context(self._open(0, tokens))
            yield system

    def _open(self, port: int, tokens: Tokens) -> contextlib.AbstractAsyncContextManager[System]:
        return open_system(
            "execution",
            grace=self._ladder,
            listen=str(self._address(port)),
            tokens=tokens,
            tls=self.tls,
            insecure=self.insecure,
        )

    def _address(self, port: int) -> Address:
        if self.tls is not None:
            return Address("grpcs", self.server_host, port)
        # As a number: of a name that has two, gRPC is content with one, and somebody else may have the other.
        return Address("grpc", "127.0.0.1" if self.server_host == "localhost" else self.server_host, port)

    # Everywhere

    async def _play(self, system: System, members: list[Member], release: Release) -> None:
        async with supervise(name="crew") as supervision:
            crew = Crew(supervision, self._ladder, self.allowed_exit_codes, release)
            system.on_interrupt = crew.event.set
            attendance = Attendance()
            await system.options(name=MEETING).spawn(Meeting, crew.event, attendance)
            try:
                await crew.play(members)
            finally:
                await self._wait_for(attendance, system)

    async def _wait_for(self, attendance: Attendance, system: System) -> None:
        """Let those who joined report what they still have."""
        with anyio.move_on_after(self.graceful_timeout) as scope, system.hurry.waking(scope.cancel, loops.current()):
            await attendance.until_all_have_left()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(role={self.role!r}, n_runners={self.n_runners}, "
            f"main_process={self.main_process!r}, server={self._address(self.server_port)})"
        )


def _token_file(given: str | Path | None) -> Path | None:
    named = given if given is not None else os.environ.get(TOKEN_FILE) or None
    return None if named is None else Path(named)
