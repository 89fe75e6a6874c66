"""`objects`, on programs that have an object store and on some that have none."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from lightactors.cli.exits import Exit
from lightactors.security import Tokens
from tests.real_time.cli.command import lightactors, refusal, running, surroundings

PROGRAM = """
import sys
import anyio
import numpy as np
import lightactors as la

@la.actor
class Keeper:
    @la.handler
    def keep(self, weights: np.ndarray) -> None:
        self.kept = weights

async def use() -> list[object]:
    keeper = await la.options(place="process", name="keeper").spawn(Keeper)
    await keeper.keep(np.ones(1_000_000))
    return [keeper, await la.put(b"x" * 2_000_000)]

async def main() -> None:
    tokens = la.Tokens.load("tokens") if sys.argv[3:] else None
    async with la.open_system("shop", listen=sys.argv[1], tokens=tokens) as system:
        used = await use() if sys.argv[2] == "used" else []
        print("open", flush=True)
        await anyio.sleep_forever()

if __name__ == "__main__":
    anyio.run(main)
"""


@contextmanager
def shop(folder: Path, *arguments: str) -> Iterator[tuple[str, psutil.Process]]:
    """A program that listens, and has used its object store or not."""
    (folder / "shop.py").write_text(PROGRAM)
    address = f"unix:{folder}/shop.sock"
    command = [sys.executable, "shop.py", address, *arguments]
    with subprocess.Popen(command, cwd=folder, env=surroundings(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()  # else `Popen` waits for it for ever when a test has failed


@pytest.fixture
def used(tmp_path: Path) -> Iterator[str]:
    with shop(tmp_path, "used") as (address, _):
        yield address


def test_who_holds_what_is_shown(used: str, tmp_path: Path) -> None:
    done = lightactors("objects", used, cwd=tmp_path)

    assert done.returncode == Exit.OK, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == used
    assert lines[2].startswith("object store: 2 objects, 9.5 MiB of ")
    pids = {line.split()[0]: line.split()[1] for line in lines if line.startswith("shop")}
    assert list(pids) == ["shop", "shop/keeper"]
    weights, text = (line.split()[1:] for line in lines[-2:])
    assert (weights[:2], weights[4:]) == (["7.6", "MiB"], [pids["shop"], pids["shop/keeper"]])
    assert (text[:2], text[4:]) == (["1.9", "MiB"], [pids["shop"], pids["shop"]])
    assert max(map(len, lines[1:])) <= 80


def test_objects_as_json(used: str, tmp_path: Path) -> None:
    facts = json.loads(lightactors("objects", used, "--json", cwd=tmp_path).stdout)

    assert [found["size"] for found in facts["object_store"]["objects"]] == [8_004_096, 2_004_096]
    assert facts["object_store"]["counters"]["puts"] == 2


def test_objects_are_watched_until_ctrl_c(used: str, tmp_path: Path) -> None:
    with running("objects", used, "--watch", "--interval", "0.1", cwd=tmp_path) as command:
        command.says("object store: 2 objects", times=2)
        assert command.stop(signal.SIGINT) == Exit.INTERRUPTED
    assert "Traceback" not in command.errors


def test_looking_founds_no_store(tmp_path: Path) -> None:
    with shop(tmp_path, "unused") as (address, program):
        done = lightactors("objects", address, cwd=tmp_path)
        assert (done.returncode, done.stdout.splitlines()[2].partition(":")[0]) == (Exit.OK, "no object store")
        assert program.children() == []


def test_viewer_may_look(tmp_path: Path) -> None:
    tokens = Tokens.new()
    tokens.save(tmp_path / "tokens")
    (tmp_path / "viewer").write_text(tokens.of("viewer"))
    (tmp_path / "viewer").chmod(0o600)
    with shop(tmp_path, "used", "tokens") as (address, _):
        done = lightactors("objects", address, "--token-file", "viewer", cwd=tmp_path)
        assert "object store: 2 objects" in done.stdout, done.stderr
        line = refusal(lightactors("objects", address, cwd=tmp_path), Exit.DENIED)
        assert line == f"{address} asks for a token; give --token-file FILE"


def test_nobody_there(tmp_path: Path) -> None:
    line = refusal(lightactors("objects", "grpc://127.0.0.1:1", cwd=tmp_path), Exit.UNREACHABLE)
    assert line.endswith("is it running?")
