"""The help: every command's, at 80 columns, with an example and nothing cut."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

import lightactors
from lightactors.cli.app import app
from lightactors.cli.exits import Exit

COMMANDS = [
    "store",
    "store show",
    "store export",
    "store prune",
    "store migrate",
    "runner",
    "run",
    "status",
    "objects",
    "stop",
    "protogen",
]


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], prog_name="lightactors")
    assert result.exit_code == 0, result.output
    return result.output


def test_help_lists_the_commands_each_with_its_whole_first_sentence() -> None:
    listed = re.search(r"Commands:\n(.*?)\n\n", help_of(), re.DOTALL)
    assert listed is not None
    lines = listed[1].splitlines()
    assert [re.split(r"  +", line.strip())[0] for line in lines] == COMMANDS
    assert all(line.endswith(".") and not line.endswith("...") for line in lines), lines


def test_help_has_the_table_of_exit_codes() -> None:
    text = help_of()
    for exit in Exit:
        assert re.search(rf"^ +{exit.value}  {re.escape(exit.meaning)}$", text, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_fits_and_has_an_example(command: str) -> None:
    text = help_of(*command.split())
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"Usage: lightactors {command} ")
    assert re.search(rf"^  Examples?:\n    lightactors {command}\b", text, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    bare = re.findall(r"^  (-\S*[^\n]*?)(?:\n  -|\n\n)", help_of(*command.split()), re.MULTILINE)
    assert [line for line in bare if "  " not in line and "\n" not in line] == []


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output == f"lightactors {lightactors.__version__}\n"
