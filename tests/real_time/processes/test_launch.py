"""What a launched process finds, says at its end, and leaves in the program that launched it."""

from __future__ import annotations

import errno
import gc
import itertools
import json
import os
import pwd
import resource
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from lightactors.errors import ConfigurationError, LaunchFailed
from lightactors.processes import Exit, Limits, host
from lightactors.processes.guardian import PATIENCE
from tests.real_time.processes import zoo as zoos
from tests.real_time.processes.animals import FLAGS
from tests.real_time.processes.zoo import Zoo, marked, wait_until

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may change user")


def facts(zoo: Zoo, limits: Limits | None = None) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(zoo.send_for("tells", limits=limits).hear())
    return told


def test_process_is_the_guardians_and_leads_a_group(zoo: Zoo) -> None:
    beast = zoo.send_for("tells")
    told = json.loads(beast.hear())
    assert told["pid"] == beast.launched() == beast.process.pid == told["group"]
    assert told["parent"] == zoo.guardian()


def test_process_has_no_descriptor_that_is_not_its_own(zoo: Zoo) -> None:
    inheritable = os.open("/", os.O_RDONLY)
    os.set_inheritable(inheritable, True)
    zoo.let_in("plain")
    files = facts(zoo)["files"]
    os.close(inheritable)
    kinds = sorted(target.partition(":")[0] for target in files.values() if target)
    assert kinds == ["/dev/null", "pipe", "pipe", "socket", "socket"]
    assert files["0"] == "/dev/null"


def test_process_handles_signals_as_a_new_interpreter_does(zoo: Zoo) -> None:
    told = facts(zoo)
    assert told["signals"] == [str(signal.SIG_DFL)] * 3
    assert told["interrupts"]
    assert told["blocked"] == 0


def test_process_has_the_programs_interpreter_environment_and_directory(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    zoo.let_in("plain")
    monkeypatch.setenv("SET_LATER", "ä\udcff")
    monkeypatch.delenv("PATH")
    monkeypatch.chdir(tmp_path)
    told = facts(zoo, Limits(environment={"MORE": "1"}))
    assert told["environment"] == {**os.environ, "MORE": "1"}
    assert told["directory"] == str(tmp_path)
    assert told["path"] == sys.path
    assert told["flags"] == {name: getattr(sys.flags, name) for name in FLAGS}


@pytest.mark.parametrize(
    ("name", "arguments", "exit", "output", "error"),
    [
        ("ends", ["return"], Exit(code=0), "no newlineat exit\n", ""),
        ("ends", ["text"], Exit(code=1), "", "the last words\n"),
        ("leaves", [7], Exit(code=7), "", ""),
    ],
)
def test_process_ends_as_a_program_does(
    zoo: Zoo, name: str, arguments: list[object], exit: Exit, output: str, error: str
) -> None:
    beast = zoo.send_for(name, *arguments)
    assert beast.exit() == exit
    assert beast.output() == (output, error)


def test_error_of_a_process_is_printed_and_its_exit_code_is_1(zoo: Zoo) -> None:
    beast = zoo.send_for("ends", "raise")
    assert beast.exit() == Exit(code=1)
    assert beast.output()[1].endswith("RuntimeError: the child's own error\n")


def test_interrupted_process_ends_by_its_signal_without_a_traceback(zoo: Zoo) -> None:
    beast = zoo.let_in("plain")
    beast.process.signal(signal.SIGINT)
    assert beast.exit() == Exit(signal=signal.SIGINT)
    assert beast.output() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGRTMIN + 3])
def test_process_that_a_signal_ends_tells_which(zoo: Zoo, number: int) -> None:
    beast = zoo.let_in("plain")
    beast.process.signal(number)
    assert beast.exit() == Exit(signal=int(number))
    assert not zoo.let_in("plain").is_gone()


def test_signal_before_the_launch_waits_for_it(zoo: Zoo) -> None:
    beast = zoo.launch()
    beast.process.signal(signal.SIGTERM)
    assert isinstance(beast.launched(), int)
    assert beast.exit() == Exit(signal=signal.SIGTERM)


def test_kill_before_the_launch_holds(zoo: Zoo) -> None:
    beast = zoo.launch()
    beast.process.kill()
    launched = beast.launched()
    if isinstance(launched, int):  # on a busy machine the guardian may have heard of it a moment too late
        assert beast.exit() == Exit(signal=signal.SIGKILL)
    else:
        assert "was ended by signal 9 while it was set up" in str(launched)
    wait_until(lambda: not zoo.descendants())


def test_requests_to_a_process_that_is_gone_do_nothing(zoo: Zoo) -> None:
    beast = zoo.send_for("leaves", 0)
    beast.exit()
    beast.process.signal(signal.SIGTERM)
    beast.process.kill()
    zoo.host.close()
    beast.process.kill()


def test_who_asks_late_is_told_at_once(zoo: Zoo) -> None:
    beast = zoo.send_for("leaves", 0)
    beast.exit()
    told: list[object] = []
    beast.process.when_launched(told.append)
    beast.process.when_exited(told.append)
    assert told == [beast.process.pid, Exit(code=0)]


def test_error_of_who_is_told_does_not_keep_others_from_it(zoo: Zoo, caplog: pytest.LogCaptureFixture) -> None:
    process = zoo.let_in("plain").process
    told = threading.Event()
    process.when_exited(lambda _: [].pop())
    process.when_exited(lambda _: told.set())
    process.kill()
    assert told.wait(20)
    assert "pop from empty list" in caplog.text


def test_module_that_cannot_be_imported_is_named(mark: str) -> None:
    guardian = host.Host.start(child="no_such_module")
    told: list[object] = []
    process = guardian.launch("worker", Limits())
    process.when_launched(told.append)
    wait_until(lambda: told)
    guardian.close()
    for descriptor in (process.stdout, process.stderr, process.link.detach()):
        os.close(descriptor)
    assert str(told[0]).startswith("process 'worker' could not be started: the forkserver could not import")
    assert "no_such_module" in str(told[0])


def test_launch_by_a_forkserver_that_hangs_can_be_killed(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoos, "ANIMALS", "tests.real_time.processes.hangs")
    zoo = Zoo(mark)
    beast = zoo.launch()
    beast.process.kill()
    assert "the forkserver was ended by signal 9" in str(beast.launched(PATIENCE + 2))
    zoo.close()
    assert marked(mark) == {}


def test_nothing_is_left_open_by_processes_that_are_gone(zoo: Zoo) -> None:
    zoo.let_in("plain")
    gc.collect()  # what other tests have left open
    here, guardian, forkserver = psutil.Process(), psutil.Process(zoo.guardian()), zoo.forkserver()
    before = [process.num_fds() for process in (here, guardian, forkserver)]
    for number in range(30):
        beast = zoo.launch(limits=Limits(user="nobody_at_all") if number % 3 == 0 else None)
        beast.launched()
        beast.process.kill()
        if isinstance(beast.launched(), int):
            beast.exit()
        zoo.beasts.remove(beast)
        beast.close()
    gc.collect()
    assert [process.num_fds() for process in (here, guardian, forkserver)] == before


def test_launch_without_descriptors_says_so_and_leaves_none(zoo: Zoo) -> None:
    zoo.let_in("plain")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = psutil.Process().num_fds()
    taken = set(map(int, os.listdir("/proc/self/fd")))
    # The limit is on the numbers of descriptors: below it are three that are free.
    limit = next(number for number in itertools.count(1) if len(set(range(number)) - taken) == 3)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        with pytest.raises(LaunchFailed, match=r"'worker' could not be started: .*Too many open files"):
            zoo.host.launch("worker", Limits())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert psutil.Process().num_fds() == before


def test_threads_launch_at_once(zoo: Zoo) -> None:
    with ThreadPoolExecutor(8) as threads:
        beasts = list(threads.map(lambda number: zoo.launch(str(number)), range(32)))
    assert len({beast.launched() for beast in beasts}) == 32


PIDS = Path("/sys/fs/cgroup/pids")


@pytest.mark.skipif(not os.access(PIDS, os.W_OK), reason="needs a cgroup for pids of the first kind, and root")
@pytest.mark.parametrize("room", [1, 2])  # for the forkserver, and for the process between it and the child
def test_host_that_is_full_fails_the_launch_in_words(zoo: Zoo, room: int) -> None:
    zoo.let_in("plain")
    group = PIDS / zoo.mark
    group.mkdir()
    (group / "cgroup.procs").write_text(str(zoo.forkserver().pid))
    (group / "pids.max").write_text(str(room))
    failed = zoo.launch().launched()
    assert "the host lets no more processes start (Resource temporarily unavailable); raise `ulimit -u`" in str(failed)
    (group / "pids.max").write_text("max")
    assert isinstance(zoo.launch().launched(), int)
    zoo.host.close()
    group.rmdir()


def test_fork_of_the_program_does_not_hold_or_use_its_guardian(zoo: Zoo) -> None:
    beast = zoo.let_in("plain")
    if not (fork := os.fork()):
        code = 1
        try:
            beast.process.kill()
        except ConfigurationError:
            code = 0
        os._exit(code)
    assert os.waitpid(fork, 0)[1] == 0
    assert not beast.is_gone()


# Limits


def test_memory_beyond_the_limit_is_a_memory_error(zoo: Zoo) -> None:
    limits = Limits(memory=200 << 20)
    assert zoo.send_for("allocates", 400 << 20, limits=limits).hear() == b"MemoryError"
    assert zoo.send_for("allocates", 50 << 20, limits=limits).hear() == b"allocated"
    assert zoo.send_for("allocates", 400 << 20).hear() == b"allocated"


def test_files_beyond_the_limit_are_refused(zoo: Zoo) -> None:
    opened, number = json.loads(zoo.send_for("opens_files", limits=Limits(open_files=50)).hear())
    assert number == errno.EMFILE
    assert 40 <= opened < 50
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened, _ = json.loads(zoo.send_for("opens_files").hear())
    assert soft - 10 <= opened < soft


def test_niceness_is_set(zoo: Zoo) -> None:
    assert facts(zoo, Limits(niceness=7))["niceness"] == 7


@as_root
def test_process_runs_as_its_user_and_dies_with_its_guardian(zoo: Zoo) -> None:
    limits = Limits(user="nobody")
    told = facts(zoo, limits)
    nobody = pwd.getpwnam("nobody")
    assert told["user"] == nobody.pw_uid
    assert set(told["groups"]) == {nobody.pw_gid}
    assert told["environment"]["USER"] == "nobody"
    zoo.let_in("ignores_interrupt_and_terminate", limits=limits)
    os.kill(zoo.guardian(), signal.SIGKILL)
    wait_until(lambda: not marked(zoo.mark), 3.0)


@as_root
def test_process_that_is_not_root_cannot_launch_one_that_is(zoo: Zoo) -> None:
    beast = zoo.send_for("launches", "root", limits=Limits(user="nobody"))
    assert beast.hear() == b"process '' could not be started: a process of user 'nobody' can't start one of user 'root'"
    beast = zoo.send_for("launches", None, limits=Limits(user="nobody"))
    assert beast.hear() == b"launched"


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(user="nobody_at_all"), "user 'nobody_at_all' is unknown on this host"),
        (Limits(open_files=1 << 40), "open_files=1099511627776 is above the"),
        (Limits(environment={"BIG": "x" * (1 << 19)}), "Message too long"),
    ],
)
def test_what_the_host_does_not_allow_fails_the_launch_in_words(zoo: Zoo, limits: Limits, text: str) -> None:
    try:
        failed = zoo.launch("worker", limits).launched()
    except LaunchFailed as error:
        failed = error
    assert isinstance(failed, LaunchFailed)
    assert str(failed).startswith("process 'worker' could not be started: ")
    assert text in str(failed)
    assert zoo.descendants() == []
