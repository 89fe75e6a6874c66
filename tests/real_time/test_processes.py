"""Actors in processes of their own: the same to a caller, and always to be ended."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import anyio
import psutil
import pytest

import lightactors as la
from lightactors.errors import (
    ActorStopped,
    CannotTravel,
    MailboxFull,
    ProcessDied,
    RestartsExhausted,
    SpawnError,
    WrongCall,
)
from tests.real_time.marks import chiefly_on
from tests.real_time.zoo import ZOO, Animal, Worker

RUNG = 0.3
"""Seconds of each rung of a stop."""

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


async def until(is_so: Callable[[], bool], seconds: float = 5) -> None:
    with anyio.fail_after(seconds):
        while not is_so():  # noqa: ASYNC110 (the kernel raises no event of ours)
            await anyio.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants_of_guardian() -> set[int]:
    """Return what lives below our guardian, but for its forkserver."""
    (guardian,) = [child for child in psutil.Process().children() if "guardian.py" in " ".join(child.cmdline())]
    return {
        child.pid
        for child in guardian.children(recursive=True)
        if (child.status() != psutil.STATUS_ZOMBIE and "forkserver.py" not in " ".join(child.cmdline()))
        or child.ppid() != guardian.pid
    }


async def test_ref_of_a_process_is_like_any_other() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="process").spawn(Worker, 40)
        await worker.add.tell(1)

        assert await worker.add(1) == 42
        assert await worker.pid() != os.getpid()
        assert [number async for number in worker.count(40)] == list(range(40))
        with pytest.raises(ValueError, match="no luck") as failure:
            await worker.fail("no luck")
        assert "in fail" in str(failure.value.__cause__)


async def test_stop_drains_and_runs_on_stop(capsys: pytest.CaptureFixture[str]) -> None:
    async with la.open_system() as system:
        worker = await system.options(name="w", place="process").spawn(Worker)
        for _ in range(100):
            await worker.add.tell(1)
        pid = await worker.pid()

        assert await la.stop(worker) is la.Rung.DRAIN
        assert not is_alive(pid)
    assert "[w] stopped at 100" in capsys.readouterr().out


async def test_cancelled_ask_cancels_its_handler_there() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="process").spawn(Worker)
        with anyio.move_on_after(0.1):
            await worker.wait()

        assert await worker.how_often_cancelled() == 1


async def test_argument_that_can_not_travel_raises_at_the_caller() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="process").spawn(Worker)
        with pytest.raises(CannotTravel, match="amount"):
            await worker.add(object())  # type: ignore[arg-type]
        assert await worker.add(1) == 1


async def test_refs_go_to_processes_and_come_home() -> None:
    async with la.open_system() as system:
        here = await system.spawn(Worker, 1)
        there = await system.options(place="process").spawn(Worker, 10)
        further = await system.options(place="process").spawn(Worker, 100)

        assert await there.add_to(here, 1) == 2
        assert await there.add_to(further, 1) == 101
        assert await further.add_to(there, 1) == 11


async def test_ref_travels_with_the_arguments_of_a_spawn() -> None:
    async with la.open_system() as system:
        here = await system.spawn(Worker, 1)
        sender = await system.options(place="process").spawn(Sender, here)

        assert await sender.send(5) == 6


@la.actor
class Sender:
    def __init__(self, to: Worker) -> None:
        self.to = to

    @la.handler
    async def send(self, amount: int) -> int:
        return await self.to.add(amount)


async def test_death_of_a_process_fails_its_asks_in_words() -> None:
    async with la.open_system() as system, anyio.create_task_group() as tg:
        supervisor = await system.spawn(la.Supervisor, "one_for_one", max_restarts=0)
        worker: Worker = await supervisor.start_child(
            la.options(name="w", place="process", restart="temporary").child(Worker)
        )
        pid = await worker.pid()
        failures: list[ActorStopped] = []

        async def ask() -> None:
            with pytest.raises(ActorStopped) as failure:
                await worker.wait()
            failures.append(failure.value)

        tg.start_soon(ask)
        await worker.say.tell("last words")
        await anyio.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        terminated = await la.watch(worker)

        assert terminated.reason is la.Reason.FAILED
        assert isinstance(terminated.error, ProcessDied)
        assert "SIGKILL" in str(terminated.error)
        assert "last words" in str(terminated.error)
        await until(lambda: bool(failures))
        assert failures[0].__cause__ is terminated.error
        story = str(la.why(worker))
        assert f"process {pid}" in story
        assert "SIGKILL" in story
        assert "last words" in story


@pytest.mark.parametrize("end", [0, 3, -signal.SIGKILL, -signal.SIGSEGV])
async def test_process_that_ends_is_started_again_and_keeps_its_queue(end: int) -> None:
    async with la.open_system(), la.supervise() as supervisor:
        worker = await supervisor.options(place="process").spawn(Worker)
        pid = await worker.pid()
        if end < 0:
            os.kill(pid, -end)
        else:
            await worker.leave.tell(end)
        await until(lambda: la.statistics(worker).restarts == 1)

        assert await worker.add(1) == 1
        assert await worker.pid() != pid


async def test_process_that_dies_again_and_again_uses_up_the_budget() -> None:
    with pytest.raises(RestartsExhausted, match="code 3"):
        await die_again_and_again()


async def die_again_and_again() -> None:
    async with la.open_system(), la.supervise(max_restarts=2) as supervisor:
        worker = await supervisor.options(place="process").spawn(Worker)
        while True:
            await worker.leave.tell(3)
            await anyio.sleep(0.01)


async def test_statistics_and_tree_show_the_process() -> None:
    async with la.open_system() as system:
        worker = await system.options(name="w", place="process").spawn(Worker)
        figures = la.statistics(worker).process

        assert figures is not None
        assert figures.pid == await worker.pid()
        assert figures.memory > 2**20
        assert abs(time.time() - figures.started) < 5
        assert f"process {figures.pid}" in str(system.tree())


async def test_survey_shows_what_is_in_processes_and_in_those_below_them() -> None:
    async with la.open_system("home") as system:
        worker = await system.options(name="w", place="process").spawn(Worker)
        below = await worker.spawn_worker("below")
        await below.spawn_worker("deeper")
        with pytest.raises(ValueError, match="no luck"):
            await below.fail("no luck")
        tree = await system.survey(within=10)

    assert re.fullmatch(
        r"home \(system\)\n"
        r"└── w \(Worker\)               running, process \d+ \(.*\), 1 handled\n"
        r"    └── below \(Worker\)       running, process \d+ \(.*\), 2 handled, 1 failed, "
        r"last error ValueError: no luck\n"
        r"        └── deeper \(Worker\)  running, process \d+ \(.*\), 0 handled",
        str(tree),
    )
    assert "below" not in str(system.tree())


async def test_survey_shows_the_restarts_and_what_is_queued_there() -> None:
    async with la.open_system(grace=RUNG), la.supervise() as supervisor:
        worker = await supervisor.options(name="w", place="process").spawn(Worker)
        await worker.leave.tell(3)
        await until(lambda: la.statistics(worker).restarts == 1)
        await worker.add(1)
        await worker.wait.tell()
        await worker.add.tell(1)
        await worker.add.tell(1)
        tree = await supervisor.survey(within=10)
        while "2 queued" not in str(tree):  # the tells may still be on their way
            tree = await supervisor.survey(within=10)
        assert "2 queued, 2 handled, restarted once, last error ProcessDied" in str(tree)


async def test_process_that_does_not_answer_delays_no_survey() -> None:
    async with la.open_system(grace=RUNG) as system:
        animal = await system.options(name="animal", place="process").spawn(Animal)
        worker = await system.options(name="w", place="process").spawn(Worker)
        await animal.become.tell("is stopped")
        await anyio.sleep(0.2)
        begin = time.monotonic()
        lines = (await system.survey(within=1)).lines()
        assert time.monotonic() - begin < 3
        assert re.match(r"├── animal \(Animal\)  does not answer, process \d+ \(.*\), 1 sent", lines[1])
        assert "running" in lines[2]
        assert await worker.add(1) == 1


async def test_survey_may_be_asked_for_in_a_process_or_in_a_thread() -> None:
    async with la.open_system() as system:
        worker = await system.options(name="w", place="process").spawn(Worker)
        await worker.spawn_worker("below")
        threaded = await system.options(name="t", place="thread").spawn(Worker)
        assert "below (Worker)" in await worker.look_around()
        assert "below (Worker)" in await threaded.look_around()


async def test_actor_in_a_process_has_the_name_and_mailbox_that_it_was_given() -> None:
    async with la.open_system("home") as system:
        worker = await system.options(name="w", place="process", mailbox=7).spawn(Worker)
        assert await worker.where() == ("home/w", 7)


async def test_output_is_labelled_and_kept(capfd: pytest.CaptureFixture[str]) -> None:
    async with la.open_system() as system:
        worker = await system.options(name="w", place="process").spawn(Worker)
        await worker.say("to you")
        await worker.say("careful", "stderr")
        await la.stop(worker)

    captured = capfd.readouterr()
    assert "[w] to you" in captured.out
    assert "[w] careful" in captured.err


async def test_limits_reach_the_process() -> None:
    limits = la.Limits(niceness=5, environment={"COLOUR": "blue"})
    async with la.open_system() as system:
        looker = await system.options(place="process", limits=limits).spawn(Looker)

        assert await looker.look() == (5, "blue")


@la.actor
class Looker:
    @la.handler
    def look(self) -> tuple[int, str]:
        return os.nice(0), os.environ["COLOUR"]


async def test_process_may_compute_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    async with la.open_system() as system:
        worker = await system.options(place="process").spawn(Worker)
        await worker.compute(1.3)
    assert capfd.readouterr().err == ""


async def test_small_mailbox_bounds_what_waits_in_a_process() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="process", mailbox=2).spawn(Worker)
        await worker.compute.tell(0.5)
        taken = 0
        with pytest.raises(MailboxFull):  # noqa: PT012 (somewhere on the way)
            while taken < 10:
                worker.add.tell_nowait(1)
                taken += 1
        assert taken <= 4


async def test_own_ref_of_an_actor_in_a_process_is_the_one_that_its_spawner_has() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="process").spawn(Worker)
        assert await worker.myself() == worker


async def test_transient_process_that_somebody_interrupts_is_started_again() -> None:
    async with la.open_system(), la.supervise() as supervisor:
        worker = await supervisor.options(place="process", restart="transient").spawn(Worker)
        os.kill(await worker.pid(), signal.SIGINT)
        await until(lambda: la.statistics(worker).restarts == 1)
        assert await worker.add(1) == 1


def test_process_outside_any_system_ends_with_its_program() -> None:
    program = """
import anyio, sys
import lightactors as la
from tests.real_time.marks import chiefly_on
from tests.real_time.zoo import Worker

async def main():
    worker = await la.options(place="process").spawn(Worker)
    print(await worker.add(2))

anyio.run(main, backend=sys.argv[1])
"""
    for backend in anyio.get_available_backends():
        done = subprocess.run(
            [sys.executable, "-c", program, backend], capture_output=True, text=True, timeout=20, check=True
        )
        assert done.stdout.splitlines()[0] == "2"
        assert done.stderr == ""


async def test_argument_of_the_wrong_type_is_named() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="process").spawn(Worker)
        with pytest.raises(WrongCall, match="argument 'amount' is 'much': Expected `int`, got `str`"):
            await worker.add("much")  # type: ignore[arg-type]


# The ladder


@chiefly_on("asyncio")
@pytest.mark.parametrize("kind", ZOO)
async def test_every_animal_of_the_zoo_can_be_stopped(kind: str) -> None:
    async with la.open_system(grace=RUNG) as system:
        animal = await system.options(name="animal", place="process").spawn(Animal)
        await animal.become.tell(kind)
        await anyio.sleep(0.2)
        begin = time.monotonic()
        rung = await la.stop(animal)
        took = time.monotonic() - begin

    assert rung is not la.Rung.ABANDON
    assert took <= 3 * RUNG + 1  # on a busy machine
    assert descendants_of_guardian() == set()


@pytest.mark.stress
async def test_sixty_four_animals_are_stopped_at_once() -> None:
    kinds = list(ZOO)
    async with la.open_system(grace=RUNG) as system:
        async with anyio.create_task_group() as tg:

            async def spawn(number: int) -> None:
                animal = await system.options(place="process").spawn(Animal)
                await animal.become.tell(kinds[number % len(kinds)])

            for number in range(64):
                tg.start_soon(spawn, number)
        await anyio.sleep(1)
        begin = time.monotonic()
        await system.stop()
        took = time.monotonic() - begin

    assert took <= 3 * RUNG + 3
    assert descendants_of_guardian() == set()


async def test_cancelled_block_stops_its_processes() -> None:
    pids: list[int] = []
    with anyio.move_on_after(0.5):
        async with la.open_system() as system:
            worker = await system.options(place="process").spawn(Worker)
            pids.append(await worker.pid())
            await anyio.sleep_forever()

    assert not is_alive(pids[0])


async def test_killed_supervisor_in_the_middle_takes_everything_below_along() -> None:
    async with la.open_system() as system:
        supervisor = await system.spawn(la.Supervisor)
        middle: Worker = await supervisor.start_child(la.options(place="process", restart="temporary").child(Worker))
        below = await middle.spawn_worker()
        pids = [await below.pid(), await below.start_grandchild(), await middle.start_grandchild()]
        assert all(is_alive(pid) for pid in pids)

        os.kill(await middle.pid(), signal.SIGKILL)
        await until(lambda: not any(is_alive(pid) for pid in pids), 1)


# What can go wrong


@pytest.mark.parametrize("argument", [threading.Lock(), open(os.devnull)], ids=["lock", "file"])  # noqa: SIM115
async def test_argument_that_can_not_be_pickled_is_named(argument: object) -> None:
    async with la.open_system() as system:
        with pytest.raises(SpawnError, match="argument 1"):
            await system.options(place="process").spawn(Worker, argument)  # type: ignore[call-overload]


@la.actor
class Troubled:
    def __init__(self, how: str) -> None:
        self.how = how
        if how == "fails in init":
            raise ValueError("no luck")

    async def on_start(self) -> None:
        if self.how == "fails in on_start":
            raise ValueError("no luck")
        if self.how == "dies":
            os._exit(7)
        if self.how == "never starts":
            await anyio.sleep_forever()
        if self.how == "never starts and blocks":
            time.sleep(600)  # noqa: ASYNC251 (that is the trouble)


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        ("fails in init", "no luck"),
        ("fails in on_start", "no luck"),
        ("dies", "exited with code 7"),
        ("never starts", "start_timeout=0.5"),
        ("never starts and blocks", "start_timeout=0.5"),
    ],
)
async def test_start_that_fails_is_an_error_that_says_how(how: str, complaint: str) -> None:
    timeout = 0.5 if how.startswith("never") else 20
    async with la.open_system(grace=0.3) as system:
        with pytest.raises(SpawnError, match=complaint) as failure:
            await system.options(name="t", place="process", start_timeout=timeout).spawn(Troubled, how)

        assert "local/t" in str(failure.value)
        assert descendants_of_guardian() == set()
        assert "t" not in str(system.tree()).splitlines()[1:]


async def test_class_of_a_function_is_sent_by_value_or_refused() -> None:
    @la.actor
    class Local:
        @la.handler
        def pid(self) -> int:
            return os.getpid()

    async with la.open_system() as system:
        local = await system.options(place="process").spawn(Local)
        assert await local.pid() != os.getpid()


async def test_descriptors_of_a_process_stay_out_of_the_forkserver() -> None:
    async with la.open_system() as system:
        worker = await system.options(place="process").spawn(Worker)
        await worker.add(1)
        (server,) = [
            child
            for child in psutil.Process().children(recursive=True)
            if "forkserver.py" in " ".join(child.cmdline()) and os.getpgid(child.pid) == os.getpgid(child.ppid())
        ]
        held = {os.readlink(entry.path) for entry in os.scandir(f"/proc/{server.pid}/fd")}

        assert not any(name.startswith("pipe:") for name in held)


@pytest.mark.skipif(importlib.util.find_spec("cloudpickle") is None, reason="only cloudpickle sends it by value")
def test_class_of_a_program_that_came_from_a_pipe_is_sent_by_value() -> None:
    program = """
import anyio
import lightactors as la

@la.actor
class Greeter:
    @la.handler
    def greet(self) -> str:
        return "hello"

async def main():
    async with la.open_system() as system:
        print(await (await system.options(place="process").spawn(Greeter)).greet())

if __name__ == "__main__":
    anyio.run(main)
"""
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout, done.stderr) == ("hello\n", "")
