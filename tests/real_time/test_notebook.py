"""Notebooks: actors live on from cell to cell, a cell may be run again, and an interrupt ends a cell and no actor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]

COUNTER = """
import anyio, time
import lightactors as la

@la.actor
class Counter:
    def __init__(self, value=0):
        self.value = value

    @la.handler
    def add(self, amount):
        self.value += amount
        return self.value

    @la.handler
    async def hold(self):
        await anyio.sleep(60)

    @la.handler
    async def count(self):
        for number in range(1000):
            yield number
"""


INTERRUPT = """
import os, signal, threading
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()  # what the button does
"""


class Notebook:
    """A kernel that runs one cell after another."""

    def __init__(self, client: nbclient.NotebookClient) -> None:
        self.client = client

    def run(self, source: str) -> str:
        """Run a cell and return the text of its value and of what it printed."""
        cell = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
        self.client.nb.cells.append(cell)
        self.client.execute_cell(cell, len(self.client.nb.cells) - 1)
        texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell["outputs"]]
        return "".join(texts)


@pytest.fixture(scope="module")
def notebook() -> Iterator[Notebook]:
    notebook = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    client = nbclient.NotebookClient(notebook, timeout=30, kernel_name="python3")
    manager: Any = client.create_kernel_manager()
    manager.kernel_spec.argv[0] = sys.executable
    client.start_new_kernel(cwd=str(ROOT))
    client.start_new_kernel_client()
    try:
        opened = Notebook(client)
        opened.run(COUNTER)
        yield opened
    finally:
        client._cleanup_kernel()  # noqa: SLF001 (the public way is to run the whole notebook at once)


def test_actor_lives_on_from_cell_to_cell(notebook: Notebook) -> None:
    notebook.run("across = await la.spawn(Counter, 1)")
    assert notebook.run("await across.add(2)") == "3"
    assert notebook.run("await across.add.tell(2)") == ""
    assert notebook.run("await across.add(0)") == "5"


def test_cell_run_again_finds_the_live_actor_by_its_name(notebook: Notebook) -> None:
    spawn = "counter = await la.options(name='again').spawn(Counter, 1)"
    notebook.run(spawn)
    notebook.run("await counter.add(1)")
    notebook.run(COUNTER)  # the class is another object now
    notebook.run(spawn)
    assert notebook.run("await counter.add(1)") == "3"


def test_replace_starts_anew(notebook: Notebook) -> None:
    spawn = "counter = await la.options(name='anew', replace=True).spawn(Counter, 1)"
    notebook.run(spawn)
    notebook.run("await counter.add(1)")
    notebook.run(spawn)
    assert notebook.run("await counter.add(1)") == "2"


def test_stream_may_be_read_over_several_cells(notebook: Notebook) -> None:
    notebook.run("streaming = await la.spawn(Counter)\nstream = streaming.count()")
    assert notebook.run("[await anext(stream) for _ in range(3)]") == "[0, 1, 2]"
    assert notebook.run("[await anext(stream) for _ in range(3)]") == "[3, 4, 5]"
    assert notebook.run("await streaming.add(1)") == "1"


def test_actor_in_a_thread_lives_on_too(notebook: Notebook) -> None:
    notebook.run("threaded = await la.options(place='thread').spawn(Counter)")
    assert notebook.run("await threaded.add(1)") == "1"
    assert notebook.run("await la.stop(threaded)") == "<Rung.DRAIN: 1>"


def test_interrupted_cell_ends_its_wait_and_no_actor(notebook: Notebook) -> None:
    notebook.run("held = await la.spawn(Counter)\nother = await la.spawn(Counter, 5)")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match=r"KeyboardInterrupt|CancelledError"):
        notebook.run(INTERRUPT + "await held.hold()")
    assert notebook.run("await other.add(1)") == "6"
    assert notebook.run("await held.add(1)") == "1"


def test_failure_of_a_told_actor_is_logged_and_the_others_live(notebook: Notebook) -> None:
    notebook.run("failing = await la.spawn(Counter)\nsurvivor = await la.spawn(Counter)")
    notebook.run("await failing.add.tell('not a number')\nawait anyio.sleep(0.1)")
    assert notebook.run("la.is_running(failing), la.is_running(survivor)") == "(False, True)"


def test_ref_shows_itself_as_the_value_of_a_cell(notebook: Notebook) -> None:
    notebook.run("shown = await la.options(name='shown').spawn(Counter)")
    assert notebook.run("shown") == "<ref Counter local/shown#1 running>"


TRAINING = """
import lightactors as la

@la.agent
def guess(task: int, secret: bytes) -> float:
    return -abs(task - secret[0])

@la.algorithm
async def search(store: la.Store, train: la.Dataset[int]) -> None:
    results = await la.run_tasks(store, train, mode="train")
    await store.add_resources({"rewards": bytes(abs(int(result.reward)) for result in results)})

strategy = {"type": "cs", "main_process": SIDE}
trainer = la.Trainer(
    algorithm=search, agent=guess, initial_resources={"secret": bytes([7])}, strategy=strategy, port=0
)
await trainer.afit([7, 8, 9])
"""


@pytest.mark.parametrize("main_process", ["algorithm", "runner"])
def test_training_in_processes_takes_what_cells_define(notebook: Notebook, main_process: str) -> None:
    notebook.run(f"SIDE = {main_process!r}")
    notebook.run(TRAINING)
    rewards = notebook.run("(await trainer.store.get_latest_resources()).resources['rewards']")
    assert rewards == repr(bytes([0, 1, 2]))
