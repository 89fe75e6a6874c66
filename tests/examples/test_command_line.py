"""The commands of the README, as they stand there but for the port and the host."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from lightactors.security import Tokens
from tests.real_time.cli.command import lightactors, running
from tests.remote.certificates import Authority

ROOT = Path(__file__).parents[2]


def blocks() -> list[list[str]]:
    section = (ROOT / "README.md").read_text().split("## From the command line")[1].split("\n## ")[0]
    return [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)]


def command(line: str, port: int) -> list[str]:
    """Return a line's arguments, at a port that is free and a host that exists."""
    line = line.replace("0.0.0.0:", "localhost:").replace("//host:", "//localhost:").replace("4747", str(port))
    program, *arguments = shlex.split(line, comments=True)
    assert program == "lightactors"
    return arguments


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "my_agents.py").write_text("def answer(task): return 1.0\n")
    return tmp_path


@pytest.mark.timeout(120)
def test_store_runners_status_and_stop(project: Path, port: int) -> None:
    serve, join, look, objects, end = (command(line, port) for line in blocks()[0])
    default = {"LIGHTACTORS_SERVER_PORT": f"{port}"}
    with (
        running(*serve, cwd=project, variables=default) as store,
        running(*join, cwd=project, variables=default) as runners,
    ):
        runners.says("run my_agents:answer")
        assert "MemoryStore: 0 rollouts" in lightactors(*look, cwd=project, variables=default).stdout
        assert lightactors(*objects, cwd=project, variables=default).returncode == 0
        assert lightactors(*end, cwd=project).stdout == f"store at grpc://127.0.0.1:{port} stops\n"
        assert store.process.wait(10) == 0
        assert runners.stop() == 0


@pytest.mark.timeout(120)
def test_store_and_runners_on_two_machines(project: Path, port: int) -> None:
    Authority(project).sign("host")
    serve, join = (command(line, port) for line in blocks()[1])
    with ExitStack() as commands:
        store = commands.enter_context(running(*serve, cwd=project))
        store.says("Ctrl-C stops it")
        subprocess.run("grep ^runner tokens > token && chmod 600 token", shell=True, cwd=project, check=True)
        assert Tokens.load(project / "token").roles == ("runner",)
        runners = commands.enter_context(running(*join, cwd=project))
        runners.says("run my_agents:answer")
        assert runners.stop() == 0
        assert store.stop() == 0


def test_what_looks_into_a_store_on_a_disk(project: Path) -> None:
    section = (ROOT / "README.md").read_text().split("## Nothing is lost")[1].split("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (project / "program.py").write_text(program)
    subprocess.run([sys.executable, "program.py"], cwd=project, check=True)
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    printed = [lightactors(*command(line, 0), cwd=project) for line in block.splitlines()]
    assert [done.returncode for done in printed] == [0] * 5, printed
    assert printed[0].stdout.startswith("run.db: 100 rollouts, ")
    assert [done.stdout.split()[0] for done in printed[1:]] == ["rollout", "wrote", "removed", "nothing"]
