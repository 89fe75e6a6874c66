"""Runners from the command line join the execution of a trainer, and leave with it."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from lightactors.cli.exits import Exit
from tests.real_time.cli.command import running

TRAIN = """
import lightactors as la
from crew.agents import answer

if __name__ == "__main__":
    print([result.reward for result in la.Trainer(agent=answer).run([1, 2, 3])])
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def test_runners_join_a_trainer_and_leave_with_it(project: Path) -> None:
    (project / "train.py").write_text(TRAIN)
    port = free_port()
    play = ["run", "--strategy", "cs", "--role", "algorithm", "--port", f"{port}", "train.py"]
    join = ["runner", "--store", f"grpc://localhost:{port}", "--agent", "crew.agents:answer", "-n", "2", "--once"]
    with running(*play, cwd=project, variables={"LIGHTACTORS_TOKEN_FILE": "tokens"}) as trainer:
        while not (project / "tokens").exists():
            assert trainer.process.poll() is None, trainer.errors
            time.sleep(0.05)
        with running(*join, "--token-file", "tokens", cwd=project) as runners:
            assert trainer.process.wait(30) == 0, trainer.errors
            assert trainer.output == "[2.0, 4.0, 6.0]\n"
            assert runners.process.wait(10) == Exit.OK, runners.errors
            assert "Traceback" not in runners.errors
