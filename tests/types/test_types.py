"""What the type checkers say of our API, line by line.

mypy and pyright read the files in `cases/`, which are never run. A line with `# E: fragment` must bring an
error that contains the fragment, `# E(mypy): …` and `# E(pyright): …` speak to one checker, and every other
line must be clean.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

pytestmark = [pytest.mark.types, pytest.mark.timeout(300)]  # a checker with a cold cache reads our dependencies too

ROOT = Path(__file__).parents[2]
CASES = sorted(Path(__file__).with_name("cases").glob("*.py"))
EXPECTATION = re.compile(r"# E(?:\((?P<checker>mypy|pyright)\))?: (?P<fragment>.+?)(?=\s+# E|$)")

TextByLine: TypeAlias = Mapping[int, Sequence[str]]


def expectations(source: str, checker: str) -> TextByLine:
    """Read off the fragments that `checker` must say, by line."""
    fragments = defaultdict[int, list[str]](list)
    for number, line in enumerate(source.splitlines(), start=1):
        for match in EXPECTATION.finditer(line):
            if match["checker"] in (None, checker):
                fragments[number].append(match["fragment"])
    return fragments


def differences(expected: TextByLine, errors: TextByLine) -> list[str]:
    """Tell where the errors are not those expected; none is what we want."""
    missing = [
        f"line {line}: no error says {fragment!r}; there are {errors.get(line, [])}"
        for line, fragments in expected.items()
        for fragment in fragments
        if not any(fragment in error for error in errors.get(line, []))
    ]
    unexpected = [f"line {line}: {error}" for line in errors if line not in expected for error in errors[line]]
    return missing + unexpected


def output(*command: str) -> str:
    """Run a checker from the root, where its configuration is. It exits 1 when it found errors, and so may we."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        pytest.fail(done.stdout + done.stderr)
    return done.stdout


def mypy(files: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """Yield each error of mypy as file, line and message."""
    for line in output("mypy", "--output=json", *files).splitlines():
        found: dict[str, Any] = json.loads(line)
        if found["severity"] == "error":
            yield found["file"], found["line"], found["message"]


def pyright(files: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """Yield each error of pyright as file, line and message."""
    report = json.loads(output("pyright", "--pythonpath", sys.executable, "--outputjson", *files))
    assert report["summary"]["filesAnalyzed"] == len(files)  # files that its configuration excludes it skips silently
    for found in report["generalDiagnostics"]:
        if found["severity"] == "error":
            yield found["file"], found["range"]["start"]["line"] + 1, found["message"]


@pytest.fixture(scope="module", params=[mypy, pyright], ids=["mypy", "pyright"])
def checker(request: pytest.FixtureRequest) -> tuple[str, Mapping[Path, TextByLine]]:
    """A checker's name and its errors in all cases, found in one run."""
    check: Callable[[Sequence[str]], Iterator[tuple[str, int, str]]] = request.param
    errors: dict[Path, defaultdict[int, list[str]]] = {case: defaultdict(list) for case in CASES}
    for file, line, message in check([str(case.relative_to(ROOT)) for case in CASES]):
        errors[ROOT / file][line].append(message)
    return check.__name__, errors


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case_has_the_errors_it_says(case: Path, checker: tuple[str, Mapping[Path, TextByLine]]) -> None:
    name, errors = checker
    assert differences(expectations(case.read_text(), name), errors[case]) == []


def test_missing_error_is_a_difference() -> None:
    expected = expectations("f('1')  # E: int\n", "mypy")
    assert differences(expected, {}) == ["line 1: no error says 'int'; there are []"]


def test_error_with_other_words_is_a_difference() -> None:
    expected = expectations("f('1')  # E: int\n", "mypy")
    assert differences(expected, {1: ["no f"]}) == ["line 1: no error says 'int'; there are ['no f']"]


def test_unexpected_error_is_a_difference() -> None:
    assert differences(expectations("f(1)\n", "mypy"), {1: ["no f"]}) == ["line 1: no f"]


def test_expectation_may_speak_to_one_checker() -> None:
    source = "f('1')  # E(mypy): int  # E(pyright): str\n"
    assert expectations(source, "mypy") == {1: ["int"]}
    assert expectations(source, "pyright") == {1: ["str"]}
