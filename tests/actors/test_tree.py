"""The tree can be looked at: who has spawned whom, what they did, and what went wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lightactors as la
from lightactors.errors import ActorFailed
from lightactors.testing import Gate
from tests.actors.cast import Oops, Porter


@la.actor
class Branch:
    """An actor with children."""

    def __init__(self, *names: str) -> None:
        self.names = names

    async def on_start(self) -> None:
        for name in self.names:
            await la.options(name=name).spawn(Porter)


async def test_tree_is_drawn_with_what_each_actor_did() -> None:
    gate = Gate()
    async with la.open_system("home") as system:
        await system.options(name="first").spawn(Branch, "a", "b")
        porter = await system.options(name="second").spawn(Porter)
        await porter.note(1)
        with pytest.raises(Oops):
            await porter.fail(Oops("no"))
        await porter.hold.tell(gate)
        await gate.reached()
        await porter.note.tell(2)
        await porter.note.tell(3)
        drawing = str(system.tree())
        gate.open()

    assert drawing.splitlines() == [
        "home (system)",
        "├── first (Branch)   running, 0 handled",
        "│   ├── a (Porter)   running, 0 handled",
        "│   └── b (Porter)   running, 0 handled",
        "└── second (Porter)  running, 2 queued, 3 handled, 1 failed, last error Oops: no",
    ]


FIGURES = la.Statistics(
    name="w",
    state="running",
    place="task",
    mailbox=0,
    capacity=1000,
    senders_waiting=0,
    interleaved=0,
    handled=0,
    failed=0,
    restarts=0,
    children=0,
)


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"handled": 12_345}, "running, 12,345 handled"),
        ({"place": "thread"}, "running, thread, 0 handled"),
        ({"mailbox": 1000, "senders_waiting": 1}, "running, 1,000 queued, 1 sender waiting, 0 handled"),
        ({"interleaved": 2}, "running, 2 interleaved, 0 handled"),
        ({"restarts": 1}, "running, 0 handled, restarted once"),
        ({"restarts": 2}, "running, 0 handled, restarted twice"),
        ({"restarts": 3, "failed": 4}, "running, 0 handled, 4 failed, restarted 3 times"),
        (
            {"place": "process", "process": la.ProcessFigures(42, 0.0, 1.23, 34 * 2**20)},
            "running, process 42 (1.2 s CPU, 34 MiB), 0 handled",
        ),
        (
            {"place": "process", "process": la.ProcessFigures(42, 0.0, 0, 0, "was killed by SIGKILL")},
            "running, process 42 was killed by SIGKILL, 0 handled",
        ),
    ],
)
def test_line_says_only_what_there_is_to_say(facts: dict[str, Any], line: str) -> None:
    assert str(la.Tree("w", "Worker", replace(FIGURES, **facts), None, [])) == f"w (Worker)  {line}"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError(), "ValueError"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (KeyError("x"), "KeyError: 'x'"),
        (ActorFailed("Oops: no"), "Oops: no"),
        (ValueError("x" * 500), f"ValueError: {'x' * 47}…"),
        (Mute(), "Mute: (its text can't be had: __str__ raised)"),
    ],
)
def test_error_is_shown_in_short(error: Exception, shown: str) -> None:
    assert str(la.Tree("w", "Worker", FIGURES, error, [])).endswith(f"last error {shown}")


def test_whatever_it_is_called_an_actor_has_one_line() -> None:
    leaves = [la.Tree("a\nb\x1b[2J", "Worker", FIGURES, None, []) for _ in range(2)]
    assert la.Tree("w", "Worker", FIGURES, None, leaves).lines()[1:] == [
        "├── a�b�[2J (Worker)  running, 0 handled",
        "└── a�b�[2J (Worker)  running, 0 handled",
    ]


def test_long_name_does_not_push_the_others_away() -> None:
    tree = la.Tree("w", "Worker", FIGURES, None, [la.Tree("x" * 100, "Worker", FIGURES, None, [])])
    assert tree.lines()[0] == "w (Worker)  running, 0 handled"


def test_readme_shows_a_tree_as_it_is_drawn() -> None:
    def line(name: str, *children: la.Tree, error: Exception | None = None, **facts: Any) -> la.Tree:
        seen: Any = facts.pop("seen", "inside")
        return la.Tree(name, name.title(), replace(FIGURES, **facts), error, list(children), seen)

    baker, customer = (la.ProcessFigures(4242, 0, 0.3, 31 * 2**20), la.ProcessFigures(4243, 0, 0.2, 30 * 2**20))
    till = line("till", error=ValueError("no such coin"), handled=1204, failed=1)
    baking = line("baker", line("oven", handled=12), process=baker, mailbox=2, handled=12, restarts=1)
    silent = line("customer", process=customer, handled=3, seen="silent")
    shop = la.Tree("shop", "system", None, None, [till, baking, silent])
    assert f"```\n{shop}\n```" in (Path(__file__).parents[2] / "README.md").read_text()


async def test_tree_is_a_snapshot_of_facts() -> None:
    async with la.open_system("home") as system:
        branch = await system.options(name="branch").spawn(Branch, "leaf")
        tree = system.tree()
        await la.stop(branch)

        assert (tree.name, tree.kind, tree.statistics) == ("home", "system", None)
        (child,) = tree.children
        assert child.statistics is not None
        assert child.statistics.children == 1
        assert [leaf.name for leaf in child.children] == ["leaf"]
        assert system.tree().children == []
