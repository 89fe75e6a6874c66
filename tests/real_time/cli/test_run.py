"""`lightactors run` is Python with some variables more."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.real_time.cli.command import LIGHTACTORS, lightactors, surroundings

SCRIPT = """
import os, sys
import beside
print(__name__, __file__, sys.argv, sys.warnoptions)
print({name: value for name, value in os.environ.items() if name.startswith("LIGHTACTORS_") and "TEST" not in name})
sys.exit(7)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/train.py").write_text(SCRIPT)
    (tmp_path / "scripts/beside.py").touch()
    return tmp_path


def test_script_runs_as_python_runs_it(project: Path) -> None:
    done = lightactors("run", "scripts/train.py", "--epochs", "3", "--help", "-m", cwd=project)

    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == [
        f"__main__ {project}/scripts/train.py ['scripts/train.py', '--epochs', '3', '--help', '-m'] ['error']",
        "{}",
    ]


def test_settings_arrive_as_variables(project: Path) -> None:
    options = ["--strategy", "cs", "--role", "algorithm", "--host", "h", "--port", "0", "--backend", "trio"]
    options += ["--store", "run.db"]
    done = lightactors("run", *options, "scripts/train.py", cwd=project)

    assert done.stdout.splitlines()[1] == str(
        {
            "LIGHTACTORS_STRATEGY": "cs",
            "LIGHTACTORS_CURRENT_ROLE": "algorithm",
            "LIGHTACTORS_SERVER_HOST": "h",
            "LIGHTACTORS_SERVER_PORT": "0",
            "LIGHTACTORS_BACKEND": "trio",
            "LIGHTACTORS_TRAINER_STORE": "run.db",
        }
    )


def test_module_runs_as_python_runs_it(project: Path) -> None:
    done = lightactors("run", "-m", "scripts.train", "x", cwd=project)
    assert "No module named 'beside'" in done.stderr  # the current directory is on the path, not the module's

    (project / "beside.py").touch()
    done = lightactors("run", "-m", "scripts.train", "x", cwd=project)
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith(f"__main__ {project}/scripts/train.py ['{project}/scripts/train.py', 'x'] ['error']")


def test_traceback_is_the_scripts_alone(project: Path) -> None:
    (project / "fails.py").write_text("def main():\n    1 / 0\nmain()\n")
    done = lightactors("run", "fails.py", cwd=project)

    assert done.returncode == 1
    assert done.stderr.count("File ") == done.stderr.count("fails.py") == 2


def test_signals_are_the_scripts(project: Path) -> None:
    (project / "waits.py").write_text("import time\nprint('go', flush=True)\ntime.sleep(60)\n")
    with subprocess.Popen(
        [*LIGHTACTORS, "run", "waits.py"],
        cwd=project,
        env=surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)

    assert process.returncode == -signal.SIGINT
    assert errors.endswith("KeyboardInterrupt\n")


TRAINER = """
import lightactors as la

def main():
    trainer = la.Trainer(agent=lambda task: 1.0)
    print(type(trainer.strategy).__name__, trainer.strategy.backend, getattr(trainer.strategy, "server_port", None))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ([], "SharedMemoryExecutionStrategy asyncio None"),
        (["--strategy", "cs", "--port", "5123"], "ClientServerExecutionStrategy asyncio 5123"),
    ],
)
def test_trainers_that_do_not_say_take_what_the_options_say(project: Path, options: list[str], outcome: str) -> None:
    (project / "trainer.py").write_text(TRAINER)
    done = lightactors("run", *options, "trainer.py", cwd=project)
    assert done.stdout == f"{outcome}\n", done.stderr
