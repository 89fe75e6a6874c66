"""`lightactors protogen`: to standard output, to a file, and compared with one."""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from lightactors.cli import main
from lightactors.cli.exits import Exit

ACTORS = """
import lightactors as la

@la.actor
class Counter:
    @la.handler
    def add(self, amount: int) -> int:
        return amount

number = 7
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    (tmp_path / "shop.py").write_text(ACTORS)
    path = list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("shop", None)


def protogen(capsys: pytest.CaptureFixture[str], *arguments: str, exit: Exit = Exit.OK) -> tuple[str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["protogen", *arguments])
    output, errors = capsys.readouterr()
    assert ended.value.code == exit, errors
    return output, errors


def test_without_a_file_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output, errors = protogen(capsys, "shop:Counter", "--package", "demo.v1")
    assert "package demo.v1;" in output
    assert "rpc Add(" in output
    assert errors == ""


def test_file_is_written_and_then_up_to_date(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    assert protogen(capsys, "shop:Counter", "-o", "counter.proto") == ("", "lightactors: wrote counter.proto\n")
    assert "rpc Add(" in (project / "counter.proto").read_text()
    assert "nothing changes" in protogen(capsys, "shop:Counter", "-o", "counter.proto")[1]
    protogen(capsys, "shop:Counter", "-o", "counter.proto", "--check")


def test_check_fails_for_a_file_that_is_missing_or_differs(capsys: pytest.CaptureFixture[str], project: Path) -> None:
    output, errors = protogen(capsys, "shop:Counter", "-o", "counter.proto", "--check", exit=Exit.FAILED)
    assert errors.startswith("lightactors: counter.proto is not there; run `lightactors protogen shop:Counter")

    protogen(capsys, "shop:Counter", "-o", "counter.proto")
    file = project / "counter.proto"
    file.write_text(file.read_text().replace("amount", "number"))
    output, errors = protogen(capsys, "shop:Counter", "-o", "counter.proto", "--check", exit=Exit.FAILED)
    assert len(errors.splitlines()) == 1
    assert "+  int64 amount" in output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["shop:number"], "shop:number is 7, and no class"),
        (["shop:Countre"], "did you mean 'Counter'?"),
        (["shop:Counter", "--check"], "--check is about a file; give it with -o FILE"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str) -> None:
    _, errors = protogen(capsys, *arguments, exit=Exit.USAGE)
    assert complaint in errors
