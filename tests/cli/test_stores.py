"""Commands that look into a store on a disk, and tidy it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

from lightactors.cli import exporting, main
from lightactors.cli.app import app
from lightactors.cli.exits import Exit
from lightactors.training.stores.opening import open_store
from lightactors.training.stores.sql import DurableStore, migrating, schema
from tests.cli.stored import add_finished, fill
from tests.users import nobody


@pytest.fixture
def run_db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fill(Path("run.db"))
    return tmp_path / "run.db"


def store(*arguments: str | Path) -> str:
    """Return what `lightactors store ...` prints."""
    result = CliRunner().invoke(app, ["store", *map(str, arguments)], prog_name="lightactors", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path, exit: Exit = Exit.USAGE) -> str:
    """Return the line that `lightactors store ...` is refused with."""
    with pytest.raises(SystemExit) as ended:
        main(["store", *map(str, arguments)])
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (exit, ""), errors
    (line,) = errors.splitlines()
    return line.removeprefix("lightactors: ")


# Show


def test_show_counts_what_there_is(run_db: Path) -> None:
    text = store("show", "run.db")
    assert text.startswith("run.db: 6 rollouts, ")
    table = [line.split() for line in text.split("\n\n")[1].splitlines()]
    assert table == [["queuing", "2"], ["succeeded", "3"], ["failed", "1"]]
    assert "8 attempts, 16 spans" in text
    assert "too few rollouts have ended to say how quickly they do" in text
    assert "worker  idle" in text


def test_show_tells_the_pace_of_a_few_more(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", succeeded=12)
    assert "the last 13 ends came " in store("show", tmp_path / "run.db")


def test_show_tells_why_rollouts_have_failed(run_db: Path) -> None:
    last = store("show", "run.db").splitlines()[-1]
    assert last.startswith("r3 ")
    assert last.endswith("failed  ValueError: no such")


def test_show_as_json_has_every_figure(run_db: Path) -> None:
    facts = json.loads(store("show", "run.db", "--json"))
    assert facts["statuses"]["succeeded"] == 3
    assert facts["counters"]["spans"] == 16
    assert [failure["rollout_id"] for failure in facts["failures"]] == ["r3"]
    assert facts["workers"][0]["worker_id"] == "worker"


def test_show_lists_the_newest_rollouts(run_db: Path) -> None:
    lines = store("show", "run.db", "--rollouts", "--status", "succeeded", "--status", "failed").splitlines()
    assert [line.split()[0] for line in lines] == ["rollout", "r3", "r2", "r1", "r0"]
    assert lines[2].split()[1:4] == ["train", "succeeded", "2"]
    assert lines[2].endswith(" 0.5")
    assert len(store("show", "run.db", "--rollouts", "--limit", "1").splitlines()) == 2
    assert len(json.loads(store("show", "run.db", "--rollouts", "--json"))) == 6


def test_show_lists_the_spans_of_a_rollout(run_db: Path) -> None:
    lines = store("show", "run.db", "--spans", "r0").splitlines()
    assert lines[0] == "r0, succeeded, 2 attempts"
    assert [line.split()[:3] for line in lines[2:]] == [
        ["1", "1", "began"],
        ["1", "2", "agentlightning.exception"],
        ["2", "1", "began"],
        ["2", "2", "reward"],
    ]
    assert "1.500 s" in lines[2]
    content = json.loads(store("show", "run.db", "--spans", "r0", "--json"))
    assert [span["name"] for span in content["spans"]][-1] == "reward"


def test_show_of_what_is_empty(tmp_path: Path) -> None:
    fill(tmp_path / "new.db", succeeded=0, failed=0, queued=0)
    text = store("show", tmp_path / "new.db")
    assert "0 rollouts" in text
    assert "too few rollouts have ended" in text
    assert store("show", tmp_path / "new.db", "--rollouts") == "there are no such rollouts\n"


def test_show_leaves_nothing_behind(run_db: Path) -> None:
    before = run_db.read_bytes()
    store("show", "run.db")
    store("export", "run.db", "o.jsonl")
    assert sorted(path.name for path in run_db.parent.iterdir()) == ["o.jsonl", "run.db"]
    assert run_db.read_bytes() == before


def test_show_while_the_store_is_in_use(tmp_path: Path) -> None:
    async def use() -> None:
        opened = open_store(str(tmp_path / "run.db"))
        assert isinstance(opened, DurableStore)
        try:
            await add_finished(opened, 2)
            text = await anyio.to_thread.run_sync(store, "show", tmp_path / "run.db")
            assert "2 rollouts" in text
            await opened.enqueue_rollout("more")
        finally:
            opened.close()

    anyio.run(use)


def test_show_and_export_in_a_folder_that_takes_no_writes(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "run.db")
        fill(path)
        path.chmod(0o444)
        Path(name).chmod(0o555)
        with nobody():
            assert "6 rollouts" in store("show", path)
            assert "Permission denied" in refusal(capsys, "export", path, Path(name, "o.jsonl"))
            assert "can't be written" in refusal(capsys, "prune", path, "--keep", "0", exit=Exit.FAILED)
            assert "can't be written; check its permissions" in refusal(capsys, "migrate", path, exit=Exit.FAILED)
        Path(name).chmod(0o755)


def test_what_is_no_store_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("text.db").write_text("no database at all, but more than a few bytes of text\n" * 20)
    with contextlib.closing(sqlite3.connect("other.db")) as other:
        other.execute("CREATE TABLE t (x)")
    Path("empty.db").touch()
    cases = {
        "nowhere.db": "there is no file nowhere.db; name the file that a program keeps its store in",
        "folder": "store='folder' is no address; for a file of that name write folder.db or ./folder",
        "./folder": "./folder is a folder; name the file that a program keeps its store in, such as folder/run.db",
        "redis://host": "there are no stores at redis://; give a file such as run.db",
        "sqlite:run.db": "the store's address lacks slashes behind sqlite:; give a file such as run.db, sqlite:///run.db",
        "text.db": "text.db is damaged or no SQLite database",
        "other.db": "other.db is a database of another program; name the file that",
    }
    cases["memory"] = "a store in memory is its program's alone"
    for given, told in cases.items():
        assert refusal(capsys, "show", given).startswith(told)
        assert refusal(capsys, "export", given, "o.jsonl").startswith(told)
        assert refusal(capsys, "prune", given, "--keep", "1").startswith(told)
    assert refusal(capsys, "migrate", "nowhere.db").startswith(cases["nowhere.db"])
    assert refusal(capsys, "show", "empty.db", exit=Exit.FAILED).startswith("empty.db holds no store yet")
    assert sorted(path.name for path in tmp_path.iterdir() if "-" not in path.name) == [
        "empty.db",
        "folder",
        "other.db",
        "text.db",
    ]


def test_what_show_can_not_mean(capsys: pytest.CaptureFixture[str], run_db: Path) -> None:
    assert refusal(capsys, "show", "run.db", "--spans", "x") == (
        "there is no rollout 'x' in run.db; --rollouts lists those there are"
    )
    assert "say --rollouts too" in refusal(capsys, "show", "run.db", "--status", "failed")
    assert "--status 'done' is none; choose from queuing" in refusal(
        capsys, "show", "run.db", "--rollouts", "--status", "done"
    )
    assert "two lists" in refusal(capsys, "show", "run.db", "--rollouts", "--spans", "r0")
    assert refusal(capsys, "show").startswith("missing argument 'STORE'; see 'lightactors store show --help'")
    assert refusal(capsys, "look", "run.db").endswith("(run.db); see 'lightactors store --help'")
    assert refusal(capsys, "look").startswith("store='look' is no address")
    assert refusal(capsys, "shwo", "run.db") == "there is no 'store shwo'; did you mean 'store show'?"


# Export


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_export_as_json_lines(run_db: Path) -> None:
    assert store("export", "run.db", "rollouts.jsonl").startswith("wrote 6 rollouts to rollouts.jsonl, ")
    first, *_, last = lines_of(Path("rollouts.jsonl"))
    assert (first["rollout_id"], first["input"], first["attempt"]["sequence_id"]) == ("r0", {"task": 0}, 2)
    assert (last["status"], last["attempt"]) == ("queuing", None)

    assert store("export", "run.db", "attempts.jsonl", "--what", "attempts").startswith("wrote 8 attempts")
    assert [one["status"] for one in lines_of(Path("attempts.jsonl"))][:2] == ["failed", "succeeded"]

    assert store("export", "run.db", "spans.jsonl", "--what", "spans").startswith("wrote 16 spans")
    assert [one["span_id"] for one in lines_of(Path("spans.jsonl"))][:4] == ["a", "b", "a", "c"]

    assert store("export", "run.db", "all.jsonl", "--what", "all").startswith("wrote 6 rollouts")
    assert [len(one["spans"]) for one in lines_of(Path("all.jsonl"))] == [4, 4, 4, 4, 0, 0]


@pytest.mark.parametrize(("what", "count"), [("rollouts", 6), ("attempts", 8), ("spans", 16), ("all", 6)])
def test_export_as_parquet(run_db: Path, what: str, count: int) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    store("export", "run.db", "o.parquet", "--what", what)
    table = parquet.read_table("o.parquet")
    assert table.num_rows == count
    first = table.to_pylist()[0]
    assert first["rollout_id"] == "r0"
    if what in ("rollouts", "all"):
        assert json.loads(first["input"]) == {"task": 0}


def test_export_overwrites_only_when_told_to(capsys: pytest.CaptureFixture[str], run_db: Path) -> None:
    Path("o.jsonl").write_text("mine")
    assert refusal(capsys, "export", "run.db", "o.jsonl") == (
        "o.jsonl is there already; choose another name, or overwrite it with --force"
    )
    assert Path("o.jsonl").read_text() == "mine"
    store("export", "run.db", "o.jsonl", "--force")
    assert len(lines_of(Path("o.jsonl"))) == 6


def test_export_to_what_can_not_be(capsys: pytest.CaptureFixture[str], run_db: Path) -> None:
    assert refusal(capsys, "export", "run.db", "o.csv") == (
        "o.csv says no format that is known; end its name in .jsonl or .parquet"
    )
    assert refusal(capsys, "export", "run.db", "there/o.jsonl").startswith("there is no folder ")
    Path("d.jsonl").mkdir()
    assert refusal(capsys, "export", "run.db", "d.jsonl").startswith("d.jsonl is a folder")
    assert refusal(capsys, "export", "run.db").startswith("missing argument 'FILE'")


def test_export_that_breaks_off_leaves_nothing(run_db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_records", broken)
    before = {path.name for path in run_db.parent.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        exporting.export("run.db", Path("o.jsonl"), "rollouts", force=False)
    assert {path.name for path in run_db.parent.iterdir()} <= before | {"run.db-wal", "run.db-shm"}


# Prune


def test_prune_by_number(run_db: Path) -> None:
    assert store("prune", "run.db", "--force", "--keep", "1", "--dry-run") == (
        "would remove 3 rollouts from run.db by age and number, and keep 3\n"
    )
    assert store("prune", "run.db", "--force", "--keep", "1").startswith("removed 3 rollouts from run.db, 3 are left; ")
    assert store("prune", "run.db", "--force", "--keep", "1").startswith("removed 0 rollouts from run.db, 3 are left; ")
    facts = json.loads(store("show", "run.db", "--json"))
    assert (facts["statuses"]["queuing"], facts["statuses"]["failed"], facts["statuses"]["succeeded"]) == (2, 1, 0)
    assert (facts["counters"]["spans"], facts["counters"]["attempts"], facts["counters"]["pruned"]) == (4, 2, 3)


def test_prune_by_age_and_size(run_db: Path) -> None:
    assert store("prune", "run.db", "--older-than", "7d").startswith("removed 0 rollouts")
    assert "takes" in store("prune", "run.db", "--max-size", "1KB", "--dry-run")
    assert store("prune", "run.db", "--force", "--max-size", "1KB").startswith(
        "removed 4 rollouts from run.db, 2 are left"
    )


def test_prune_leaves_what_has_just_ended(run_db: Path) -> None:
    young = "3 rollouts ended less than 10 minutes ago: --force takes them too\n"
    assert store("prune", "run.db", "--keep", "1", "--dry-run") == (
        f"would remove 0 rollouts from run.db by age and number, and keep 6; {young}"
    )
    told = store("prune", "run.db", "--keep", "1")
    assert told.startswith("removed 0 rollouts from run.db, 6 are left; ")
    assert told.endswith(young)


def test_what_prune_can_not_mean(capsys: pytest.CaptureFixture[str], run_db: Path) -> None:
    assert refusal(capsys, "prune", "run.db") == ("say what is to go: --older-than 7d, --keep 10000 or --max-size 5GB")
    assert "'7 days' is no time; give a number and one of s, min, h, d, w" in refusal(
        capsys, "prune", "run.db", "--older-than", "7 days"
    )
    assert "'lots' is no size" in refusal(capsys, "prune", "run.db", "--max-size", "lots")


# Migrate


def test_migrate_says_that_there_is_nothing_to_do(run_db: Path) -> None:
    assert store("migrate", "run.db") == "nothing to do: it has schema 1, which is this version's\n"


def test_migrate_makes_a_copy_first(
    capsys: pytest.CaptureFixture[str], run_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setattr(migrating, "STEPS", {1: ["CREATE TABLE added (x)"]})
    assert refusal(capsys, "show", "run.db") == (
        "run.db was written by an older lightactors (schema 1, this one has 2); run: lightactors store migrate run.db"
    )
    assert store("migrate", "run.db") == "migrated from schema 1 to 2; as it was, it is in run.db.schema1\n"
    assert "6 rollouts" in store("show", "run.db")
    monkeypatch.setattr(schema, "VERSION", 1)
    assert "6 rollouts" in store("show", "./run.db.schema1")
    assert "newer lightactors (schema 2, this one knows 1)" in refusal(capsys, "migrate", "run.db")


def test_migration_that_fails_changes_nothing(
    capsys: pytest.CaptureFixture[str], run_db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "VERSION", 2)
    monkeypatch.setattr(migrating, "STEPS", {1: ["CREATE TABLE added (x)", "nonsense"]})
    assert "can't be migrated now" in refusal(capsys, "migrate", "run.db", exit=Exit.FAILED)
    monkeypatch.setattr(schema, "VERSION", 1)
    assert "6 rollouts" in store("show", "run.db")
