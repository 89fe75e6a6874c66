"""The tree can be looked at: who has spawned whom, what they did, and what went wrong."""

from __future__ import annotations

import pytest

import lightactors as la
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
        "├── first (Branch): running, 0 handled",
        "│   ├── a (Porter): running, 0 handled",
        "│   └── b (Porter): running, 0 handled",
        "└── second (Porter): running, 2 queued, 3 handled, last error Oops('no')",
    ]


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
