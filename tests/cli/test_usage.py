"""What is typed wrongly is told in one line on standard error, with the exit code for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lightactors.cli import main
from lightactors.cli.exits import Exit


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str, exit: Exit = Exit.USAGE) -> str:
    """Return the line that a command is refused with."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (exit, "")
    (line,) = errors.splitlines()
    assert line.startswith("lightactors: ")
    return line.removeprefix("lightactors: ")


def test_unknown_command_is_named_with_what_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "stope").startswith("no such command 'stope'")


def test_unknown_option_says_whose_help_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "store", "--foo") == "no such option: --foo; see 'lightactors store --help'"


def test_missing_agent(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "runner").startswith("missing option '--agent'")


@pytest.mark.parametrize(
    "arguments", [["store", "--grace", "-1"], ["runner", "--agent", "a:b", "-n", "0"], ["run", "--port", "70000", "x"]]
)
def test_numbers_out_of_range(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert refusal(capsys, *arguments).startswith("invalid value for ")


def test_without_a_command_the_help_is_shown_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == Exit.USAGE
    assert "Commands:" in capsys.readouterr().err


def test_missing_script(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refusal(capsys, "run", "train.py") == (
        f"there is no file 'train.py' in {tmp_path}; give the path of a script, or say -m train.py"
    )
    assert "is a directory without a __main__.py" in refusal(capsys, "run", ".")
    assert "there is no module 'nowhere'" in refusal(capsys, "run", "-m", "nowhere.train")


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIGHTACTORS_DEBUG", "1")
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path / "nothing.py")])
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert errors.splitlines()[-1].startswith("lightactors: there is no file")


def test_without_typer_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("lightactors.cli.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == "lightactors: the command line needs typer: pip install 'lightactors[cli]'"
