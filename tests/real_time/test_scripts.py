"""Scripts, as users start and interrupt them: nothing is left behind, and nobody complains."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

ROOT = Path(__file__).parents[2]

HEADER = """
import contextlib, time, logging
import anyio
import lightactors as la

logging.basicConfig(format="%(message)s")


@la.actor
class Worker:
    def __init__(self, name="worker", other=None):
        self.name = name
        self.other = other

    async def on_start(self):
        await anyio.sleep(0)

    async def on_stop(self):
        await anyio.sleep(0)
        print(self.name, "stopped", flush=True)

    @la.handler
    def add(self, value):
        print(self.name, "got", value, flush=True)
        return value + 1

    @la.handler
    async def hold(self):
        print("ready", flush=True)
        await anyio.sleep(60)

    @la.handler(interleaved=True)
    async def stay(self):
        await anyio.sleep(60)

    @la.handler
    async def forward(self, value):
        await self.other.add.tell(value)

    @la.handler
    async def forward_to_stay(self):
        await self.other.stay.tell()

    @la.handler
    async def count(self):
        try:
            for item in range(1000):
                yield item
        finally:
            print("stream closed", flush=True)

    @la.handler
    def fail(self):
        raise ValueError("failed")


@la.actor
class Quiet:
    # No hooks: it lives without a task of its own.
    @la.handler
    def add(self, value):
        return value + 1


"""

COMPLAINTS = ["never awaited", "never retrieved", "was destroyed", "ResourceWarning", "unraisable", "TrioInternalError"]

Script = Callable[[str], subprocess.Popen[str]]


@pytest.fixture(params=anyio.get_available_backends())
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Script:
    """Start a script whose `main()` runs on one of the loops, with every warning an error."""

    def start(body: str) -> subprocess.Popen[str]:
        path = tmp_path / "script.py"
        run = f'\n\nif __name__ == "__main__":\n    anyio.run(main, backend="{request.param}")\n'
        path.write_text(HEADER + textwrap.dedent(body) + run)
        return subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", str(path)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def outcome(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    try:
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    for complaint in COMPLAINTS:
        assert complaint not in errors, errors
    return process.returncode, output.splitlines(), errors


def test_actors_of_the_default_root_stop_when_the_script_ends(script: Script) -> None:
    process = script("""
        async def main():
            worker = await la.spawn(Worker)
            await la.spawn(Quiet)
            await worker.add(1)
    """)
    assert outcome(process) == (0, ["worker got 1", "worker stopped"], "")


def test_default_root_leaves_no_task_stream_or_thread_behind(script: Script) -> None:
    process = script("""
        async def main():
            worker = await la.spawn(Worker)
            threaded = await la.options(place="thread").spawn(Worker, "threaded")
            await threaded.add(1)
            stream = worker.count()
            await anext(stream)
            await worker.stay.tell()
            await anyio.sleep(0.1)
    """)
    status, output, errors = outcome(process)
    assert (status, errors) == (0, "")
    assert sorted(output) == ["stream closed", "threaded got 1", "threaded stopped", "worker stopped"]


@pytest.mark.parametrize("last_act", ["forward.tell(1)", "forward_to_stay.tell()"])
def test_tell_as_the_last_act_of_a_script_does_not_hold_up_its_end(script: Script, last_act: str) -> None:
    process = script(f"""
        async def main():
            last = await la.spawn(Worker, "last")
            middle = await la.spawn(Worker, "middle", last)
            await middle.{last_act}
    """)
    status, output, errors = outcome(process)
    assert status == 0
    assert {"last stopped", "middle stopped"} <= set(output)
    assert "did not finish" not in errors


def test_tells_that_the_loops_end_leaves_unhandled_are_reported(script: Script) -> None:
    process = script("""
        async def main():
            worker = await la.spawn(Worker)
            await worker.hold.tell()
            for number in range(3):
                await worker.add.tell(number)
            await anyio.sleep(0.1)
    """)
    assert outcome(process) == (
        0,
        ["ready", "worker stopped"],
        "when the event loop ended, 3 told messages had reached nobody\n",
    )


def test_failure_below_the_default_root_is_logged(script: Script) -> None:
    process = script("""
        async def main():
            worker = await la.spawn(Worker)
            await worker.fail.tell()
            await anyio.sleep(0.1)
    """)
    status, output, errors = outcome(process)
    assert (status, output) == (0, ["worker stopped"])
    assert "an actor failed, and no system was open that could raise it" in errors
    assert errors.count("ValueError: failed") == 1


def test_error_of_the_script_itself_stops_the_actors_too(script: Script) -> None:
    process = script("""
        async def main():
            worker = await la.spawn(Worker)
            await worker.add(1)
            raise RuntimeError("the script's own")
    """)
    status, output, errors = outcome(process)
    assert (status, output) == (1, ["worker got 1", "worker stopped"])
    assert "RuntimeError: the script's own" in errors


def test_script_may_run_loops_one_after_another(script: Script) -> None:
    process = script("""
        async def main():
            for _ in range(2):
                worker = await la.options(name="w").spawn(Worker)
                await worker.add(1)

        anyio.run(main, backend="asyncio")
    """)
    assert outcome(process) == (0, ["worker got 1", "worker got 1", "worker stopped"] * 2, "")


@pytest.mark.parametrize("root", ["default", "system"])
@pytest.mark.parametrize("place", ["task", "thread"])
def test_interrupted_script_stops_its_actors_and_ends(script: Script, root: str, place: str) -> None:
    opened = "la.open_system(grace=0.2)" if root == "system" else "contextlib.nullcontext()"
    process = script(f"""
        async def main():
            async with {opened}:
                worker = await la.options(place="{place}").spawn(Worker)
                child = await la.spawn(Worker, "younger")
                await child.stay.tell()
                await worker.add.tell(1)
                await worker.hold()
    """)
    assert process.stdout is not None
    for line in process.stdout:
        if line == "ready\n":
            break
    process.send_signal(signal.SIGINT)
    status, output, errors = outcome(process)

    assert status in (-signal.SIGINT, 128 + signal.SIGINT)
    assert sorted(output) == ["worker stopped", "younger stopped"]
    assert errors.endswith("\nlightactors: stopped by Ctrl-C\n")


def test_script_interrupted_in_a_blocking_handler_ends(script: Script) -> None:
    process = script("""
        @la.actor
        class Blocker:
            @la.handler
            def block(self):
                print("ready", flush=True)
                time.sleep(1.5)

        async def main():
            await la.spawn(Worker)
            blocker = await la.spawn(Blocker)
            await blocker.block()
            await anyio.sleep(60)
    """)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    status, output, errors = outcome(process)

    assert status in (-signal.SIGINT, 128 + signal.SIGINT)
    assert output == ["worker stopped"]
    assert errors.endswith("\nlightactors: stopped by Ctrl-C\n")
