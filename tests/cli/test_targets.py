"""What `package.module:attribute` stands for, and what is said where it stands for nothing."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from lightactors.cli.exits import CommandError
from lightactors.cli.targets import load, load_agent


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A directory with a user's modules, which is the current one."""
    (tmp_path / "crew").mkdir()
    (tmp_path / "crew/__init__.py").touch()
    (tmp_path / "crew/agents.py").write_text(
        "class Team:\n    @staticmethod\n    def answer(task): return 1.0\n\ndef answer(task): return 1.0\nnumber = 7\n"
    )
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "needy.py").write_text("import surely_not_installed\n")
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def complaint(target: str) -> str:
    with pytest.raises(CommandError) as caught:
        load_agent(target)
    return str(caught.value)


def test_agent_of_the_current_directory_is_found() -> None:
    agent = load_agent("crew.agents:answer")
    assert callable(agent)
    assert agent(None) == 1.0


def test_attribute_may_be_nested() -> None:
    assert load("crew.agents:Team.answer", example="")(None) == 1.0


@pytest.mark.parametrize("target", ["crew.agents", "crew.agents:", ":answer", "crew agents:answer", ""])
def test_form_is_explained(target: str) -> None:
    assert "is not of the form package.module:agent" in complaint(target)


@pytest.mark.parametrize("target", ["crew/agents.py:answer", "./crew/agents.py:answer"])
def test_who_gives_a_file_is_told_its_module(target: str) -> None:
    assert complaint(target).endswith("for that file it would be crew.agents:answer")


def test_missing_module_is_named_with_what_is_near(project: Path) -> None:
    text = complaint("crew.agent:answer")
    assert f"there is no module 'crew.agent' in {project}" in text
    assert text.endswith("did you mean 'crew.agents'?")
    assert "did you mean 'crew'" in complaint("crw.agents:answer")


def test_module_inside_a_module_is_missing() -> None:
    assert "there is no module 'crew.agents.more'" in complaint("crew.agents.more:answer")


def test_missing_import_of_a_module_is_told_from_a_missing_module() -> None:
    assert complaint("needy:answer") == (
        "module 'needy' can't be imported: it imports 'surely_not_installed', which is missing"
    )


def test_module_that_fails_says_how() -> None:
    assert complaint("broken:answer") == "module 'broken' can't be imported: ZeroDivisionError: division by zero"


def test_missing_attribute_is_named_with_what_is_near() -> None:
    assert complaint("crew.agents:answr") == "module 'crew.agents' has no 'answr'; did you mean 'answer'?"
    assert "has no 'answers'; did you mean 'answer'?" in complaint("crew.agents:Team.answers")


def test_what_is_no_agent_is_refused() -> None:
    assert complaint("crew.agents:number").startswith("crew.agents:number: 7 is no agent")
