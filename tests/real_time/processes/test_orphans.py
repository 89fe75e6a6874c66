"""Whoever is killed takes along all that it owned: the program, a supervisor in the middle, the guardian."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from pathlib import Path

import psutil
import pytest

from lightactors.errors import LaunchFailed
from lightactors.processes import Exit
from lightactors.processes.guardian import PATIENCE
from lightactors.processes.host import Host
from tests.real_time.processes.zoo import ANIMALS, Beast, Zoo, marked, wait_until

ROOT = Path(__file__).parents[3]
BOUND = 3.0  # seconds after which nothing may be left; an idle machine needs one at most

PROGRAM = f"""
import json, sys, time
from lightactors.processes import Limits
from lightactors.processes.guardian import PATIENCE
from lightactors.processes.host import Host

host = Host.start(child={ANIMALS!r})
children = [host.launch(f"child {{number}}", Limits()) for number in range(4)]
for child in children:
    child.link.send(json.dumps(["has_child_in_session"]).encode())
for child in children:
    assert child.link.recv(16) == b"ready"
print("ready", flush=True)
"""


def start(program: str) -> subprocess.Popen[str]:
    """Run a program and wait until its first line."""
    running = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    return running


def kill_program(mark: str) -> float:
    """Kill a program with four children, each with a grandchild in a session of its own; return when all is gone."""
    with start(PROGRAM + "time.sleep(60)") as program:
        # Itself, guardian and forkserver, children and grandchildren; one that is about to exec shows no mark.
        wait_until(lambda: len(marked(mark)) == 1 + 2 + 4 * 2)
        program.kill()
        program.wait()
        return wait_until(lambda: not marked(mark), BOUND)


def kill_middle(zoo: Zoo) -> float:
    """Kill a child that has launched three; return when all is gone."""
    middle = zoo.let_in("middle", ["has_child_in_session", "ignores_interrupt_and_terminate", "forks_on_and_on"])
    pid = middle.launched()
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    return wait_until(lambda: not zoo.descendants(), BOUND)


def kill_guardian(zoo: Zoo) -> float:
    """Kill the guardian; return when its children are gone."""
    beasts = [zoo.let_in("ignores_interrupt_and_terminate") for _ in range(4)]
    os.kill(zoo.guardian(), signal.SIGKILL)
    took = wait_until(lambda: not marked(zoo.mark), BOUND)
    assert [str(beast.exit()) for beast in beasts] == ["ended with its guardian, which was killed"] * 4
    return took


def test_killed_program_leaves_nothing(mark: str) -> None:
    for _ in range(3):
        kill_program(mark)


def test_killed_middle_leaves_nothing_of_what_it_launched(zoo: Zoo) -> None:
    for _ in range(3):
        kill_middle(zoo)


def test_killed_guardian_leaves_no_child(zoo: Zoo) -> None:
    kill_guardian(zoo)


@pytest.mark.stress
@pytest.mark.parametrize("_", range(5))
def test_killed_program_leaves_nothing_a_hundred_times(mark: str, _: int) -> None:
    show(kill_program(mark) for _ in range(20))


@pytest.mark.stress
@pytest.mark.parametrize("_", range(5))
def test_killed_middle_leaves_nothing_a_hundred_times(zoo: Zoo, _: int) -> None:
    show(kill_middle(zoo) for _ in range(20))


@pytest.mark.stress
@pytest.mark.parametrize("_", range(5))
def test_killed_guardian_leaves_no_child_a_hundred_times(zoo: Zoo, _: int) -> None:
    for _ in range(20):
        kill_guardian(zoo)
        zoo.host = Host.start(child=ANIMALS)


def show(seconds: Iterable[float]) -> None:
    times = sorted(seconds)
    print(f"gone after {times[len(times) // 2] * 1000:.0f} ms (median), {times[-1] * 1000:.0f} ms (most)")  # noqa: T201


def test_program_that_ends_takes_its_processes_along(mark: str) -> None:
    with start(PROGRAM) as program:
        assert program.wait(20) == 0
        wait_until(lambda: not marked(mark), BOUND)


@pytest.mark.parametrize("delay", [0, 0.03, 0.2])
def test_program_killed_during_its_first_launch_leaves_nothing(mark: str, delay: float) -> None:
    program = f"""
import time
from lightactors.processes import Limits
from lightactors.processes.guardian import PATIENCE
from lightactors.processes.host import Host

host = Host.start(child={ANIMALS!r})
processes = [host.launch("", Limits()) for _ in range(4)]
print("ready", flush=True)
time.sleep(60)
"""
    with start(program) as running:
        time.sleep(delay)
        running.kill()
        wait_until(lambda: set(marked(mark)) <= {running.pid}, BOUND)


def test_middle_is_reported_when_what_it_launched_is_gone(zoo: Zoo) -> None:
    middle = zoo.let_in("middle", ["forks_on_and_on", "has_child_in_session"])
    middle.process.kill()
    assert middle.exit() == Exit(signal=signal.SIGKILL)
    assert zoo.descendants() == []


def test_process_that_ends_by_itself_is_swept(zoo: Zoo) -> None:
    beast = zoo.let_in("leaves", 3)
    assert beast.exit() == Exit(code=3)
    assert zoo.descendants() == []


def test_sweep_spares_what_others_own(zoo: Zoo) -> None:
    bystander = zoo.let_in("has_child_in_session")
    before = zoo.descendants()
    for _ in range(20):
        zoo.let_in("leaves", 0).exit()
    assert zoo.descendants() == before
    assert not bystander.is_gone()


def test_launches_and_ends_at_once_do_not_meet(zoo: Zoo) -> None:
    """A child that is just born is not taken for a stranger while another's orphans are swept."""
    gone = [zoo.send_for("leaves", 0) for _ in range(20)]
    staying = [zoo.send_for("plain") for _ in range(20)]
    for beast in gone + staying:
        assert beast.hear() == b"ready"
    for beast in gone:
        assert beast.exit() == Exit(code=0)
    assert not any(beast.is_gone() for beast in staying)


def test_next_launch_replaces_a_killed_forkserver(zoo: Zoo) -> None:
    first = zoo.let_in("plain")
    forkserver = zoo.forkserver()
    forkserver.kill()
    forkserver.wait(20)
    second = zoo.let_in("plain")
    assert not first.is_gone()
    assert not second.is_gone()


def test_launch_under_way_fails_with_the_forkserver(zoo: Zoo) -> None:
    zoo.let_in("plain")
    forkserver = zoo.forkserver()
    forkserver.suspend()
    beast = zoo.launch()
    forkserver.kill()
    failed = beast.launched()
    assert isinstance(failed, LaunchFailed)
    assert "the forkserver was ended by signal 9" in str(failed)


def test_program_survives_a_client_that_does_not_keep_the_protocol(zoo: Zoo) -> None:
    for packet in ("no json", "[]", "[" * 20_000, '{"do": "launch"}', '{"do": "signal", "child": 1, "number": 4000}'):
        zoo.let_in("babbles", packet)
    assert not zoo.let_in("plain").is_gone()


def test_guardian_ignores_what_is_meant_for_the_program(zoo: Zoo) -> None:
    beast = zoo.let_in("plain")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(zoo.guardian(), number)
    assert not zoo.let_in("plain").is_gone()
    assert not beast.is_gone()
    assert psutil.Process(zoo.guardian()).terminal() is None


FREEZER = Path("/sys/fs/cgroup/freezer")


def _is_removed(group: Path) -> bool:
    """Remove a group, which the kernel may hold a moment longer than its processes."""
    try:
        group.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


@pytest.fixture
def frozen(zoo: Zoo) -> Generator[Beast]:
    """A process that the kernel holds on to: SIGKILL waits until it is thawed."""
    beast = zoo.let_in("plain")
    group = FREEZER / zoo.mark
    group.mkdir()
    (group / "cgroup.procs").write_text(str(beast.process.pid))
    (group / "freezer.state").write_text("FROZEN")
    yield beast
    (group / "freezer.state").write_text("THAWED")
    wait_until(lambda: not zoo.descendants())
    wait_until(lambda: _is_removed(group))


@pytest.mark.skipif(not os.access(FREEZER, os.W_OK), reason="needs a cgroup freezer of the first kind, and root")
def test_process_that_sigkill_does_not_end_is_given_up_and_named(frozen: Beast, zoo: Zoo) -> None:
    frozen.process.kill()
    assert frozen.exit(PATIENCE + 1) == Exit(survivors=(frozen.process.pid or 0,))
    beast = zoo.let_in("has_child_in_session")
    beast.process.kill()
    assert beast.exit(1) == Exit(signal=signal.SIGKILL)
