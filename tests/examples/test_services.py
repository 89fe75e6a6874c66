"""The example of typed services: its server, called as readers call it, from Python and from Node."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.test_examples import EXAMPLES, ROOT, run

EXAMPLE = EXAMPLES / "06_services"


class Server:
    """The example's server, as a process of its own."""

    def __init__(self) -> None:
        command = [sys.executable, str(EXAMPLE / "server.py"), "grpc://127.0.0.1:0"]
        env = {**os.environ, "PYTHONWARNINGS": "error"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        assert self.process.stdout is not None
        self.head = [self.process.stdout.readline().strip() for _ in range(3)]
        self.address = self.head[-1].removeprefix("at ")

    def stop(self) -> str:
        """Stop it as Ctrl-C does, and return what it has printed since it began to listen."""
        self.process.send_signal(signal.SIGINT)
        printed, errors = self.process.communicate(timeout=20)
        assert self.process.returncode == -signal.SIGINT, errors
        assert "Traceback" not in errors
        return printed


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.communicate()


GIVEN_UP = ["counted to 3 of 3", "counted to 1 of 1000", "nobody waits any more"]


def test_client_in_python_runs_a_rollout_and_calls_an_actor(server: Server) -> None:
    assert server.head[:2] == ["serving demo.v1.Counter", "serving lightactors.v1.Store"]
    assert run(EXAMPLE / "client.py", server.address).splitlines() == [
        "claimed What is 6 x 7? as attempt 1",
        "succeeded, with 12 tokens in span 'answer'",
        "counted python",
        "stream [1, 2, 3]",
        "error INTERNAL TooMuch",
        "deadline DEADLINE_EXCEEDED",
    ]
    assert server.stop().splitlines() == GIVEN_UP


@pytest.fixture
def node_client(tmp_path: Path) -> Path:
    """Install the client in JavaScript outside the repository."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("NOT TESTED: the client in JavaScript needs node and npm, which are not installed")
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    folder = tmp_path / "examples" / EXAMPLE.name
    folder.mkdir(parents=True)
    for name in ("client.js", "package.json", "counter.proto"):
        shutil.copy(EXAMPLE / name, folder)
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED: npm could not install the client in JavaScript: {done.stderr}")
    return folder


@pytest.mark.timeout(180)
def test_client_in_node_runs_a_rollout_and_calls_an_actor(server: Server, node_client: Path) -> None:
    command = ["node", "client.js", server.address]
    done = subprocess.run(command, cwd=node_client, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "claimed What is 6 x 7? as attempt 1",
        "succeeded, with 12 tokens in span 'answer'",
        "counted node",
        "stream [ 1, 2, 3 ]",
        "error INTERNAL TooMuch: 2 and 10000000 is more than a million",
        "cancelled CANCELLED",
        "deadline DEADLINE_EXCEEDED",
    ]
    assert server.stop().splitlines() == GIVEN_UP


def test_proto_file_of_the_example_is_up_to_date() -> None:
    check = "from lightactors.services.protogen import write; write('server:Counter', 'counter.proto', check=True)"
    run("-c", check, cwd=EXAMPLE)
