"""Each example is run as a reader runs it, and so are the README's programs."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(*command: str | Path, cwd: Path | None = None, tracebacks: int = 0) -> str:
    """Run a Python program, with warnings as errors, and return what it printed; it may log so many tracebacks."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "120"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("Traceback") == tracebacks, done.stderr
    return done.stdout


def test_counter() -> None:
    assert run(EXAMPLES / "01_counter.py").splitlines()[:2] == ["42", "50"]


def test_threads() -> None:
    assert "2262 primes" in run(EXAMPLES / "02_threads.py")


def test_behaviour() -> None:
    assert "Good morning, Ada!" in run(EXAMPLES / "03_behaviour.py")


def test_supervision() -> None:
    output = run(EXAMPLES / "04_supervision.py", tracebacks=1)
    assert output.splitlines()[0] == "found 2"
    assert "while it handled Miner.dig('granite')" in output


def test_processes() -> None:
    output = run(EXAMPLES / "05_processes.py")
    assert output.splitlines()[0] == "killed, and again there: 285"
    assert "was killed by SIGKILL" in output


def test_client_server(tmp_path: Path) -> None:
    example = EXAMPLES / "07_client_server.py"
    assert "the best is 96, with a mean reward of -4" in run(example)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"LIGHTACTORS_TOKEN_FILE": str(tmp_path / "tokens"), "LIGHTACTORS_SERVER_PORT": str(port)}
    environment = {**os.environ, **shared, "LIGHTACTORS_CURRENT_ROLE": "runner"}
    runner = subprocess.Popen([sys.executable, example], env=environment, stderr=subprocess.PIPE, text=True)
    with runner:
        assert runner.stderr is not None
        assert "there is no token file" in runner.stderr.readline()  # it is there, and waits
        environment["LIGHTACTORS_CURRENT_ROLE"] = "algorithm"
        done = subprocess.run(
            [sys.executable, example], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        runner.communicate(timeout=60)
    assert "the best is 96" in done.stdout
    assert runner.returncode == 0


def test_nodes() -> None:
    example = EXAMPLES / "08_nodes.py"
    with subprocess.Popen([sys.executable, example, "serve"], stdout=subprocess.PIPE, text=True) as arena:
        assert arena.stdout is not None
        assert arena.stdout.readline() == "listening at grpc://127.0.0.1:4748\n"
        output = run(example)
        arena.terminate()
    assert "Bob's best: 9.0" in output
    assert output.splitlines()[-2:] == ["Bob    9.0", "Ada    7.0"]
    assert arena.returncode == 143


def test_resume() -> None:
    output = run(EXAMPLES / "09_resume.py")
    assert output.startswith("first run: ")
    assert re.search(r"^succeeded +\d+$", output, re.MULTILINE)
    assert output.splitlines()[-1] == "in all 2470.0"
    second = re.search(r"^second run: (.*)$", output, re.MULTILINE)
    assert second is not None
    assert 11 <= len(second[1].split()) < 20


def test_shared_weights() -> None:
    put, *loaded, shared, left = run(EXAMPLES / "10_shared_weights.py").splitlines()
    assert put.startswith("put 256 MiB in ")
    assert [line.partition(": ")[2] for line in loaded] == ["row 7 sums to 131,072"] * 4
    assert shared == "4 processes read 1.0 copies"
    assert left == "when the last of them has ended, 0 objects are left"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cartpole_is_solved_and_its_curve_drawn(backend: str, tmp_path: Path) -> None:
    output = run(EXAMPLES / "train_cartpole.py", "--backend", backend, cwd=tmp_path)

    assert re.search(r"^solved after \d+ generations", output, re.MULTILINE), output
    assert (tmp_path / "cartpole.png").read_bytes().startswith(b"\x89PNG")


def test_cartpole_says_when_it_did_not_solve_it(tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, EXAMPLES / "train_cartpole.py", "--generations", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 1
    assert "not solved after 1 generations" in done.stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_prompt_gets_better(backend: str) -> None:
    output = run(EXAMPLES / "optimise_prompt.py", "--backend", backend)

    assert "no examples: 50%" in output
    assert "examples: 100%, 100% on unseen reviews" in output


def test_every_example_is_run_here() -> None:
    source = Path(__file__).read_text()
    assert [example.name for example in EXAMPLES.glob("*.py") if example.name not in source] == []


def programs() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(programs())))
def test_program_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(programs()[number])

    # A failure that a program shows is logged, with its traceback, when the actor is started again.
    assert run(program, cwd=tmp_path, tracebacks=programs()[number].count("raise "))


def test_readme_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
